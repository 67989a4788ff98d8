//! The audit log's files: `audit/log.jsonl` in the store, and the segments before it.
//!
//! The chain itself is [`op_dbus_bootstate::audit`]; here it meets a disk. A
//! writer appends and syncs before the record that points to its lines is
//! committed. So after a crash the log may be ahead of the record, by whole
//! lines, which stay, and by one torn line, which was acknowledged to nobody and
//! is cut off. A log that does not continue what the record knows is evidence:
//! it is set aside untouched, and a new log begins by saying so.
//!
//! A log that has grown to its limit is closed by a rename, and goes on in a new
//! file ([`append`]). A crash in between leaves no open file, which is the same as
//! an empty one.

mod append;
mod read;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::audit::{OPEN, Segment};
use op_dbus_bootstate::{BootId, Deployment};

pub(crate) use read::{State, read_file, whole_lines};

use crate::settings::audit::Audit;

/// Begin of the names of logs that were set aside.
const ASIDE: &str = "log.set-aside.";
/// Begin of the names of logs that came with a backup.
const KEPT: &str = "restored-";

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

/// When a segment is closed, and how many closed ones stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes from which on the open segment is closed.
    pub(crate) bytes: u64,
    /// Closed segments that are kept.
    pub(crate) keep: usize,
}

/// What a writer knows besides the events.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    /// Who writes.
    pub(crate) author: &'a Author,
    /// How much is kept.
    pub(crate) limits: Limits,
    /// Versions that have proved themselves, the oldest first. A new segment
    /// names them: the lines that told so may be removed one day, and they are
    /// what a lost record is rebuilt from.
    pub(crate) proved: Vec<&'a Deployment>,
}

impl<'a> Writing<'a> {
    /// With nothing to name and limits as by default.
    pub(crate) fn new(author: &'a Author) -> Self {
        Self {
            author,
            limits: Audit::default().limits(),
            proved: Vec::new(),
        }
    }
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

    /// The file that is being written.
    pub(crate) fn path(&self) -> PathBuf {
        self.file.clone()
    }

    /// Whether there is anything of it.
    pub(crate) fn exists(&self) -> bool {
        self.file.exists() || self.closed().is_ok_and(|closed| !closed.is_empty())
    }

    /// Logs that were set aside because they did not verify.
    pub(crate) fn set_aside(&self) -> io::Result<Vec<PathBuf>> {
        let names = self.names()?.into_iter();
        let aside = names.filter(|name| name.starts_with(ASIDE));
        let mut found: Vec<_> = aside.map(|name| self.directory.join(name)).collect();
        found.sort();
        Ok(found)
    }

    /// Closed segments, the oldest first.
    fn closed(&self) -> io::Result<Vec<Segment>> {
        let names = self.names()?;
        let mut found: Vec<_> = names
            .iter()
            .filter_map(|name| Segment::parse(name))
            .collect();
        found.sort();
        Ok(found)
    }

    fn path_of(&self, segment: &Segment) -> PathBuf {
        self.directory.join(segment.to_string())
    }

    /// Names in the directory; none if it is not there.
    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(why) => return Err(why),
        };
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        entries.map(name).collect()
    }
}

/// Whether a file of `audit/` is part of a log, and not what a program keeps
/// beside it for itself.
pub(crate) fn is_log(name: &str) -> bool {
    is_current(name) || name.starts_with(ASIDE) || name.starts_with(KEPT)
}

/// Whether a file of `audit/` is part of the log that is being written.
pub(crate) fn is_current(name: &str) -> bool {
    name == OPEN || Segment::parse(name).is_some()
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
    // All segments of the log in one.
    if is_current(name) {
        return Some(format!("{KEPT}{short}.jsonl"));
    }
    let aside = name.strip_prefix("log.")?;
    name.starts_with(ASIDE)
        .then(|| format!("{KEPT}{short}.{aside}"))
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

#[cfg(test)]
mod tests;
