//! The content of a disk, without the blocks that were never written.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// Content is kept, compared and shared in pieces of this many bytes.
pub const BLOCK: usize = 4096;

/// The content of a disk. Blocks that are all zeros take no memory, and clones
/// share the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    blocks: Vec<Option<Arc<[u8; BLOCK]>>>,
}

impl Image {
    /// An empty disk of this many bytes, rounded up to whole blocks.
    pub fn empty(size: u64) -> Self {
        let blocks = usize::try_from(size.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX);
        Self {
            blocks: vec![None; blocks],
        }
    }

    /// Reads a plain (sparse) image file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Writes it as a plain, sparse file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        (self.blocks.len() * BLOCK) as u64
    }
}
