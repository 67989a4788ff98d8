//! Owners, modes, times and extended attributes.

use std::ffi::CString;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use super::file::Writer;
use super::tree::{Dir, Place, Tree};
use crate::attrs::{Parsed, Time};
use crate::error::Problem;
use crate::wire::{Attr, Command};

/// What a path leads to.
pub(crate) enum Target<'p> {
    /// The file that is being written.
    File(Rc<OwnedFd>),
    /// An open directory.
    Dir(Rc<Dir>),
    /// Anything else, by its name: it may be a symlink or a device, so it is
    /// neither followed nor opened.
    Entry(Place<'p>),
}

impl<'p> Target<'p> {
    pub(crate) fn find(path: &'p [u8], tree: &mut Tree, writer: &Writer) -> io::Result<Self> {
        if let Some(fd) = writer.get(path) {
            return Ok(Self::File(fd));
        }
        if let Some(dir) = tree.open_dir(path) {
            return Ok(Self::Dir(dir));
        }
        tree.place(path).map(Self::Entry)
    }

    /// Sets one property.
    pub(crate) fn set(&self, change: &Change<'_>) -> io::Result<()> {
        match self {
            Self::File(fd) => change.of_open(fd),
            Self::Dir(dir) => change.of_dir(dir),
            Self::Entry(place) => change.of_entry(place),
        }
    }
}

/// A change of one property.
pub(crate) enum Change<'a> {
    Owner(Uid, Gid),
    Mode(Mode),
    Times(Timestamps),
    SetXattr(&'a [u8], &'a [u8]),
    RemoveXattr(&'a [u8]),
}

impl<'a> Change<'a> {
    /// What a command changes, if it is a change of a property.
    pub(crate) fn parse(parsed: &Parsed<'a>) -> Result<Option<Self>, Problem> {
        // The policy has checked the ranges.
        let small = |attr| Ok(u32::try_from(parsed.u64(attr)?).unwrap_or(u32::MAX));
        Ok(Some(match parsed.command {
            Command::Chown => Self::Owner(
                Uid::from_raw(small(Attr::Uid)?),
                Gid::from_raw(small(Attr::Gid)?),
            ),
            Command::Chmod => Self::Mode(Mode::from_raw_mode(small(Attr::Mode)?)),
            Command::Utimes => Self::Times(Timestamps {
                last_access: timespec(parsed.time(Attr::Atime)?),
                last_modification: timespec(parsed.time(Attr::Mtime)?),
            }),
            Command::SetXattr => Self::SetXattr(
                parsed.bytes(Attr::XattrName)?,
                parsed.bytes(Attr::XattrData)?,
            ),
            Command::RemoveXattr => Self::RemoveXattr(parsed.bytes(Attr::XattrName)?),
            _ => return Ok(None),
        }))
    }

    /// What is being done, for messages.
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Self::Owner(..) => "change owner",
            Self::Mode(_) => "change mode",
            Self::Times(_) => "set times",
            Self::SetXattr(..) => "set extended attribute",
            Self::RemoveXattr(_) => "remove extended attribute",
        }
    }

    /// Whether a new file, which nothing but content was given yet, is already
    /// as it should be. To look is cheaper than to change.
    pub(crate) fn is_done(&self, fd: &OwnedFd) -> io::Result<bool> {
        let found = rustix::fs::fstat(fd)?;
        Ok(match self {
            Self::Owner(uid, gid) => (found.st_uid, found.st_gid) == (uid.as_raw(), gid.as_raw()),
            Self::Mode(mode) => Mode::from_raw_mode(found.st_mode) == *mode,
            _ => false,
        })
    }

    fn of_open(&self, fd: &OwnedFd) -> io::Result<()> {
        match self {
            Self::Owner(uid, gid) => rustix::fs::fchown(fd, Some(*uid), Some(*gid)),
            Self::Mode(mode) => rustix::fs::fchmod(fd, *mode),
            Self::Times(times) => rustix::fs::futimens(fd, times),
            Self::SetXattr(name, value) => {
                rustix::fs::fsetxattr(fd, *name, value, XattrFlags::empty())
            }
            Self::RemoveXattr(name) => rustix::fs::fremovexattr(fd, *name),
        }?;
        Ok(())
    }

    fn of_dir(&self, dir: &Dir) -> io::Result<()> {
        match self {
            Self::Owner(uid, gid) => rustix::fs::fchown(dir, Some(*uid), Some(*gid))?,
            Self::Mode(mode) => rustix::fs::fchmod(dir, *mode)?,
            Self::Times(times) => dir.set_times(times.clone()),
            Self::SetXattr(name, value) => {
                dir.attributes_change();
                rustix::fs::fsetxattr(dir, *name, value, XattrFlags::empty())?;
            }
            Self::RemoveXattr(name) => {
                dir.attributes_change();
                rustix::fs::fremovexattr(dir, *name)?;
            }
        }
        Ok(())
    }

    fn of_entry(&self, place: &Place<'_>) -> io::Result<()> {
        let (dir, name) = place;
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        match self {
            Self::Owner(uid, gid) => {
                rustix::fs::chownat(dir.as_fd(), *name, Some(*uid), Some(*gid), nofollow)?;
            }
            Self::Mode(mode) => change_mode(place, *mode)?,
            Self::Times(times) => rustix::fs::utimensat(dir.as_fd(), *name, times, nofollow)?,
            Self::SetXattr(attribute, value) => {
                let path = by_descriptor(place)?;
                rustix::fs::lsetxattr(path, *attribute, value, XattrFlags::empty())?;
            }
            Self::RemoveXattr(attribute) => {
                rustix::fs::lremovexattr(by_descriptor(place)?, *attribute)?;
            }
        }
        Ok(())
    }
}

fn timespec(time: Time) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    }
}

/// There are extended-attribute calls relative to a directory only since Linux
/// 6.13. Through /proc a directory's descriptor stands for the directory itself,
/// and the l-variants do not follow the last component.
fn by_descriptor((dir, name): &Place<'_>) -> io::Result<CString> {
    let mut path = Vec::with_capacity(32 + name.len());
    write!(path, "/proc/self/fd/{}/", dir.as_fd().as_raw_fd())?;
    path.extend_from_slice(name);
    Ok(CString::new(path)?)
}

/// `fchmodat` that does not follow a symlink exists only since Linux 6.6. A
/// descriptor of the entry itself cannot be swapped for a symlink in between.
fn change_mode((dir, name): &Place<'_>, mode: Mode) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = rustix::fs::openat(dir.as_fd(), *name, flags, Mode::empty())?;
    let found = rustix::fs::fstat(&entry)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
        return Err(rustix::io::Errno::OPNOTSUPP.into());
    }
    let path = format!("/proc/self/fd/{}", entry.as_raw_fd());
    Ok(rustix::fs::chmod(path, mode)?)
}
