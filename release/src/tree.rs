//! The content digest of a tree, and what in it needs permission.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::manifest::Tree;

/// Entries of one tree.
pub const ENTRIES_MAX: u64 = 4 << 20;
/// Content of one tree, in bytes, holes included: 1 TiB.
pub const BYTES_MAX: u64 = 1 << 40;

/// Whether files are read from the disk or from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Each file's clean pages are dropped first, so that what is read is what
    /// the disk holds. The file system must have been synced before.
    Drop,
    /// Memory will do.
    Keep,
}

/// Why an entry needs permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A character or block device.
    Device,
    /// A regular file with the setuid or setgid bit.
    Setuid,
    /// It has file capabilities.
    Capability,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "a device",
            Self::Setuid => "a setuid or setgid file",
            Self::Capability => "a file with capabilities",
        })
    }
}

/// An entry that needs permission.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Privileged {
    /// Path from the root of the tree, without leading slash.
    pub path: Vec<u8>,
    /// Why it needs permission; an entry may be listed for more than one reason.
    pub kind: Kind,
}

/// What is in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its digest and size.
    pub tree: Tree,
    /// What in it needs permission, in the order of the walk.
    pub privileged: Vec<Privileged>,
}

/// Why a tree has no digest.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct TreeError {
    /// The entry.
    pub path: PathBuf,
    /// What is wrong with it.
    pub source: io::Error,
}

/// Computes the digest of the tree below a directory.
pub fn digest(root: &Path, _cache: Cache) -> Result<Found, TreeError> {
    Err(TreeError {
        path: root.to_owned(),
        source: io::ErrorKind::Unsupported.into(),
    })
}

/// Finds what needs permission in the tree below a directory, without reading any content.
pub fn survey(root: &Path) -> Result<Vec<Privileged>, TreeError> {
    digest(root, Cache::Keep).map(|found| found.privileged)
}
