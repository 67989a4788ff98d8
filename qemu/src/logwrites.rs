//! Reads the write log that QEMU's `blklogwrites` keeps, and rebuilds the disk
//! a power cut would leave.
//!
//! The format is that of the kernel's dm-log-writes target
//! (Documentation/admin-guide/device-mapper/log-writes.rst): one sector with the
//! superblock (magic, version, number of entries, sector size), then for each
//! entry one sector with its header (sector, count, flags, length) followed by
//! the `count` sectors it wrote; a discard has none, and only a mark, a note in
//! the log, uses `length`. All numbers are little-endian; sector numbers count
//! the log's sectors.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Context, Error, Result};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// One logged request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes it covers.
    pub length: u64,
    /// The data; `None` for a discard and for a bare flush.
    pub data: Option<Vec<u8>>,
    /// Everything logged before it is on the medium when it is done.
    pub flush: bool,
    /// Its own data is on the medium when it is done.
    pub fua: bool,
}

/// What was kept and lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Requests applied.
    pub kept: usize,
    /// Requests that no flush had made durable.
    pub lost: usize,
}

/// Reads all complete entries of the log at `path`. QEMU is killed while it
/// writes: entries beyond the last flush may be missing or torn, those end the
/// list without an error.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let mut log = BufReader::new(File::open(path).at("open the write log", path)?);
    let bad = |reason: &str| Error::Host(format!("write log {}: {reason}", path.display()));
    let mut head = [0; 28];
    match log.read_exact(&mut head) {
        Ok(()) => {}
        // Nothing was ever written.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Vec::new()),
        Err(error) => return Err(error).at("read", path),
    }
    let magic = number(&head, 0);
    if magic == 0 {
        return Ok(Vec::new());
    }
    if magic != MAGIC || number(&head, 1) != VERSION {
        return Err(bad("neither magic nor version 1 of a write log"));
    }
    let sector = u64::from(number32(&head, 24));
    if !sector.is_power_of_two() || !(512..=65536).contains(&sector) {
        return Err(bad("an impossible sector size"));
    }
    skip(&mut log, sector - 28).at("read", path)?;
    let mut entries = Vec::new();
    while let Some(entry) = next(&mut log, sector).at("read", path)? {
        entries.push(entry);
    }
    Ok(entries)
}

/// Applies to `disk` (a copy of what the disk held when the log began) all that
/// is durable: everything up to the last flush, and later writes with FUA.
pub fn replay_durable(entries: &[Entry], disk: &Path) -> Result<Replayed> {
    let file = OpenOptions::new().write(true).open(disk).at("open", disk)?;
    let flushed = entries
        .iter()
        .rposition(|entry| entry.flush)
        .map_or(0, |at| at + 1);
    let mut replayed = Replayed::default();
    for (at, entry) in entries.iter().enumerate() {
        // The flush of a request comes before its own data.
        let durable = at + 1 < flushed || entry.fua || (at + 1 == flushed && entry.data.is_none());
        if !durable {
            replayed.lost += 1;
            continue;
        }
        if let Some(data) = &entry.data {
            file.write_all_at(data, entry.offset).at("write", disk)?;
        }
        replayed.kept += 1;
    }
    file.sync_all().at("sync", disk)?;
    Ok(replayed)
}

fn next(log: &mut impl Read, sector: u64) -> std::io::Result<Option<Entry>> {
    let mut head = [0; 32];
    if !fill(log, &mut head)? {
        return Ok(None);
    }
    let [first, count, flags, length] = [0, 1, 2, 3].map(|at| number(&head, at));
    // Beyond the last entry the file is sparse: a request of nothing.
    if count == 0 && flags == 0 {
        return Ok(None);
    }
    if skip(log, sector - 32).is_err() {
        return Ok(None);
    }
    let bytes = count.saturating_mul(sector);
    let mut data = None;
    if flags & MARK != 0 {
        if skip(log, length.next_multiple_of(sector)).is_err() {
            return Ok(None);
        }
    } else if bytes > 0 && flags & DISCARD == 0 {
        // Read as far as the file goes: a torn count must not be believed.
        let mut written = Vec::new();
        log.by_ref().take(bytes).read_to_end(&mut written)?;
        if u64::try_from(written.len()) != Ok(bytes) {
            return Ok(None);
        }
        data = Some(written);
    }
    Ok(Some(Entry {
        offset: first.saturating_mul(sector),
        length: bytes,
        data,
        flush: flags & FLUSH != 0,
        fua: flags & FUA != 0,
    }))
}

fn fill(from: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<bool> {
    match from.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn skip(from: &mut impl Read, bytes: u64) -> std::io::Result<()> {
    let skipped = std::io::copy(&mut from.take(bytes), &mut std::io::sink())?;
    if skipped == bytes {
        Ok(())
    } else {
        Err(ErrorKind::UnexpectedEof.into())
    }
}

/// The `index`-th 64-bit number; 0 beyond the end.
fn number(bytes: &[u8], index: usize) -> u64 {
    let at = index * 8;
    bytes
        .get(at..at + 8)
        .and_then(|part| part.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|part| part.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Log(Vec<u8>);

    impl Log {
        fn new(sector: u32) -> Self {
            let mut bytes = Vec::new();
            for number in [MAGIC, VERSION, 0] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(sector.to_le_bytes());
            bytes.resize(sector as usize, 0);
            Self(bytes)
        }

        fn entry(mut self, first: u64, flags: u64, data: &[u8]) -> Self {
            let start = self.0.len();
            let length = data.len() as u64;
            for number in [first, length / 512, flags, 0] {
                self.0.extend(number.to_le_bytes());
            }
            self.0.resize(start + 512, 0);
            self.0.extend(data);
            self
        }

        fn write(&self, dir: &Path) -> std::path::PathBuf {
            let path = dir.join("log");
            std::fs::write(&path, &self.0).unwrap();
            path
        }
    }

    fn replay(log: &Log) -> (Vec<u8>, Replayed) {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        std::fs::write(&disk, [0; 2048]).unwrap();
        let replayed = replay_durable(&read(&log.write(dir.path())).unwrap(), &disk).unwrap();
        (std::fs::read(disk).unwrap(), replayed)
    }

    #[test]
    fn what_no_flush_followed_is_lost() {
        let log = Log::new(512)
            .entry(0, 0, &[1; 512])
            .entry(0, FLUSH, &[])
            .entry(1, 0, &[2; 512]);
        let (disk, replayed) = replay(&log);
        assert_eq!((disk[0], disk[512]), (1, 0));
        assert_eq!(replayed, Replayed { kept: 2, lost: 1 });
    }

    #[test]
    fn a_fua_write_is_durable_by_itself_and_flushes_nothing() {
        let log = Log::new(512)
            .entry(0, 0, &[1; 512])
            .entry(1, FUA, &[2; 512]);
        let (disk, _) = replay(&log);
        assert_eq!((disk[0], disk[512]), (0, 2));
    }

    #[test]
    fn a_flush_with_data_makes_durable_what_came_before_it() {
        let log = Log::new(512)
            .entry(0, 0, &[1; 512])
            .entry(1, FLUSH, &[2; 512]);
        let (disk, _) = replay(&log);
        assert_eq!((disk[0], disk[512]), (1, 0));
    }

    #[test]
    fn a_torn_or_sparse_end_ends_the_log() {
        let mut log = Log::new(512)
            .entry(0, 0, &[1; 512])
            .entry(0, FLUSH, &[])
            .entry(1, 0, &[2; 512]);
        log.0.truncate(log.0.len() - 100);
        assert_eq!(replay(&log).1, Replayed { kept: 2, lost: 0 });
        log.0.truncate(512 * 4);
        log.0.resize(512 * 9, 0);
        assert_eq!(replay(&log).1, Replayed { kept: 2, lost: 0 });
    }

    #[test]
    fn discards_and_marks_write_nothing() {
        let mut log = Log::new(512).entry(0, 0, &[1; 512]);
        for (count, flags, length) in [(4_u64, DISCARD, 0), (0, MARK, 512_u16)] {
            let start = log.0.len();
            for number in [0, count, flags, u64::from(length)] {
                log.0.extend(number.to_le_bytes());
            }
            log.0.resize(start + 512 + usize::from(length), 0);
        }
        let (disk, replayed) = replay(&log.entry(1, 0, &[2; 512]).entry(0, FLUSH, &[]));
        assert_eq!((disk[0], disk[512]), (1, 2));
        assert_eq!(replayed, Replayed { kept: 5, lost: 0 });
    }

    #[test]
    fn an_empty_log_changes_nothing_and_garbage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, [0; 4096]).unwrap();
        assert_eq!(read(&path).unwrap(), []);
        std::fs::write(&path, [7; 4096]).unwrap();
        assert!(read(&path).is_err());
        std::fs::write(&path, Log::new(513).0).unwrap();
        assert!(read(&path).is_err());
    }
}
