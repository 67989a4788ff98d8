//! Writing the log, under the store's lock.
//!
//! The order of writes, so that a crash between any two leaves a log that goes on:
//!
//! 1. a segment at its limit is renamed, and the directory synced;
//! 2. the lines are written and synced, and a new file's name with them;
//! 3. segments that a line of step 2 states to be removed are deleted;
//! 4. the caller commits the record that points to the last line.
//!
//! Only segments of lines that the record knew of before are removed: what it
//! points to is always kept.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use op_dbus_bootstate::audit::{
    self, AuditHead, Event, Kind, OPEN, Place, Rotation, Segment, Stamp, Verifier,
};
use rustix::fs::{CWD, OFlags, RenameFlags};

use super::read::{State, follow};
use super::{ASIDE, AuditLog, Writing, now, sync_directory};

/// Logs that may be set aside before the oldest place is used no more.
const ASIDE_MAX: u32 = 1000;

/// Where the log goes on.
struct End {
    /// The chain's head.
    head: AuditHead,
    /// Bytes of whole lines in the open segment.
    bytes: u64,
    /// What has to be said first.
    notice: Option<Event>,
}

impl AuditLog {
    /// Appends events after what the record knows, durably, and returns the new
    /// head. On an error the log tells what it told before.
    pub(crate) fn append(
        &self,
        known: AuditHead,
        events: &[Event],
        writing: &Writing<'_>,
    ) -> io::Result<AuditHead> {
        let mut end = self.find_end(known)?;
        if end.bytes >= writing.limits.bytes && self.close(&end).is_ok() {
            end.bytes = 0;
        }
        let mut first: Vec<Event> = end.notice.into_iter().collect();
        let mut outdated = Vec::new();
        if end.bytes == 0 && end.head.length > 0 {
            outdated = self.outdated(known, writing.limits.keep)?;
            let removed = match outdated.last() {
                Some(segment) => Some(self.last_place(segment)?),
                None => None,
            };
            first.extend(begin(end.head, removed, writing));
        }
        let time = now();
        let stamp = Stamp {
            actor: &writing.author.actor,
            time: &time,
            boot: writing.author.boot,
            up_ms: writing.author.up_ms,
        };
        let mut head = end.head;
        let mut text = String::new();
        for event in first.iter().chain(events) {
            let (line, next) = audit::append(head, event.clone(), &stamp)?;
            text.push_str(&line);
            text.push('\n');
            head = next;
        }
        self.write(end.bytes, text.as_bytes())?;
        self.remove(&outdated);
        Ok(AuditHead {
            missed: known.missed,
            ..head
        })
    }

    /// Deletes closed segments. What stays is in nobody's way: the next segment
    /// that begins states it again.
    fn remove(&self, outdated: &[Segment]) {
        for segment in outdated {
            let _ = fs::remove_file(self.path_of(segment));
        }
        if !outdated.is_empty() {
            let _ = sync_directory(&self.directory);
        }
    }

    /// Where the log ends, where that is not as the record says, for one that has
    /// to be made up from what is left.
    pub(crate) fn end_after(&self, known: AuditHead) -> io::Result<Option<AuditHead>> {
        let first = match self.closed()?.first() {
            Some(segment) => Some(segment.first),
            None => self.first_number()?,
        };
        if first.is_none_or(|first| first <= known.length.saturating_add(1)) {
            return Ok(None);
        }
        let (open, _) = Self::last_line(&self.path())?;
        let last = match (open, self.closed()?.last()) {
            (None, Some(segment)) => Self::last_line(&self.path_of(segment))?.0,
            (open, _) => open,
        };
        Ok(last.map(|head| AuditHead {
            missed: known.missed,
            ..head
        }))
    }

    /// Where to continue, and an event about it if that is not where the record says.
    fn find_end(&self, known: AuditHead) -> io::Result<End> {
        if let Some(bytes) = self.ends_as_known(known)? {
            return Ok(End {
                head: known,
                bytes,
                notice: None,
            });
        }
        // Lines the record does not know of yet, or a torn one; or somebody else's
        // work. What is before the record's line is `audit verify`'s to read.
        let mut pieces = self.open()?;
        pieces.retain(|(segment, _)| segment.is_none_or(|segment| segment.last >= known.length));
        match follow(Verifier::of_part(Some(known)), pieces, |_, _| ())? {
            State::Sound { head, end } => Ok(End {
                head,
                bytes: end,
                notice: None,
            }),
            State::Broken(why) => {
                let aside = self.put_aside()?;
                let place = aside.map_or_else(String::new, |path| {
                    format!("; set aside as {}", path.display())
                });
                let detail =
                    format!("the audit log before this line does not verify: {why}{place}");
                Ok(End {
                    head: AuditHead::default(),
                    bytes: 0,
                    notice: Some(Event::general(Kind::Repaired, detail)),
                })
            }
        }
    }

    /// The short way: the last line is the one the record points to. Returns the
    /// open segment's length then.
    fn ends_as_known(&self, known: AuditHead) -> io::Result<Option<u64>> {
        let matches = |found: Option<AuditHead>| {
            found.is_some_and(|found| found.length == known.length && found.head == known.head)
        };
        let (last, length) = Self::last_line(&self.path())?;
        if length > 0 {
            return Ok(matches(last).then_some(length));
        }
        // A crash came between closing a segment and beginning the next.
        let is_end = match self.closed()?.last() {
            Some(segment) => matches(Self::last_line(&self.path_of(segment))?.0),
            None => known.length == 0,
        };
        Ok(is_end.then_some(0))
    }

    /// Closes the open segment: gives it the name of its lines.
    fn close(&self, end: &End) -> io::Result<()> {
        let first = self.first_number()?.ok_or(io::ErrorKind::InvalidData)?;
        let segment = Segment {
            first,
            last: end.head.length,
        };
        let file = File::options().write(true).open(self.path())?;
        if file.metadata()?.len() > end.bytes {
            // Half a line, which has no place in a closed segment.
            file.set_len(end.bytes)?;
            file.sync_all()?;
        }
        let path = self.path_of(&segment);
        rustix::fs::renameat_with(CWD, self.path(), CWD, path, RenameFlags::NOREPLACE)?;
        sync_directory(&self.directory)
    }

    /// Closed segments that are kept no longer, the oldest first. Never one with
    /// lines that the record does not know of yet.
    fn outdated(&self, known: AuditHead, keep: usize) -> io::Result<Vec<Segment>> {
        let mut closed = self.closed()?;
        closed.truncate(closed.len().saturating_sub(keep));
        closed.retain(|segment| segment.last <= known.length);
        Ok(closed)
    }

    /// A segment's last line.
    fn last_place(&self, segment: &Segment) -> io::Result<Place> {
        let (last, _) = Self::last_line(&self.path_of(segment))?;
        let last = last.filter(|last| last.length == segment.last);
        last.map(|last| Place {
            n: last.length,
            sha256: last.head,
        })
        .ok_or_else(|| io::Error::other(format!("{segment} does not end with its last line")))
    }

    fn put_aside(&self) -> io::Result<Option<PathBuf>> {
        let names = self.names()?;
        let is_free = |number: &u32| {
            let aside = format!("{ASIDE}{number}");
            let part = format!("{aside}.");
            !names
                .iter()
                .any(|name| *name == aside || name.starts_with(&part))
        };
        let number = (1..=ASIDE_MAX)
            .find(is_free)
            .ok_or_else(|| io::Error::other("too many logs were set aside; move them elsewhere"))?;
        let mut aside = None;
        let closed = self.closed()?.into_iter();
        let closed = closed.map(|segment| {
            let Segment { first, last } = segment;
            (
                segment.to_string(),
                format!("{ASIDE}{number}.{first}-{last}"),
            )
        });
        let open = (OPEN.to_owned(), format!("{ASIDE}{number}"));
        for (name, to) in closed.chain([open]) {
            let to = self.directory.join(to);
            match fs::rename(self.directory.join(name), &to) {
                Ok(()) => aside = Some(to),
                Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                Err(why) => return Err(why),
            }
        }
        if aside.is_some() {
            sync_directory(&self.directory)?;
        }
        Ok(aside)
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

/// What a segment that is not the first begins with: where it goes on from, what
/// is kept no longer, and what has proved itself.
fn begin(before: AuditHead, removed: Option<Place>, writing: &Writing<'_>) -> Vec<Event> {
    let mut detail = format!("goes on after line {}", before.length);
    if let Some(removed) = removed {
        // Writing to a text can't fail.
        let _ = write!(detail, "; the lines up to {} are removed", removed.n);
    }
    let rotated = Event {
        rotation: Some(Rotation {
            closed: Some(Place {
                n: before.length,
                sha256: before.head,
            }),
            removed,
        }),
        ..Event::general(Kind::Rotated, detail)
    };
    let proved = writing.proved.iter();
    let proved = proved.map(|one| Event::about(Kind::Rotated, one, "had proved itself"));
    std::iter::once(rotated).chain(proved).collect()
}
