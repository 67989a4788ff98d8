//! What reached the disk, in the order it arrived.

use crate::Image;
use crate::content::{BLOCK, PageId, SECTOR, SECTORS, WHOLE};

/// Where a story stands, by the number of its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The step's command is about to start.
    Begin(u32),
    /// The step's command ended and reported success.
    Acknowledged(u32),
}

/// The content of a write: whole sectors. The bytes are in the log's pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Of the blocks it touches, zeros around what was not written.
    pub(crate) pages: Vec<PageId>,
    /// Its length.
    pub(crate) sectors: usize,
}

impl Data {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.sectors * SECTOR
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.sectors == 0
    }
}

/// One thing that reached the disk, or a mark between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Data for this offset in bytes, a multiple of [`SECTOR`].
    Write {
        /// In bytes from the start of the disk.
        offset: u64,
        /// The content.
        data: Data,
    },
    /// Whatever was written before this is on the medium now.
    Flush,
    /// Where the story stands.
    Mark(Mark),
}

/// A block that a write touches: its number, the page with the new content, and
/// the sectors of it that are written, as bits.
pub(crate) type Piece = (usize, PageId, u8);

/// What a write at this offset does to each block; `keeps` says which of the
/// write's sectors, counted from its first, reach the medium.
pub(crate) fn pieces<'data>(
    offset: u64,
    data: &'data Data,
    keeps: impl Fn(usize) -> bool + 'data,
) -> impl Iterator<Item = Piece> + 'data {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let skipped = offset % BLOCK / SECTOR;
    (offset / BLOCK..)
        .zip(&data.pages)
        .enumerate()
        .map(move |(index, (block, page))| {
            let mut mask = 0;
            for bit in 0..SECTORS {
                // Sectors of the block before the write's first wrap around to
                // numbers that are too high.
                let sector = (index * SECTORS + bit).wrapping_sub(skipped);
                if sector < data.sectors && keeps(sector) {
                    mask |= 1 << bit;
                }
            }
            (block, *page, mask)
        })
}

/// Likewise, where all of it reaches the medium.
pub(crate) fn whole(offset: u64, data: &Data) -> impl Iterator<Item = Piece> + '_ {
    let aligned = offset % BLOCK as u64 == 0 && data.sectors == data.pages.len() * SECTORS;
    pieces(offset, data, move |_| true)
        .map(move |(block, page, mask)| (block, page, if aligned { WHOLE } else { mask }))
}

/// What the programs had said at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// The last step that was acknowledged.
    pub acknowledged: Option<u32>,
    /// The step that had begun, and was not acknowledged.
    pub in_flight: Option<u32>,
}

impl Within {
    pub(crate) fn after(self, mark: Mark) -> Self {
        match mark {
            Mark::Begin(step) => Self {
                in_flight: Some(step),
                ..self
            },
            Mark::Acknowledged(step) => Self {
                acknowledged: Some(step),
                in_flight: None,
            },
        }
    }
}

/// A recording: what the disk held before, and all that came then.
#[derive(Clone, Debug)]
pub struct Log {
    /// The disk before the first entry. Its pages are those of the entries, too.
    pub(crate) base: Image,
    /// In the order of their arrival.
    pub entries: Vec<Entry>,
}

impl Log {
    /// The disk before the first entry.
    pub fn base(&self) -> &Image {
        &self.base
    }

    /// What had begun and what was acknowledged when the first `position`
    /// entries had happened.
    pub fn step_at(&self, position: usize) -> Within {
        let entries = self.entries.iter().take(position);
        entries.fold(Within::default(), |within, entry| match entry {
            Entry::Mark(mark) => within.after(*mark),
            Entry::Write { .. } | Entry::Flush => within,
        })
    }

    /// The bytes of a write of this log.
    pub fn bytes(&self, offset: u64, data: &Data) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(data.len());
        for (_, page, mask) in whole(offset, data) {
            let page = self.base.pool.page(page);
            for (bit, sector) in page.chunks(SECTOR).enumerate() {
                if mask & 1 << bit != 0 {
                    bytes.extend_from_slice(sector);
                }
            }
        }
        bytes
    }
}
