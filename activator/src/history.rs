//! What the store still tells when every copy of the boot record is lost: the
//! audit log says which versions proved themselves, the receipts how to
//! recognise them, and the ioctl whether they are intact.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use op_dbus_bootstate::audit::{self, AuditHead, Line, Segment};
use op_dbus_bootstate::rebuild::History;
use op_dbus_bootstate::receipt::{self, Receipt};
use op_dbus_bootstate::{Deployment, Digest, Record, Version};

use crate::files;
use crate::identity::{self, Check};
use crate::layout::{Layout, RECEIPT_SUFFIX};

/// How much of the log's end is read, in bytes.
const TAIL: u64 = 16 * 1024 * 1024;
/// Receipts looked at; a store keeps far fewer versions.
const MAX_RECEIPTS: usize = 4096;

/// A record from the audit log, the receipts and the store's subvolumes. `None`:
/// no version that proved itself is left intact.
pub fn rebuild(layout: &Layout) -> Option<Record> {
    let (history, head) = match read_log(&layout.audit_dir()) {
        Ok(found) => found,
        Err(why) => {
            log::warn!("{}: read: {why}", layout.audit_dir().display());
            return None;
        }
    };
    let known = receipts(layout);
    let record = history.rebuild(|digest| intact(layout, &known, digest))?;
    Some(Record {
        audit: head,
        ..record
    })
}

fn intact(layout: &Layout, known: &[Deployment], digest: &Digest) -> Option<Deployment> {
    let deployment = known.iter().find(|known| known.digest == *digest)?;
    let path = layout.deployment(&deployment.version);
    match identity::check(&path, &deployment.identity) {
        Check::Intact => Some(deployment.clone()),
        _ => None,
    }
}

/// The receipt of one version. `None`: there is none, or none that is usable.
pub fn receipt(layout: &Layout, version: &Version) -> Option<Deployment> {
    let deployment = read_receipt(&layout.receipt(version))?;
    (deployment.version == *version).then_some(deployment)
}

fn read_receipt(path: &Path) -> Option<Deployment> {
    let bytes = files::read_bounded(path, receipt::MAX_LEN).ok()?;
    Receipt::parse(&bytes)
        .ok()
        .map(|receipt| receipt.deployment)
}

fn receipts(layout: &Layout) -> Vec<Deployment> {
    let Ok(entries) = fs::read_dir(layout.manifests_dir()) else {
        return Vec::new();
    };
    entries
        .take(MAX_RECEIPTS)
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.strip_suffix(RECEIPT_SUFFIX)?;
            let deployment = read_receipt(&path)?;
            // A receipt is that of the version its name says, or of none.
            (deployment.version.as_str() == name).then_some(deployment)
        })
        .collect()
}

/// Reads the end of the log: its segments in their order, then the open file.
fn read_log(dir: &Path) -> io::Result<(History, AuditHead)> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        segments.extend(name.to_str().and_then(Segment::parse));
    }
    segments.sort_unstable();
    let names = segments.iter().map(Segment::to_string);
    let names = names.chain([audit::OPEN.to_owned()]);
    let files: Vec<_> = names
        .filter_map(|name| {
            let file = File::open(dir.join(name)).ok()?;
            let length = file.metadata().ok()?.len();
            Some((file, length))
        })
        .collect();
    let total = files.iter().map(|(_, length)| length).sum::<u64>();
    let mut left_out = total.saturating_sub(TAIL);
    let mut found = Default::default();
    for (mut file, length) in files {
        let start = left_out.min(length);
        left_out -= start;
        file.seek(SeekFrom::Start(start))?;
        read_lines(file.take(length - start), &mut found)?;
    }
    Ok(found)
}

/// Reads one file of it, line by line. Lines that are none are passed over: a
/// doubtful log is better than no version at all.
fn read_lines(file: impl io::Read, found: &mut (History, AuditHead)) -> io::Result<()> {
    let mut lines = BufReader::new(file);
    let (history, head) = found;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        // A line that is too long is taken in pieces, none of which is an entry.
        let mut piece = lines.by_ref().take(LINE_LIMIT);
        if piece.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(());
        }
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if let Ok(line) = serde_json::from_slice::<Line>(text) {
            history.line(&line);
            *head = AuditHead {
                length: line.n,
                head: audit::hash_line(text),
                missed: 0,
            };
        }
    }
}

/// [`audit::LINE_MAX`] and the newline.
const LINE_LIMIT: u64 = 8192 + 1;
const _: () = assert!(audit::LINE_MAX == 8192);

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::audit::{Event, Kind, Stamp};

    fn log(path: &Path, events: &[(Kind, u8)]) -> AuditHead {
        let mut head = AuditHead::default();
        let mut text = String::new();
        for &(kind, digest) in events {
            let event = Event {
                digest: Some(Digest([digest; 32])),
                ..Event::general(kind, "")
            };
            let (line, next) = audit::append(head, event, &Stamp::default()).unwrap();
            text.push_str(&line);
            text.push('\n');
            head = next;
        }
        fs::write(path, text).unwrap();
        head
    }

    #[test]
    fn the_log_is_read_to_its_last_whole_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let written = log(
            &path,
            &[(Kind::Blessed, 1), (Kind::Blessed, 2), (Kind::Condemned, 2)],
        );
        let mut text = fs::read(&path).unwrap();
        text.extend(b"{\"n\":4,\"torn");
        fs::write(&path, &text).unwrap();
        let (history, head) = read_log(dir.path()).unwrap();
        assert_eq!(head, written);
        assert_eq!(history.candidates().collect::<Vec<_>>(), [Digest([1; 32])]);
    }

    #[test]
    fn segments_are_read_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(audit::OPEN);
        let written = log(
            &path,
            &[(Kind::Blessed, 1), (Kind::Blessed, 2), (Kind::Rotated, 1)],
        );
        let text = fs::read_to_string(&path).unwrap();
        for (index, line) in text.lines().enumerate() {
            let n = index as u64 + 1;
            let name = Segment { first: n, last: n }.to_string();
            fs::write(dir.path().join(name), format!("{line}\n")).unwrap();
        }
        // As after a crash between closing a segment and beginning the next.
        fs::remove_file(&path).unwrap();
        let (history, head) = read_log(dir.path()).unwrap();
        assert_eq!(head, written);
        let candidates: Vec<_> = history.candidates().collect();
        assert_eq!(candidates, [Digest([1; 32]), Digest([2; 32])]);
    }

    #[test]
    fn rubbish_is_passed_over_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let written = log(&path, &[(Kind::Blessed, 1)]);
        let mut text = vec![b'x'; 100_000];
        text.push(b'\n');
        text.extend(fs::read(&path).unwrap());
        text.extend(vec![0xff; 30_000]);
        fs::write(&path, &text).unwrap();
        let (history, head) = read_log(dir.path()).unwrap();
        assert_eq!(head, written);
        assert_eq!(history.candidates().count(), 1);
    }
}
