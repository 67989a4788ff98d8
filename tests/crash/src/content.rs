//! Pages of content and the tables that say which block of a disk holds which.
//!
//! A page is stored once and named by a number, so a disk is a table of numbers:
//! copying one and comparing two takes microseconds.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Image;

/// Content is kept, compared and shared in pieces of this many bytes.
pub const BLOCK: usize = 4096;
/// The unit that reaches a medium whole or not at all.
pub const SECTOR: usize = 512;
/// Sectors of a block. One bit each makes a mask of one byte.
pub(crate) const SECTORS: usize = BLOCK / SECTOR;
/// All sectors of a block.
pub(crate) const WHOLE: u8 = u8::MAX;

pub(crate) type Page = [u8; BLOCK];

static ZEROS: Page = [0; BLOCK];

/// Names a page of a [`Pool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PageId(pub(crate) u32);

impl PageId {
    /// The page of zeros, which is in every pool.
    pub(crate) const ZERO: Self = Self(0);
}

/// Pages that no longer change. Number 0 is all zeros and is not stored.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pool {
    pub(crate) pages: Vec<Box<Page>>,
}

impl Pool {
    /// Numbers from this on are not of this pool.
    pub(crate) fn end(&self) -> usize {
        self.pages.len() + 1
    }

    pub(crate) fn page(&self, id: PageId) -> &Page {
        match (id.0 as usize).checked_sub(1) {
            None => &ZEROS,
            Some(index) => &self.pages[index],
        }
    }

    /// The number of a page that is added.
    pub(crate) fn push(&mut self, page: &Page) -> PageId {
        self.pages.push(Box::new(*page));
        PageId(u32::try_from(self.pages.len()).expect("16 TiB of different pages"))
    }
}

/// Finds a page that a pool already holds.
#[derive(Debug, Default)]
pub(crate) struct Known {
    by_sum: HashMap<u32, Vec<PageId>>,
}

impl Known {
    pub(crate) fn of(pool: &Pool) -> Self {
        let mut known = Self::default();
        for (index, page) in (1..).zip(&pool.pages) {
            known
                .by_sum
                .entry(crc32fast::hash(&page[..]))
                .or_default()
                .push(PageId(index));
        }
        known
    }

    /// The number of a page, which is added to the pool unless it is there.
    pub(crate) fn intern(&mut self, pool: &mut Pool, page: &Page) -> PageId {
        if *page == ZEROS {
            return PageId::ZERO;
        }
        let same = self.by_sum.entry(crc32fast::hash(page)).or_default();
        if let Some(id) = same.iter().find(|id| pool.page(**id) == page) {
            return *id;
        }
        let id = pool.push(page);
        same.push(id);
        id
    }
}

/// A disk that can be written to: a table of numbers, and pages of its own
/// beside those of a shared pool.
#[derive(Debug)]
pub(crate) struct Content {
    pool: Arc<Pool>,
    own: Vec<Box<Page>>,
    pub(crate) table: Vec<PageId>,
}

impl Content {
    pub(crate) fn new(pool: Arc<Pool>, table: Vec<PageId>) -> Self {
        Self {
            pool,
            own: Vec::new(),
            table,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        (self.table.len() * BLOCK) as u64
    }

    pub(crate) fn page(&self, id: PageId) -> &Page {
        match (id.0 as usize).checked_sub(self.pool.end()) {
            Some(index) => &self.own[index],
            None => self.pool.page(id),
        }
    }

    /// Whether a page is none of the shared pool.
    pub(crate) fn is_own(&self, id: PageId) -> bool {
        id.0 as usize >= self.pool.end()
    }

    /// Puts these sectors of a page of the pool at a block.
    pub(crate) fn put(&mut self, block: usize, id: PageId, sectors: u8) {
        match sectors {
            0 => {}
            WHOLE => self.table[block] = id,
            _ => {
                let page = mix(self.page(self.table[block]), self.page(id), sectors);
                self.put_own(block, Box::new(page));
            }
        }
    }

    fn put_own(&mut self, block: usize, page: Box<Page>) {
        let old = self.table[block];
        if let Some(index) = (old.0 as usize).checked_sub(self.pool.end()) {
            // No other block has it.
            self.own[index] = page;
        } else {
            let id = self.pool.end() + self.own.len();
            self.own.push(page);
            self.table[block] = PageId(u32::try_from(id).expect("16 TiB of pages"));
        }
    }

    /// As something that no longer changes.
    pub(crate) fn into_image(self) -> Image {
        let mut pool = self.pool;
        if !self.own.is_empty() {
            Arc::make_mut(&mut pool).pages.extend(self.own);
        }
        Image {
            table: self.table,
            pool,
        }
    }

    /// Starts again from a table of pages of the pool.
    pub(crate) fn reset(&mut self, table: &[PageId]) {
        self.own.clear();
        self.table.clear();
        self.table.extend_from_slice(table);
    }
}

/// Reads from any offset in bytes of the disk that a table describes. Behind the
/// end are zeros.
pub(crate) fn read<'page>(
    table: &[PageId],
    page: impl Fn(PageId) -> &'page Page,
    offset: u64,
    mut to: &mut [u8],
) {
    let mut offset = usize::try_from(offset).unwrap_or(usize::MAX);
    while !to.is_empty() {
        let within = offset % BLOCK;
        let length = to.len().min(BLOCK - within);
        let (piece, rest) = to.split_at_mut(length);
        let id = table.get(offset / BLOCK).copied();
        piece.copy_from_slice(&page(id.unwrap_or(PageId::ZERO))[within..within + length]);
        offset = offset.saturating_add(length);
        to = rest;
    }
}

/// A page where these sectors are of `new`, and the others of `old`.
pub(crate) fn mix(old: &Page, new: &Page, sectors: u8) -> Page {
    let mut page = *old;
    for sector in (0..SECTORS).filter(|sector| sectors & 1 << sector != 0) {
        let bytes = sector * SECTOR..(sector + 1) * SECTOR;
        page[bytes.clone()].copy_from_slice(&new[bytes]);
    }
    page
}

impl Clone for Content {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            own: self.own.clone(),
            table: self.table.clone(),
        }
    }

    /// Keeps the table's memory.
    fn clone_from(&mut self, other: &Self) {
        self.pool.clone_from(&other.pool);
        self.own.clone_from(&other.own);
        self.table.clone_from(&other.table);
    }
}
