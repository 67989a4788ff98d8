//! Where the snapshots of a backup are while it is written: a directory in
//! `incoming/` that is locked as long as its backup is being made.
//!
//! Whoever clears leftovers there (the next backup, receive or prune) takes the
//! lock first, so a run that was killed is cleared away after, and one that goes
//! on is left alone, without holding anybody up.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use op_dbus_activator::layout::Layout;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::commands::receive::remove_tree;
use crate::error::{Failure, Result};

/// How the names begin.
const PREFIX: &str = "backup.";
/// How often a directory is made that somebody takes for a leftover meanwhile.
const ATTEMPTS: usize = 5;

/// One backup's directory; removed with all it holds when it is dropped.
#[derive(Debug)]
pub(crate) struct Area {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Area {
    /// Makes it, and clears away what killed runs left.
    pub(crate) fn make(layout: &Layout) -> Result<Self> {
        let dir = layout.incoming_dir();
        clear(&dir)?;
        let path = dir.join(format!("{PREFIX}{}", std::process::id()));
        let fail =
            |why: io::Error| Failure::io(format_args!("{}: create directory", path.display()), why);
        for _ in 0..ATTEMPTS {
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(why) if why.kind() != io::ErrorKind::AlreadyExists => return Err(fail(why)),
                _ => {}
            }
            // Between the two it may have been taken for a leftover.
            if let Ok(Some(lock)) = lock(&path) {
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(fail(io::ErrorKind::ResourceBusy.into()))
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // Should it fail, the next run clears it, and tells if that fails too.
        let _ = remove_tree(&self.path);
    }
}

/// Whether something in `incoming/` is the directory of a backup that is being
/// made, or was a moment ago: not a leftover.
pub(crate) fn is_alive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    // What can't be told is not alive: clearing it says why.
    name.to_string_lossy().starts_with(PREFIX) && matches!(lock(path), Ok(None))
}

/// Locks a directory; none if another run holds it, or it is not there any more.
fn lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    let dir = match op_dbus_btrfs::open_dir(path) {
        Ok(dir) => dir,
        Err(why) if why.is_not_found() => return Ok(None),
        Err(why) => return Err(why.source),
    };
    match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(why) => return Err(why.into()),
    }
    let locked = rustix::fs::fstat(&dir)?;
    let is_same = path
        .symlink_metadata()
        .is_ok_and(|there| there.ino() == locked.st_ino);
    Ok(is_same.then_some(dir))
}

/// Removes what killed runs left.
fn clear(dir: &Path) -> Result<()> {
    let fail = |why| Failure::io(format_args!("{}: read", dir.display()), why);
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let lock = lock(&path)
            .map_err(|why| Failure::io(format_args!("{}: lock", path.display()), why))?;
        if lock.is_some() {
            remove_tree(&path).map_err(|why| {
                Failure::io(format_args!("{}: remove leftover", path.display()), why)
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_one_stays_and_a_dead_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new("/run", "/").with_store(dir.path());
        let incoming = layout.incoming_dir();
        fs::create_dir(&incoming).unwrap();
        for name in ["backup.1", "v1.0.0.7"] {
            fs::create_dir(incoming.join(name)).unwrap();
        }
        let area = Area::make(&layout).unwrap();
        assert!(!incoming.join("backup.1").exists());
        assert!(incoming.join("v1.0.0.7").exists());
        assert!(is_alive(area.path()));
        clear(&incoming).unwrap();
        assert!(area.path().exists());
        let path = area.path().to_owned();
        drop(area);
        assert!(!path.exists());
        assert!(!is_alive(&incoming.join("v1.0.0.7")));
        // What went away meanwhile is no leftover either.
        assert!(is_alive(&path));
    }
}
