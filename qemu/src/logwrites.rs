//! Reads the write log that QEMU's `blklogwrites` keeps. What of it a power cut
//! leaves is for [`powercut`](crate::powercut).
//!
//! The format is that of the kernel's dm-log-writes target
//! (Documentation/admin-guide/device-mapper/log-writes.rst): one sector with the
//! superblock (magic, version, number of entries, sector size), then for each
//! entry one sector with its header (sector, count, flags, length) followed by
//! the `count` sectors it wrote; a discard has none, and only a mark, a note in
//! the log, uses `length`. All numbers are little-endian; sector numbers count
//! the log's sectors.

use std::fs::File;
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

/// Sector size of the logs that this program has QEMU write.
const FOLLOWED_SECTOR: u64 = 512;

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

/// Counts the requests of a log while QEMU still writes it.
#[derive(Debug)]
pub struct Follower {
    log: File,
    cursor: u64,
    flushes: Vec<bool>,
}

impl Follower {
    /// Follows the log at `path`, made with sectors of 512 bytes, from its start.
    pub fn new(path: &Path) -> Result<Self> {
        Ok(Self {
            log: File::open(path).at("open the write log", path)?,
            cursor: FOLLOWED_SECTOR,
            flushes: Vec::new(),
        })
    }

    /// Requests logged by now, one after the other: one that another has
    /// overtaken in the log is counted first.
    pub fn count(&mut self) -> usize {
        let mut head = [0; 32];
        // At the end of the log is nothing yet.
        while self.log.read_exact_at(&mut head, self.cursor).is_ok() {
            let [count, flags] = [1, 2].map(|at| number(&head, at));
            if count == 0 && flags == 0 {
                break;
            }
            let data = if flags & DISCARD == 0 { count } else { 0 };
            self.cursor += data.saturating_add(1).saturating_mul(FOLLOWED_SECTOR);
            self.flushes.push(flags & FLUSH != 0);
        }
        self.flushes.len()
    }

    /// Whether the request of this number, from 1, was a flush.
    pub fn is_flush(&self, number: usize) -> bool {
        let at = number.checked_sub(1);
        at.and_then(|at| self.flushes.get(at))
            .copied()
            .unwrap_or(false)
    }
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

    fn entries(log: &Log) -> Vec<Entry> {
        let dir = tempfile::tempdir().unwrap();
        read(&log.write(dir.path())).unwrap()
    }

    #[test]
    fn requests_are_read_with_what_they_ask_for() {
        let log = Log::new(512)
            .entry(3, 0, &[1; 1024])
            .entry(0, FLUSH, &[])
            .entry(1, FUA, &[2; 512]);
        let found = entries(&log);
        assert_eq!((found[0].offset, found[0].length), (1536, 1024));
        assert_eq!(found[0].data.as_deref().unwrap(), [1; 1024]);
        assert!(found[1].flush && found[1].data.is_none());
        assert!(found[2].fua && !found[2].flush);
    }

    #[test]
    fn a_log_is_followed_as_it_grows() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::new(512).entry(0, 0, &[1; 1024]);
        log.0.resize(1 << 20, 0);
        let path = log.write(dir.path());
        let mut follower = Follower::new(&path).unwrap();
        assert_eq!((follower.count(), follower.count()), (1, 1));
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let more = Log(Vec::new()).entry(0, FLUSH, &[]).entry(9, 0, &[3; 512]);
        file.write_all_at(&more.0, 512 * 4).unwrap();
        assert_eq!(follower.count(), 3);
        let flushes = [0, 1, 2, 3, 4].map(|number| follower.is_flush(number));
        assert_eq!(flushes, [false, false, true, false, false]);
        assert_eq!(read(&path).unwrap().len(), 3);
    }

    #[test]
    fn a_torn_or_sparse_end_ends_the_log() {
        let mut log = Log::new(512)
            .entry(0, 0, &[1; 512])
            .entry(0, FLUSH, &[])
            .entry(1, 0, &[2; 512]);
        log.0.truncate(log.0.len() - 100);
        assert_eq!(entries(&log).len(), 2);
        log.0.truncate(512 * 4);
        log.0.resize(512 * 9, 0);
        assert_eq!(entries(&log).len(), 2);
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
        let found = entries(&log.entry(1, 0, &[2; 512]).entry(0, FLUSH, &[]));
        let with_data = found.iter().filter(|entry| entry.data.is_some()).count();
        assert_eq!((found.len(), with_data), (5, 2));
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
