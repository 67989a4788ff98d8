//! The content digest of a tree, and what in it needs permission.
//!
//! The digest covers what must be equal on every device: of every entry its path,
//! type, mode bits, owner, group, extended attributes, and by type its content,
//! link target or device number. It leaves out:
//!
//! - **times**: a rebuild of the same content is the same version. Quarantine
//!   works by digest, and a bad version must not escape it by a new timestamp;
//! - **how it is stored**: inode numbers, hard links, holes, compression, and
//!   `btrfs.*` attributes, which a directory hands down on each device;
//! - **labels the device's own security module gives**: `security.selinux`,
//!   `security.SMACK64*`, `security.evm`, `security.ima`.
//!
//! Format 2. SHA-256 over the text `op-dbus tree 2\n` and one entry after the
//! other, each directory before its content, siblings in the order of their name's
//! bytes. An entry is: one type byte (`d f l c b p s`), then in little endian mode
//! (u32), uid (u32), gid (u32); the path from the root of the tree, without leading
//! slash; the number of attributes (u32), then name and value of each in the order
//! of the name's bytes; at last for `f` the length (u64) and the SHA-256 of the
//! content, for `l` the target, for `c` and `b` major and minor (u32 each). Path,
//! name, value and target stand behind their length (u64).
//!
//! That files enter by their own SHA-256 is what lets all cores read at once; the
//! order of the entries does not depend on who was first.
//!
//! Nothing is followed: every entry is opened from its directory's descriptor,
//! without symlinks and without leaving the subvolume. Open at once are at most
//! 128 directories on the way down, 8 for each of 32 batches under way, and one file
//! a thread. Memory is the names on the way down, and at most 12 MiB beside them.

pub mod attributes;
mod batch;
mod order;
mod walk;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use crate::manifest::Tree;

/// Entries of one tree.
pub const ENTRIES_MAX: u64 = 4 << 20;
/// Content of one tree, in bytes, holes included: 1 TiB.
pub const BYTES_MAX: u64 = 1 << 40;
/// Deepest nesting of directories: each level keeps one descriptor open.
pub const DEPTH_MAX: usize = 128;
/// Entries of one tree that need permission: what a manifest can list.
pub const PRIVILEGED_MAX: usize = 3 * crate::manifest::ALLOW_MAX;
/// More threads than this wait for the disk, or for each other.
const THREADS_MAX: usize = 8;

/// Whether files are read from the disk or from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Each file's clean pages are dropped first, so that what is read is what
    /// the disk holds. The file system must have been synced before: pages not
    /// yet written stay (`posix_fadvise(2)`).
    Drop,
    /// Memory will do.
    Keep,
}

/// Why an entry needs permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A character or block device.
    Device,
    /// A regular file with the setuid or setgid bit. On a directory, setgid only
    /// hands the group down.
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
    /// Why it needs permission; an entry may be there for more than one reason.
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

/// Computes the digest of the tree below a directory, on all cores.
pub fn digest(root: &Path, cache: Cache) -> Result<Found, TreeError> {
    walk::tree(root, batch::Reading::Content(cache), threads())
}

/// Likewise, on the thread that calls: for who has many trees, and a thread for each.
pub fn digest_on_this_thread(root: &Path, cache: Cache) -> Result<Found, TreeError> {
    walk::tree(root, batch::Reading::Content(cache), 1)
}

/// Finds what needs permission in the tree below a directory, without reading
/// any file's content.
pub fn survey(root: &Path) -> Result<Vec<Privileged>, TreeError> {
    walk::tree(root, batch::Reading::Metadata, threads()).map(|found| found.privileged)
}

fn threads() -> usize {
    // Without an answer there is at least the core this runs on.
    thread::available_parallelism().map_or(1, |cores| cores.get().min(THREADS_MAX))
}

fn refuse(why: impl fmt::Display) -> io::Error {
    io::Error::other(why.to_string())
}

#[cfg(test)]
mod tests;
