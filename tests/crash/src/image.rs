//! The content of a disk, without the blocks that were never written.

use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::content::{BLOCK, Known, Page, PageId, Pool};

/// The content of a disk. Blocks that are all zeros take no memory, and clones
/// share the others.
#[derive(Clone, Debug)]
pub struct Image {
    pub(crate) table: Vec<PageId>,
    pub(crate) pool: Arc<Pool>,
}

impl Image {
    /// An empty disk of this many bytes, rounded up to whole blocks.
    pub fn empty(size: u64) -> Self {
        let blocks = usize::try_from(size.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX);
        Self {
            table: vec![PageId::ZERO; blocks],
            pool: Arc::default(),
        }
    }

    /// Reads a plain (sparse) image file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut pool = Pool::default();
        let mut known = Known::default();
        let mut table = Vec::new();
        let mut page: Page = [0; BLOCK];
        let mut left = file.metadata()?.len();
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            let (data, behind) = page.split_at_mut(length);
            file.read_exact(data)?;
            behind.fill(0);
            table.push(known.intern(&mut pool, &page));
            left -= length as u64;
        }
        let pool = Arc::new(pool);
        Ok(Self { table, pool })
    }

    /// Writes it as a plain, sparse file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let blocks = self.table.iter().enumerate();
        let blocks = blocks.filter(|(_, id)| **id != PageId::ZERO);
        let blocks = blocks.map(|(block, id)| (block, self.pool.page(*id)));
        write_blocks(self.size(), blocks, path)
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        (self.table.len() * BLOCK) as u64
    }

    /// The bytes of one block; none behind the end.
    pub fn block(&self, number: usize) -> Option<&[u8; BLOCK]> {
        Some(self.pool.page(*self.table.get(number)?))
    }
}

impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        self.table.len() == other.table.len()
            && (0..self.table.len()).all(|number| self.block(number) == other.block(number))
    }
}

impl Eq for Image {}

/// Writes blocks as a plain, sparse file of this size in bytes.
pub(crate) fn write_blocks<P: Borrow<Page>>(
    size: u64,
    blocks: impl Iterator<Item = (usize, P)>,
    path: &Path,
) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(size)?;
    for (block, page) in blocks {
        file.write_all_at(page.borrow(), (block * BLOCK) as u64)?;
    }
    Ok(())
}
