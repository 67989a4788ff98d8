//! The audit log's file: `audit/log.jsonl` in the store.
//!
//! The chain itself is [`op_dbus_bootstate::audit`]; here it meets a disk. A
//! writer appends and syncs before the record that points to its lines is
//! committed. So after a crash the file may be ahead of the record, by whole
//! lines, which stay, and by one torn line, which was acknowledged to nobody and
//! is cut off. A file that does not continue what the record knows is evidence:
//! it is set aside untouched, and a new log begins by saying so.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::BootId;
use op_dbus_bootstate::audit::{
    self, AuditError, AuditHead, Event, Kind, LINE_MAX, Line, Stamp, Verifier,
};
use rustix::fs::OFlags;

/// Begin of the names of logs that were set aside.
const ASIDE: &str = "log.set-aside.";
/// Begin of the names of logs that came with a backup.
const KEPT: &str = "restored-";
/// Logs that may be set aside before the oldest place is used no more.
const ASIDE_MAX: u32 = 1000;

/// Who writes, when, in which boot.
#[derive(Debug, Clone)]
pub(crate) struct Author {
    /// Program and user.
    pub(crate) actor: String,
    /// The kernel's id of this boot, where it is known.
    pub(crate) boot: Option<BootId>,
    /// Milliseconds since it began.
    pub(crate) up_ms: Option<u64>,
}

/// What reading the log came to.
#[derive(Debug)]
pub(crate) enum State {
    /// It continues what the record knows: its head, and where its last whole line ends.
    Sound {
        /// The chain's head.
        head: AuditHead,
        /// Bytes of whole lines.
        end: u64,
    },
    /// It does not, and where.
    Broken(AuditError),
}

/// The log of one store.
#[derive(Debug, Clone)]
pub(crate) struct AuditLog {
    directory: PathBuf,
    file: PathBuf,
}

impl AuditLog {
    /// The log of a store.
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            directory: layout.audit_dir(),
            file: layout.audit_log(),
        }
    }

    /// Its file.
    pub(crate) fn path(&self) -> PathBuf {
        self.file.clone()
    }

    /// Reads and verifies the whole log against what the record knows, handing
    /// each line to `each`. A torn last line is left out.
    pub(crate) fn read(
        &self,
        anchor: Option<AuditHead>,
        mut each: impl FnMut(&Line),
    ) -> io::Result<State> {
        let mut verifier = Verifier::new(anchor);
        let mut end = 0;
        let mut lines = Lines::open(&self.path())?;
        while let Some(line) = lines.next()? {
            match verifier.line(line) {
                Ok(line) => each(&line),
                Err(why) => return Ok(State::Broken(why)),
            }
            end = lines.offset;
        }
        Ok(match verifier.end() {
            Ok(head) => State::Sound { head, end },
            Err(why) => State::Broken(why),
        })
    }

    /// Hands every line that can be read to `each`, verified or not: for a
    /// record that has to be rebuilt, a log in doubt is better than nothing.
    pub(crate) fn salvage(&self, mut each: impl FnMut(&Line)) -> io::Result<()> {
        let mut lines = Lines::open(&self.path())?;
        while let Some(line) = lines.next()? {
            if let Ok(line) = serde_json::from_slice(line) {
                each(&line);
            }
        }
        Ok(())
    }

    /// Logs that were set aside because they did not verify.
    pub(crate) fn set_aside(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(ASIDE) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Appends events after what the record knows, durably, and returns the new
    /// head. On an error the log is as it was before.
    pub(crate) fn append(
        &self,
        known: AuditHead,
        events: &[Event],
        author: &Author,
    ) -> io::Result<AuditHead> {
        let (mut head, end, notice) = self.find_end(known)?;
        let time = now();
        let stamp = Stamp {
            actor: &author.actor,
            time: &time,
            boot: author.boot,
            up_ms: author.up_ms,
        };
        let mut text = String::new();
        for event in notice.iter().chain(events) {
            let (line, next) = audit::append(head, event.clone(), &stamp)?;
            text.push_str(&line);
            text.push('\n');
            head = next;
        }
        self.write(end, text.as_bytes())?;
        Ok(AuditHead {
            missed: known.missed,
            ..head
        })
    }

    /// Where to continue, and an event about it if that is not where the record says.
    fn find_end(&self, known: AuditHead) -> io::Result<(AuditHead, u64, Option<Event>)> {
        if let Some(end) = self.ends_as_known(known)? {
            return Ok((known, end, None));
        }
        match self.read(Some(known), |_| ())? {
            State::Sound { head, end } => Ok((head, end, None)),
            State::Broken(why) => {
                let aside = self.put_aside()?;
                let place = aside.map_or_else(String::new, |path| {
                    format!("; set aside as {}", path.display())
                });
                let detail =
                    format!("the audit log before this line does not verify: {why}{place}");
                Ok((
                    AuditHead::default(),
                    0,
                    Some(Event::general(Kind::Repaired, detail)),
                ))
            }
        }
    }

    /// The short way: the last line is the one the record points to. Returns the
    /// file's length then. The lines before it are `audit verify`'s to read.
    fn ends_as_known(&self, known: AuditHead) -> io::Result<Option<u64>> {
        let file = match File::open(self.path()) {
            Ok(file) => file,
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                return Ok((known.length == 0).then_some(0));
            }
            Err(why) => return Err(why),
        };
        let length = file.metadata()?.len();
        let start = length.saturating_sub(LINE_MAX as u64 + 2);
        let mut tail = vec![0; usize::try_from(length - start).unwrap_or(LINE_MAX)];
        file.read_exact_at(&mut tail, start)?;
        let Some(tail) = tail.strip_suffix(b"\n") else {
            return Ok((length == 0 && known.length == 0).then_some(0));
        };
        let last = tail
            .rsplit(|&byte| byte == b'\n')
            .next()
            .unwrap_or_default();
        let number = serde_json::from_slice::<Line>(last).map(|line| line.n);
        let matches =
            number.is_ok_and(|n| n == known.length) && audit::hash_line(last) == known.head;
        Ok(matches.then_some(length))
    }

    fn put_aside(&self) -> io::Result<Option<PathBuf>> {
        for number in 1..=ASIDE_MAX {
            let path = self.directory.join(format!("{ASIDE}{number}"));
            if path.try_exists()? {
                continue;
            }
            return match fs::rename(self.path(), &path) {
                Ok(()) => {
                    sync_directory(&self.directory)?;
                    Ok(Some(path))
                }
                Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(why) => Err(why),
            };
        }
        Err(io::Error::other(
            "too many logs were set aside; move them elsewhere",
        ))
    }

    /// Writes at the end of the last whole line, and takes everything back if
    /// that fails half-way.
    fn write(&self, end: u64, bytes: &[u8]) -> io::Result<()> {
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?);
        let mut file = options.open(self.path())?;
        file.set_len(end)?;
        let attempt = |file: &mut File| {
            file.seek(SeekFrom::Start(end))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        if let Err(why) = attempt(&mut file) {
            // What stays behind if this fails too is a torn line, or lines the
            // record does not know; both are dealt with by the next writer.
            let _ = file.set_len(end).and_then(|()| file.sync_all());
            return Err(why);
        }
        if end == 0 {
            sync_directory(&self.directory)?;
        }
        Ok(())
    }
}

/// Whether a name in `audit/` is that of a log that came with a backup.
pub(crate) fn is_kept(name: &str) -> bool {
    let digest = name.strip_prefix(KEPT);
    let digest = digest.and_then(|name| name.strip_suffix(".jsonl"));
    digest.is_some_and(|digest| {
        digest.len() == 12 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// The name under which a file of `audit/` in a backup is kept; none if it is
/// none of ours. `digest` is that of the backup.
pub(crate) fn kept_name(name: &str, digest: &str) -> Option<String> {
    let short = digest.get(..12)?;
    // From a backup before this one.
    if name.starts_with(KEPT) {
        return Some(name.to_owned());
    }
    match name.strip_prefix("log.")? {
        "jsonl" => Some(format!("{KEPT}{short}.jsonl")),
        aside if name.starts_with(ASIDE) => Some(format!("{KEPT}{short}.{aside}")),
        _ => None,
    }
}

/// Makes names created or changed in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The clock, RFC 3339 in UTC.
pub(crate) fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// Hands every whole line of a log, without its newline, to `each`, and reads to
/// the end.
pub(crate) fn whole_lines(log: impl io::Read, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut lines = Lines {
        reader: Some(BufReader::new(log)),
        line: Vec::new(),
        offset: 0,
    };
    while let Some(line) = lines.next()? {
        each(line);
    }
    Ok(())
}

/// Whole lines of bounded length.
struct Lines<R> {
    reader: Option<BufReader<R>>,
    line: Vec<u8>,
    offset: u64,
}

impl Lines<File> {
    /// A log that does not exist has no lines.
    fn open(path: &Path) -> io::Result<Self> {
        let reader = match File::open(path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => None,
            Err(why) => return Err(why),
        };
        Ok(Self {
            reader,
            line: Vec::new(),
            offset: 0,
        })
    }
}

impl<R: io::Read> Lines<R> {
    /// The next whole line without its newline. One that is too long is given
    /// cut, and so fails to verify.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        use io::Read as _;
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        self.line.clear();
        let count = reader
            .take(LINE_MAX as u64 + 2)
            .read_until(b'\n', &mut self.line)?;
        self.offset = self.offset.saturating_add(count as u64);
        match self.line.strip_suffix(b"\n") {
            Some(line) => Ok(Some(line)),
            None if count > LINE_MAX => Ok(Some(&self.line)),
            None => Ok(None),
        }
    }
}
