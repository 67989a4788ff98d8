//! The subvolume that is being received.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Mode, OFlags};

use super::Destination;
use crate::error::{Problem, Shown};
use crate::pass::{Begin, Parent};

/// A subvolume that goes away again unless it is finished.
#[derive(Debug)]
pub(crate) struct Subvolume<'a> {
    area: BorrowedFd<'a>,
    name: &'a OsStr,
    finished: bool,
}

impl<'a> Subvolume<'a> {
    /// Creates it, empty or as a snapshot.
    pub(crate) fn create(
        destination: &Destination<'a>,
        parent: Option<BorrowedFd<'_>>,
    ) -> Result<Self, Problem> {
        let (area, name) = (destination.area, destination.name);
        let (operation, made) = match parent {
            None => (
                "create subvolume",
                op_dbus_btrfs::create_subvolume_at(area, name),
            ),
            Some(parent) => (
                "create snapshot",
                op_dbus_btrfs::snapshot_at(parent, area, name, false),
            ),
        };
        made.map_err(|source| Problem::Apply {
            operation,
            path: Shown::new(name.as_bytes()),
            source,
        })?;
        Ok(Self {
            area,
            name,
            finished: false,
        })
    }

    fn failed(&self, operation: &'static str) -> impl Fn(io::Error) -> Problem + use<'a> {
        let name = self.name;
        move |source| Problem::Apply {
            operation,
            path: Shown::new(name.as_bytes()),
            source,
        }
    }

    /// Opens its root.
    pub(crate) fn open(&self) -> Result<OwnedFd, Problem> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.area, self.name, flags, Mode::empty())
            .map_err(|why| self.failed("open")(why.into()))
    }

    /// Records what it is, and closes it to writers.
    pub(crate) fn finish(mut self, begin: &Begin) -> Result<(), Problem> {
        let root = self.open()?;
        op_dbus_btrfs::set_received(&root, begin.uuid, begin.ctransid)
            .map_err(self.failed("set the received UUID"))?;
        op_dbus_btrfs::set_read_only_fd(&root, true).map_err(self.failed("make read-only"))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Subvolume<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // The error that led here is the one to report; a leftover is in
            // the private area, which the caller clears before its next use.
            let _ = op_dbus_btrfs::delete_subvolume_at(self.area, self.name);
        }
    }
}

/// Whether a subvolume is the one a stream names as its parent: by the UUID it
/// was received from, or by its own where the stream was sent.
pub(crate) fn is_parent(found: BorrowedFd<'_>, wanted: &Parent) -> Result<(), Problem> {
    let info = op_dbus_btrfs::subvol_info(found).map_err(|source| Problem::Apply {
        operation: "identify the parent",
        path: Shown::new(b""),
        source,
    })?;
    if info.received_uuid == wanted.uuid || info.uuid == wanted.uuid {
        Ok(())
    } else {
        Err(Problem::WrongParent)
    }
}

/// Opens the parent for resolving paths in it.
pub(crate) fn reopen(parent: BorrowedFd<'_>) -> Result<OwnedFd, Problem> {
    op_dbus_btrfs::reopen_dir(parent).map_err(|source| Problem::Apply {
        operation: "open the parent",
        path: Shown::new(b""),
        source,
    })
}
