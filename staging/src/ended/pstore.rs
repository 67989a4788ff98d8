//! The last words of kernels that panicked, where firmware or memory keeps them.
//!
//! The kernel shows them in /sys/fs/pstore as `dmesg-<backend>-<id>`, a file a
//! part. A part begins with a line like `Panic#1 Part2`; part 1 is the end of the
//! log, and higher parts come before it. systemd-pstore moves the files below
//! /var/lib/systemd/pstore, in directories whose names depend on backend and
//! systemd's version (252: the id but for its last six digits; later: the id and
//! a count), or, as those of ramoops, into none. What it joins to `dmesg.txt` is
//! left aside: which parts that holds depends on the version too.
//!
//! A record does not say of which boot it is, and its time is a clock's claim.
//! So a panic is one of the boots since the last report if that did not see it;
//! in the archive it must also have got there in this boot, because of a device
//! whose mark was lost.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use op_dbus_activator::files;
use op_dbus_bootstate::audit;

/// Where the kernel shows them, below the host's root.
pub(crate) const LIVE: &str = "/sys/fs/pstore";
/// Where systemd-pstore keeps them.
pub(crate) const ARCHIVE: &str = "/var/lib/systemd/pstore";
/// Which backend keeps them, if any.
const BACKEND: &str = "/sys/module/pstore/parameters/backend";

/// Files that are looked at, and of those the newest that are read.
const ENTRIES_MAX: usize = 4096;
const FILES_MAX: usize = 256;
/// Longest part that is read, in bytes. Firmware has parts of some KiB, memory
/// what it was configured with.
const PART_MAX: usize = 256 * 1024;
/// Directories below the archive.
const DEPTH_MAX: usize = 3;
/// Longest message that is passed on, in characters.
const MESSAGE_MAX: usize = 200;
/// What the kernel says when it panics (kernel/panic.c).
const WORDS: &str = "Kernel panic - not syncing: ";
/// How far a file in the archive may be from this boot's begin, in seconds: the
/// two are read from clocks of different grain.
const SLACK: i64 = 5;

/// A kernel that panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Panicked {
    /// Tells it from others: the begin of its text's SHA-256.
    pub(crate) id: String,
    /// What it panicked of, one line; may be empty.
    pub(crate) message: String,
    /// All that is there of its log.
    pub(crate) text: String,
    /// Whether the boots since the last report may have left it.
    pub(crate) is_recent: bool,
}

/// One part, as it was found.
#[derive(Debug, Clone)]
struct Part {
    /// Where: parts of one panic are together.
    place: PathBuf,
    /// The name but for the id.
    backend: String,
    id: u64,
    /// The record's own time, where it has one: seconds and nanoseconds.
    time: (i64, i64),
    is_recent: bool,
    /// Of its first line: the kind and number of the event, and which part.
    event: String,
    number: u32,
    text: String,
}

/// Whether this machine would keep the words of a kernel that panics.
pub(crate) fn keeps_panics(host: impl Fn(&str) -> PathBuf) -> bool {
    let backend = files::read_text(&host(BACKEND), 256).unwrap_or_default();
    !matches!(backend.trim(), "" | "(null)")
}

/// All panics in sight, the oldest first. `began` is when this boot did, in
/// seconds by the clock.
pub(crate) fn panics(host: impl Fn(&str) -> PathBuf, began: i64) -> Vec<Panicked> {
    let mut found = Vec::new();
    let mut left = ENTRIES_MAX;
    list(&host(LIVE), 0, &mut left, &mut |path, meta| {
        found.push((path, meta, true));
    });
    let since = began.saturating_sub(SLACK);
    list(
        &host(ARCHIVE),
        DEPTH_MAX,
        &mut left,
        &mut |path, meta: Metadata| {
            let is_recent = meta.ctime() >= since;
            found.push((path, meta, is_recent));
        },
    );
    found.sort_by_key(|(_, meta, _)| std::cmp::Reverse((meta.mtime(), meta.mtime_nsec())));
    found.truncate(FILES_MAX);
    let parts = found
        .into_iter()
        .filter_map(|(path, meta, is_recent)| read(&path, &meta, is_recent));
    join(parts.collect())
}

/// Regular files whose name says that they are of a kernel's log.
fn list(dir: &Path, depth: usize, left: &mut usize, each: &mut impl FnMut(PathBuf, Metadata)) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left = left.saturating_sub(1);
        // Not through links.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            if let Some(depth) = depth.checked_sub(1) {
                list(&entry.path(), depth, left, each);
            }
        } else if meta.is_file() && name(&entry.file_name()).is_some() {
            each(entry.path(), meta);
        }
    }
}

/// `dmesg-<backend>-<id>`: what comes before the id, and the id. One that the
/// kernel could not decompress (`.enc.z`) is of no use.
fn name(name: &OsStr) -> Option<(String, u64)> {
    let (backend, id) = name.to_str()?.rsplit_once('-')?;
    backend.strip_prefix("dmesg-")?;
    Some((backend.to_owned(), id.parse().ok()?))
}

fn read(path: &Path, meta: &Metadata, is_recent: bool) -> Option<Part> {
    let (backend, id) = name(path.file_name()?)?;
    let bytes = files::read_bounded(path, PART_MAX).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let (event, number, text) = match text.split_once('\n').and_then(|(first, rest)| {
        let (event, number) = header(first)?;
        Some((event, number, rest))
    }) {
        Some((event, number, rest)) => (event, number, rest.to_owned()),
        // Whatever it is, it is a part by itself.
        None => (String::new(), 1, text.into_owned()),
    };
    Some(Part {
        place: path.parent()?.to_owned(),
        backend,
        id,
        time: (meta.mtime(), meta.mtime_nsec()),
        is_recent,
        event,
        number,
        text,
    })
}

/// `Panic#1 Part2`
fn header(line: &str) -> Option<(String, u32)> {
    let (event, part) = line.trim_end().split_once(" Part")?;
    event.split_once('#')?.1.parse::<u32>().ok()?;
    Some((event.to_owned(), part.parse().ok()?))
}

/// Puts parts together, and leaves out what is no panic.
fn join(mut parts: Vec<Part>) -> Vec<Panicked> {
    // Ids grow with time and part: EFI's are made of both, ERST counts on.
    parts.sort_by(|a, b| {
        let key = |part: &Part| {
            let Part { place, backend, .. } = part;
            (place.clone(), backend.clone(), part.event.clone(), part.id)
        };
        key(a).cmp(&key(b))
    });
    let mut groups: Vec<Vec<Part>> = Vec::new();
    for part in parts {
        let follows = |last: &Part| {
            last.place == part.place
                && last.backend == part.backend
                && last.event == part.event
                && last.number < part.number
        };
        match groups.last_mut() {
            Some(group) if group.last().is_some_and(follows) => group.push(part),
            _ => groups.push(vec![part]),
        }
    }
    let time = |group: &[Part]| group.iter().map(|part| (part.time, part.id)).max();
    groups.sort_by_key(|group| time(group));
    let mut known = BTreeSet::new();
    let panics = groups.iter().filter_map(|group| panicked(group));
    // Where the archive took a copy and the original stayed, it is one all the same.
    panics
        .filter(|panicked| known.insert(panicked.id.clone()))
        .collect()
}

fn panicked(parts: &[Part]) -> Option<Panicked> {
    let text: String = parts.iter().rev().map(|part| part.text.as_str()).collect();
    let event = &parts.first()?.event;
    let said = text.rfind(WORDS).and_then(|at| text.get(at..));
    if !event.starts_with("Panic#") && said.is_none() {
        return None;
    }
    let message = said
        .and_then(|said| said.strip_prefix(WORDS))
        .and_then(|said| said.lines().next())
        .unwrap_or_default();
    let mut id = audit::hash_line(text.as_bytes()).to_string();
    id.truncate(16);
    Some(Panicked {
        id,
        message: message
            .chars()
            .filter(|c| !c.is_control())
            .take(MESSAGE_MAX)
            .collect::<String>()
            .trim()
            .to_owned(),
        is_recent: parts.iter().any(|part| part.is_recent),
        text,
    })
}

#[cfg(test)]
mod tests;
