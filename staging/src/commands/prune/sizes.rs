//! What deleting one version would free, as far as Btrfs tells without quotas:
//! the data of its files that nothing else refers to (FIEMAP's "shared" flag).
//!
//! It is the least that is freed if this version alone goes. What two versions
//! share that go together, a file's copies within a version (reflinks), metadata
//! and files so small that they lie in metadata come on top; compressed data
//! counts as it is read.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use op_dbus_activator::files::open_flags;
use rustix::fs::OFlags;

/// How long all versions together may take to measure. A version of a few
/// thousand files takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures within bounded time. Nobody is kept waiting meanwhile: it needs no lock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    give_up: Instant,
}

impl Scale {
    /// Begins now.
    pub(super) fn new() -> Self {
        Self {
            give_up: Instant::now() + PATIENCE,
        }
    }

    /// Bytes of these trees. None: it would take too long, or something changed
    /// meanwhile; a number in doubt is left out.
    pub(super) fn weigh(&self, trees: &[PathBuf]) -> Option<u64> {
        let weigh = |sum: u64, tree: &PathBuf| Some(sum.saturating_add(self.tree(tree).ok()?));
        trees.iter().try_fold(0, weigh)
    }

    fn tree(&self, root: &Path) -> io::Result<u64> {
        let mut sum = 0_u64;
        let mut dirs = vec![root.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir)? {
                if Instant::now() >= self.give_up {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    dirs.push(entry.path());
                } else if kind.is_file() {
                    let file = File::options()
                        .read(true)
                        .custom_flags(open_flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
                        .open(entry.path())?;
                    sum = sum.saturating_add(op_dbus_btrfs::unshared_bytes(&file)?);
                }
            }
        }
        Ok(sum)
    }
}
