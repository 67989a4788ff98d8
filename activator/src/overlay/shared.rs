//! Paths within the version's tree that are the same for every version: each a
//! subvolume of the store, mounted over the overlay. What is in them is neither
//! copied nor rolled back.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::{Degraded, beneath, degraded, word};
use crate::layout::Layout;
use crate::mount::{Detached, MountPoint};

/// Mounts every shared path that is not mounted yet. What can't be is left out
/// and said: it is no error of the version.
pub fn attach(layout: &Layout, over: BorrowedFd<'_>, paths: &[String]) -> Option<Degraded> {
    let mut missing = String::new();
    for path in paths {
        if let Err(why) = attach_one(layout, over, path) {
            if !missing.is_empty() {
                missing.push_str("; ");
            }
            missing.push_str(path);
            missing.push_str(": ");
            missing.push_str(&why);
        }
    }
    (!missing.is_empty()).then(|| degraded(word::SHARED_PATH_MISSING, missing))
}

fn attach_one(layout: &Layout, over: BorrowedFd<'_>, path: &str) -> Result<(), String> {
    let point = MountPoint::of(make_dirs(over, path).map_err(|why| why.to_string())?)
        .map_err(|why| why.to_string())?;
    if point.is_occupied() {
        return Ok(());
    }
    let source = layout.shared(path);
    let dir = op_dbus_btrfs::open_dir(&source).map_err(|why| {
        if why.is_not_found() {
            format!(
                "{}: does not exist; make it with: op-dbus-stage prepare",
                source.display()
            )
        } else {
            why.to_string()
        }
    })?;
    let mounted = || -> io::Result<()> {
        if !op_dbus_btrfs::is_subvolume_fd(&dir)? {
            return Err(io::Error::other("not a subvolume"));
        }
        Detached::writable_clone(&dir)?.attach(&point)?.keep();
        Ok(())
    };
    mounted().map_err(|why| format!("{}: {why}", source.display()))
}

/// Opens a directory of the overlay; what is missing on the way is made. What a
/// user put there leads nowhere else: a symlink is an error.
fn make_dirs(over: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut dir = over.try_clone_to_owned()?;
    for part in path.split('/') {
        let part = part.as_bytes();
        dir = match beneath::open(&dir, part, flags) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(0o755))?;
                beneath::open(&dir, part, flags)?
            }
            opened => opened?,
        };
    }
    Ok(dir)
}
