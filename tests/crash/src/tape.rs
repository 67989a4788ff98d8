//! What reaches a disk, as it is written down.

use std::sync::Arc;

use crate::content::{self, BLOCK, Known, Page, PageId, Pool, SECTOR, WHOLE, mix};
use crate::log::{Data, whole};
use crate::{Entry, Image, Log, Mark};

/// A disk that keeps all that was ever written to it.
#[derive(Debug, Default)]
pub struct Tape {
    /// Of the base image, and of what was written.
    pool: Pool,
    known: Known,
    base: Vec<PageId>,
    now: Vec<PageId>,
    entries: Vec<Entry>,
}

impl Tape {
    /// A disk with this content.
    pub fn new(base: Image) -> Self {
        let pool = Arc::unwrap_or_clone(base.pool);
        Self {
            known: Known::of(&pool),
            pool,
            now: base.table.clone(),
            base: base.table,
            entries: Vec::new(),
        }
    }

    /// What happened.
    pub fn into_log(self) -> Log {
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

    /// Size of the disk in bytes.
    pub fn size(&self) -> u64 {
        (self.base.len() * BLOCK) as u64
    }

    /// Reads what the disk holds now. Behind its end are zeros.
    pub fn read(&self, offset: u64, to: &mut [u8]) {
        content::read(&self.now, |id| self.pool.page(id), offset, to);
    }

    /// Writes whole sectors.
    ///
    /// # Panics
    ///
    /// If it is something else, or the disk is too small.
    pub fn write(&mut self, offset: u64, from: &[u8]) {
        let sector = SECTOR as u64;
        let end = offset.saturating_add(from.len() as u64);
        assert!(
            offset % sector == 0 && end % sector == 0 && end <= self.size(),
            "a write of {} bytes at {offset} is not of whole sectors of the disk",
            from.len(),
        );
        let data = self.intern(offset, from);
        for (block, id, sectors) in whole(offset, &data) {
            let now = &mut self.now[block];
            *now = if sectors == WHOLE {
                id
            } else {
                let page = mix(self.pool.page(*now), self.pool.page(id), sectors);
                self.known.intern(&mut self.pool, &page)
            };
        }
        self.entries.push(Entry::Write { offset, data });
    }

    /// What was written is durable now.
    pub fn flush(&mut self) {
        self.entries.push(Entry::Flush);
    }

    /// Notes where the story stands.
    pub fn mark(&mut self, mark: Mark) {
        self.entries.push(Entry::Mark(mark));
    }
}
