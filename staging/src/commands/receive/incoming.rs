//! The private receive area: `incoming/`.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use op_dbus_activator::lock::Lock;

use crate::backup::area;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::session::lock_failure;

/// Name of the lock in `incoming/`.
const LOCK: &str = "lock";

/// How long a failed run waits for its space to be freed, and how often it looks.
const RECLAIM: Duration = Duration::from_secs(20);
const RECLAIM_POLL: Duration = Duration::from_millis(200);

/// `incoming/`, held by this run.
#[derive(Debug)]
pub(crate) struct Incoming {
    path: PathBuf,
    _lock: Lock,
}

/// One run's directory in it; removed with all it holds when it is dropped.
#[derive(Debug)]
pub(crate) struct Area {
    path: PathBuf,
}

impl Incoming {
    /// Takes `incoming/` for this run; one at a time.
    pub(crate) fn lock(context: &Context) -> Result<Self> {
        let path = context.layout.incoming_dir();
        let layout = context.layout.clone().with_store(&path);
        let lock = Lock::acquire(&layout, Duration::ZERO).map_err(lock_failure)?;
        Ok(Self { path, _lock: lock })
    }

    /// What a killed run left. A backup that is being made is none.
    pub(crate) fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let fail = |why| Failure::io(format_args!("{}: read", self.path.display()), why);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if entry.file_name() != LOCK && !area::is_alive(&entry.path()) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// Removes what a killed run left.
    pub(crate) fn clear(&self) -> Result<()> {
        for path in self.leftovers()? {
            remove(&path).map_err(|why| {
                Failure::io(format_args!("{}: remove leftover", path.display()), why)
            })?;
        }
        Ok(())
    }

    /// Space left for new data, in bytes; zero where that can't be told.
    pub(crate) fn available(&self) -> u64 {
        rustix::fs::statvfs(&self.path)
            .map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Size of the store's file system, in bytes; zero where that can't be told.
    pub(crate) fn size(&self) -> u64 {
        rustix::fs::statvfs(&self.path)
            .map_or(0, |found| found.f_blocks.saturating_mul(found.f_frsize))
    }

    /// After a full disk: waits until the space of what was removed is there
    /// again, so that the next run, or whoever else needs it, finds it. Bounded,
    /// because others may use the space as it comes.
    pub(crate) fn reclaim(&self, available_before: u64) {
        let give_up = Instant::now() + RECLAIM;
        let wanted = available_before.saturating_sub(available_before / 16);
        while self.available() < wanted && Instant::now() < give_up {
            // The space comes back by itself as well, only later.
            let _ = op_dbus_btrfs::free_deleted(&self.path);
            thread::sleep(RECLAIM_POLL);
        }
    }

    /// Makes this run's directory.
    pub(crate) fn area(&self, name: &str) -> Result<Area> {
        let path = self.path.join(format!("{name}.{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|why| {
                Failure::io(format_args!("{}: create directory", path.display()), why)
            })?;
        Ok(Area { path })
    }
}

/// Removes a directory of ours: subvolumes are deleted, links not followed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    if !path.symlink_metadata()?.is_dir() {
        return fs::remove_file(path);
    }
    if op_dbus_btrfs::is_subvolume(path).map_err(|why| why.source)? {
        return op_dbus_btrfs::delete_subvolume(path).map_err(|why| why.source);
    }
    for entry in fs::read_dir(path)? {
        remove(&entry?.path())?;
    }
    fs::remove_dir(path)
}

impl Drop for Area {
    fn drop(&mut self) {
        // Should it fail, the next run clears it, and tells if that fails too.
        let _ = remove(&self.path);
    }
}

impl Area {
    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
