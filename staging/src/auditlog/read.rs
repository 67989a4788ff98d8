//! Reading the log, all segments of it, without the store's lock.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use op_dbus_bootstate::BootId;
use op_dbus_bootstate::audit::{
    AuditError, AuditHead, Kind, LINE_MAX, Line, Segment, Verifier, hash_line,
};

use super::AuditLog;

/// How often the files are opened anew because a writer was at work.
const ATTEMPTS: u32 = 16;
/// Files that are read where not all are.
const NEWEST: usize = 2;
/// Bytes read at once.
const BUFFER: usize = 64 * 1024;

/// What reading the log came to.
#[derive(Debug)]
pub(crate) enum State {
    /// It continues what the record knows: its head, and where the last whole
    /// line of the open segment ends.
    Sound {
        /// The chain's head.
        head: AuditHead,
        /// Bytes of whole lines in the open segment.
        end: u64,
    },
    /// It does not, and where.
    Broken(AuditError),
}

/// One file of the log, opened; the closed ones by their names.
pub(super) type Piece = (Option<Segment>, File);

impl AuditLog {
    /// Reads and verifies the whole log against what the record knows, handing
    /// each line to `each`. A torn last line is left out.
    pub(crate) fn read(
        &self,
        anchor: Option<AuditHead>,
        mut each: impl FnMut(&Line),
    ) -> io::Result<State> {
        self.read_heads(anchor, |line, _| each(line))
    }

    /// Likewise, with the head after each line.
    pub(crate) fn read_heads(
        &self,
        anchor: Option<AuditHead>,
        each: impl FnMut(&Line, &AuditHead),
    ) -> io::Result<State> {
        follow(Verifier::new(anchor), self.open()?, each)
    }

    /// Reads and verifies the newest files, for who can't wait for a long log, and
    /// whether that was all of it. Where what the record knows is not in them,
    /// all are read.
    pub(crate) fn read_newest(&self, anchor: Option<AuditHead>) -> io::Result<(State, bool)> {
        let mut pieces = self.open()?;
        let before = pieces.len().saturating_sub(NEWEST);
        if before > 0 {
            let newest = pieces.split_off(before);
            let state = follow(Verifier::of_part(anchor), newest, |_, _| ())?;
            if matches!(state, State::Sound { .. }) {
                return Ok((state, false));
            }
            pieces = self.open()?;
        }
        let state = follow(Verifier::new(anchor), pieces, |_, _| ())?;
        Ok((state, true))
    }

    /// Hands every line that can be read to `each`, verified or not: for a
    /// record that has to be rebuilt, a log in doubt is better than nothing.
    pub(crate) fn salvage(&self, mut each: impl FnMut(&Line)) -> io::Result<()> {
        for (_, file) in self.open()? {
            whole_lines(file, |line| {
                if let Ok(line) = serde_json::from_slice(line) {
                    each(&line);
                }
            })?;
        }
        Ok(())
    }

    /// What was refused in one boot, by the open segment alone.
    pub(crate) fn refusals(&self, boot: Option<BootId>) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        if let Some(file) = if_any(File::open(self.path()))? {
            whole_lines(file, |line| {
                let line = serde_json::from_slice::<Line>(line).ok();
                let refused = line.filter(|line| line.event == Kind::Refused && line.boot == boot);
                found.extend(refused.map(|line| line.detail));
            })?;
        }
        Ok(found)
    }

    /// Opens all files of the log at one moment. A segment that is closed or
    /// removed meanwhile must neither be missing nor be there twice.
    pub(crate) fn open(&self) -> io::Result<Vec<Piece>> {
        for _ in 0..ATTEMPTS {
            let open = if_any(File::open(self.path()))?;
            let closed = self.closed()?;
            let mut pieces: Vec<Piece> = Vec::new();
            for segment in &closed {
                let file = if_any(File::open(self.path_of(segment)))?;
                pieces.extend(file.map(|file| (Some(*segment), file)));
            }
            if pieces.len() != closed.len() || self.closed()? != closed {
                continue;
            }
            // It may have been closed after it was opened.
            if let Some(open) = open {
                let of = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
                let last = pieces.last().map(|(_, file)| of(file)).transpose()?;
                if last != Some(of(&open)?) {
                    pieces.push((None, open));
                }
            }
            return Ok(pieces);
        }
        Err(io::Error::other("it changes faster than it can be read"))
    }

    /// The last line of a file, by number and hash; none if it does not end with
    /// one. Also the file's length.
    pub(super) fn last_line(path: &Path) -> io::Result<(Option<AuditHead>, u64)> {
        let Some(file) = if_any(File::open(path))? else {
            return Ok((None, 0));
        };
        let length = file.metadata()?.len();
        let start = length.saturating_sub(LINE_MAX as u64 + 2);
        let mut tail = vec![0; usize::try_from(length - start).unwrap_or(LINE_MAX)];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut tail, start)?;
        let Some(tail) = tail.strip_suffix(b"\n") else {
            return Ok((None, length));
        };
        let last = tail
            .rsplit(|&byte| byte == b'\n')
            .next()
            .unwrap_or_default();
        let line = serde_json::from_slice::<Line>(last).ok();
        let head = line.map(|line| AuditHead {
            length: line.n,
            head: hash_line(last),
            missed: 0,
        });
        Ok((head, length))
    }

    /// Number of the open segment's first line.
    pub(super) fn first_number(&self) -> io::Result<Option<u64>> {
        let Some(file) = if_any(File::open(self.path()))? else {
            return Ok(None);
        };
        let mut lines = Lines::new(file);
        let line = lines.next()?.map(serde_json::from_slice::<Line>);
        Ok(line.and_then(Result::ok).map(|line| line.n))
    }
}

/// Reads and verifies a whole log that is one file.
pub(crate) fn read_file(
    file: File,
    anchor: Option<AuditHead>,
    each: impl FnMut(&Line, &AuditHead),
) -> io::Result<State> {
    follow(Verifier::new(anchor), vec![(None, file)], each)
}

/// Follows the chain through files in their order.
pub(super) fn follow(
    mut verifier: Verifier,
    pieces: Vec<Piece>,
    mut each: impl FnMut(&Line, &AuditHead),
) -> io::Result<State> {
    let mut end = 0;
    for (segment, file) in pieces {
        match follow_one(&mut verifier, segment, file, &mut each)? {
            Ok(_) if segment.is_some() => {}
            Ok(whole) => end = whole,
            Err(why) => return Ok(State::Broken(why)),
        }
    }
    Ok(match verifier.end() {
        Ok(head) => State::Sound { head, end },
        Err(why) => State::Broken(why),
    })
}

/// Follows it through one. Returns the bytes of whole lines.
fn follow_one(
    verifier: &mut Verifier,
    segment: Option<Segment>,
    file: File,
    each: &mut impl FnMut(&Line, &AuditHead),
) -> io::Result<Result<u64, AuditError>> {
    if let Some(Err(why)) = segment.map(|segment| verifier.begin(&segment)) {
        return Ok(Err(why));
    }
    let length = file.metadata()?.len();
    let mut end = 0;
    let mut lines = Lines::new(file);
    while let Some(line) = lines.next()? {
        match verifier.line(line) {
            Ok(line) => each(&line, &verifier.at()),
            Err(why) => return Ok(Err(why)),
        }
        end = lines.offset;
    }
    Ok(match segment {
        // Only the open segment can have a line that is torn.
        Some(_) if end < length => Err(AuditError::Malformed(
            verifier.at().length.saturating_add(1),
        )),
        Some(segment) => verifier.end_of(&segment).map(|()| end),
        None => Ok(end),
    })
}

/// Hands every whole line of a log, without its newline, to `each`, and reads to
/// the end.
pub(crate) fn whole_lines(log: impl Read, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut lines = Lines::new(log);
    while let Some(line) = lines.next()? {
        each(line);
    }
    Ok(())
}

fn if_any<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

/// Whole lines of bounded length.
struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    offset: u64,
}

impl<R: Read> Lines<R> {
    fn new(log: R) -> Self {
        Self {
            reader: BufReader::with_capacity(BUFFER, log),
            line: Vec::new(),
            offset: 0,
        }
    }

    /// The next whole line without its newline. One that is too long is given
    /// cut, and so fails to verify.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let count = (&mut self.reader)
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
