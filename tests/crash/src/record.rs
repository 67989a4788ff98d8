//! A disk that writes down what reaches it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::content::{self, BLOCK, Known, Page, PageId, Pool, SECTOR, WHOLE, mix};
use crate::disk::{Access, Disk};
use crate::log::{Data, whole};
use crate::server::Medium;
use crate::{Entry, Image, Log, Mark};

/// A block device that logs. Dropping it ends the device.
///
/// Unmount before [`Recorder::finish`]: what is still in the page cache is in
/// no log.
#[derive(Debug)]
pub struct Recorder {
    disk: Disk<Tape>,
}

impl Recorder {
    /// A device with this content. Needs root.
    pub fn new(base: Image) -> io::Result<Self> {
        let disk = Disk::new(Tape::new(base), "op-dbus-crash recorder", Access::Direct)?;
        Ok(Self { disk })
    }

    /// The block device, to be mounted.
    pub fn node(&self) -> &Path {
        self.disk.node()
    }

    /// Notes where the story stands: after all that reached the disk so far.
    pub fn mark(&self, mark: Mark) {
        self.disk.medium().entries.push(Entry::Mark(mark));
    }

    /// Ends the device and returns what was logged. Fails while it is mounted.
    pub fn finish(mut self) -> io::Result<Log> {
        self.disk.close()?;
        Ok(std::mem::take(&mut *self.disk.medium()).into_log())
    }
}

/// The medium of a recorder.
#[derive(Debug, Default)]
struct Tape {
    /// Of the base image, and of what was written.
    pool: Pool,
    known: Known,
    base: Vec<PageId>,
    now: Vec<PageId>,
    entries: Vec<Entry>,
}

impl Tape {
    fn new(base: Image) -> Self {
        let pool = Arc::unwrap_or_clone(base.pool);
        Self {
            known: Known::of(&pool),
            pool,
            now: base.table.clone(),
            base: base.table,
            entries: Vec::new(),
        }
    }

    fn into_log(self) -> Log {
        Log {
            base: Image {
                table: self.base,
                pool: Arc::new(self.pool),
            },
            entries: self.entries,
        }
    }

    /// The data as pages, with zeros around it where it covers no whole block.
    fn intern(&mut self, offset: u64, mut from: &[u8]) -> Data {
        let sectors = from.len() / SECTOR;
        let mut within = usize::try_from(offset % BLOCK as u64).unwrap_or_default();
        let mut pages = Vec::new();
        while !from.is_empty() {
            let (piece, rest) = from.split_at(from.len().min(BLOCK - within));
            let mut page: Page = [0; BLOCK];
            page[within..within + piece.len()].copy_from_slice(piece);
            pages.push(self.known.intern(&mut self.pool, &page));
            from = rest;
            within = 0;
        }
        Data { pages, sectors }
    }
}

impl Medium for Tape {
    fn size(&self) -> u64 {
        (self.base.len() * BLOCK) as u64
    }

    fn read(&mut self, offset: u64, to: &mut [u8]) {
        content::read(&self.now, |id| self.pool.page(id), offset, to);
    }

    fn write(&mut self, offset: u64, from: &[u8]) {
        let data = self.intern(offset, from);
        for (block, id, sectors) in whole(offset, &data) {
            let Some(now) = self.now.get_mut(block) else {
                continue;
            };
            *now = match sectors {
                WHOLE => id,
                _ => {
                    let page = mix(self.pool.page(*now), self.pool.page(id), sectors);
                    self.known.intern(&mut self.pool, &page)
                }
            };
        }
        self.entries.push(Entry::Write { offset, data });
    }

    fn flush(&mut self) {
        self.entries.push(Entry::Flush);
    }
}
