//! A log as one file.
//!
//! ```text
//! "opdbcrsh" version:u32 blocks:u64 pages:u64 entries:u64
//! pages   × page (4096 bytes)                     number 1 on; 0 is all zeros
//! blocks  × number of a page:u32                  the base image
//! entries × 0 offset:u64 sectors:u32 pages × u32  a write
//!         | 1                                     a flush
//!         | 2 step:u32 | 3 step:u32               begin, acknowledged
//! CRC-32 of all before it:u32
//! ```
//!
//! Numbers are little-endian. Nothing is allocated for a number before the file
//! is known to be long enough for it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::content::{BLOCK, Page, PageId, Pool, SECTOR};
use crate::{Data, Entry, Image, Log, Mark};

const MAGIC: &[u8; 8] = b"opdbcrsh";
const VERSION: u32 = 1;

impl Log {
    /// Writes the log to one file.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut out = Sum::new(BufWriter::new(File::create(path)?));
        let pool = &self.base.pool;
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        for count in [self.base.table.len(), pool.pages.len(), self.entries.len()] {
            out.write_all(&(count as u64).to_le_bytes())?;
        }
        for page in &pool.pages {
            out.write_all(&page[..])?;
        }
        write_ids(&mut out, &self.base.table)?;
        for entry in &self.entries {
            write_entry(&mut out, entry)?;
        }
        let sum = out.sum.clone().finalize();
        out.inner.write_all(&sum.to_le_bytes())?;
        out.inner.flush()
    }

    /// Reads what [`Log::save`] wrote.
    pub fn load(path: &Path) -> io::Result<Self> {
        read(path).map_err(|error| {
            let message = format!("{}: no log: {error}; record it again", path.display());
            io::Error::new(error.kind(), message)
        })
    }
}

fn write_ids(out: &mut impl Write, ids: &[PageId]) -> io::Result<()> {
    ids.iter()
        .try_for_each(|id| out.write_all(&id.0.to_le_bytes()))
}

fn write_entry(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    match entry {
        Entry::Write { offset, data } => {
            out.write_all(&[0])?;
            out.write_all(&offset.to_le_bytes())?;
            let sectors = u32::try_from(data.sectors).map_err(io::Error::other)?;
            out.write_all(&sectors.to_le_bytes())?;
            write_ids(out, &data.pages)
        }
        Entry::Flush => out.write_all(&[1]),
        Entry::Mark(mark) => {
            let (kind, step) = match mark {
                Mark::Begin(step) => (2, step),
                Mark::Acknowledged(step) => (3, step),
            };
            out.write_all(&[kind])?;
            out.write_all(&step.to_le_bytes())
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn read(path: &Path) -> io::Result<Log> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut from = Sum::new(BufReader::new(file).take(length));
    if &bytes::<8>(&mut from)? != MAGIC {
        return Err(bad("it begins otherwise"));
    }
    let version = number(&mut from)?;
    if version != VERSION {
        return Err(bad(&format!("format {version} is not {VERSION}")));
    }
    // The least that one of them takes in the file bounds each count.
    let mut count = |size: u64| {
        let count = u64::from_le_bytes(bytes(&mut from)?);
        match count.checked_mul(size) {
            Some(total) if total <= length => usize::try_from(count).map_err(io::Error::other),
            _ => Err(bad("it is cut short")),
        }
    };
    let (blocks, pages, entries) = (count(4)?, count(BLOCK as u64)?, count(1)?);
    let mut pool = Pool::default();
    for _ in 0..pages {
        let page: Page = bytes(&mut from)?;
        pool.push(&page);
    }
    let limit = pool.end();
    let table = read_ids(&mut from, blocks, limit)?;
    let size = (blocks * BLOCK) as u64;
    let entries = (0..entries)
        .map(|_| read_entry(&mut from, size, limit))
        .collect::<io::Result<_>>()?;
    let sum = from.sum.clone().finalize();
    if number(&mut from)? != sum {
        return Err(bad("its checksum is wrong"));
    }
    if from.inner.limit() != 0 {
        return Err(bad("something follows it"));
    }
    let pool = Arc::new(pool);
    Ok(Log {
        base: Image { table, pool },
        entries,
    })
}

/// Numbers of pages, below the limit.
fn read_ids(from: &mut impl Read, count: usize, limit: usize) -> io::Result<Vec<PageId>> {
    (0..count)
        .map(|_| match number(from)? {
            id if (id as usize) < limit => Ok(PageId(id)),
            _ => Err(bad("a page is missing")),
        })
        .collect()
}

/// An entry of the log of a disk of this size, in bytes.
fn read_entry(from: &mut impl Read, size: u64, limit: usize) -> io::Result<Entry> {
    Ok(match bytes::<1>(from)?[0] {
        0 => {
            let offset = u64::from_le_bytes(bytes(from)?);
            let sectors = number(from)? as usize;
            let length = (sectors * SECTOR) as u64;
            let fits = offset % SECTOR as u64 == 0
                && offset.checked_add(length).is_some_and(|end| end <= size);
            if !fits {
                return Err(bad("a write is not on the disk"));
            }
            let within = usize::try_from(offset % BLOCK as u64).unwrap_or_default();
            let pages = read_ids(from, (within + sectors * SECTOR).div_ceil(BLOCK), limit)?;
            Entry::Write {
                offset,
                data: Data { pages, sectors },
            }
        }
        1 => Entry::Flush,
        2 => Entry::Mark(Mark::Begin(number(from)?)),
        3 => Entry::Mark(Mark::Acknowledged(number(from)?)),
        kind => return Err(bad(&format!("entry of kind {kind}"))),
    })
}

fn bytes<const LENGTH: usize>(from: &mut impl Read) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn number(from: &mut impl Read) -> io::Result<u32> {
    Ok(u32::from_le_bytes(bytes(from)?))
}

/// Sums up what passes.
struct Sum<I> {
    inner: I,
    sum: crc32fast::Hasher,
}

impl<I> Sum<I> {
    fn new(inner: I) -> Self {
        Self {
            inner,
            sum: crc32fast::Hasher::new(),
        }
    }
}

impl<I: Read> Read for Sum<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.sum.update(&buffer[..length]);
        Ok(length)
    }
}

impl<I: Write> Write for Sum<I> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(buffer)?;
        self.sum.update(&buffer[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
