//! Taking a change back.
//!
//! The kernel allows no change of a layer while an overlay of it is mounted (its
//! documentation of overlayfs, "Changes to underlying filesystems"): what such an
//! overlay shows afterwards is not defined. So there are two ways:
//!
//! - [`Unmounted`]: the change itself goes, and the version's own shows.
//! - [`Mounted`]: through the mounted overlay nothing can be removed from the upper
//!   layer so that the lower one shows again: removing makes a whiteout. There the
//!   version's content is written over the change. The linter sees by its content
//!   that nothing of it is the user's, and the next version takes its place.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use op_dbus_activator::overlay::beneath;
use op_dbus_release::tree::attributes::Attributes;
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::classify::{Change, Kind, Upper};
use super::disk::{self, Dirs};
use super::find::There;
use super::same::content;

/// What a version's own is written under before it has its name, in the
/// directory it belongs to.
const HIDDEN: &[u8] = b".op-dbus-reset";
/// What is to be deleted, beside `upper/`: one rename takes it out of sight.
const DISCARDED: &str = "discarded";
/// Names tried beside a path.
const NAMES_MAX: u32 = 100;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    /// The version's own shows already.
    Nothing,
    /// It shows again; the change is kept at this path, if at all.
    Reset(Option<Vec<u8>>),
    /// It can't be done this way.
    Refused(&'static str),
}

/// Whether a change is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Beside, as `.mine`.
    Beside,
    /// Not at all.
    Not,
}

/// An overlay that is not mounted anywhere.
#[derive(Debug)]
pub(crate) struct Unmounted<'u> {
    /// The overlay's subvolume.
    pub(crate) overlay: &'u Path,
    /// Its upper layer.
    pub(crate) upper: &'u Path,
}

/// The mounted overlay of the version that runs.
#[derive(Debug)]
pub(crate) struct Mounted {
    /// Its root.
    pub(crate) root: OwnedFd,
}

/// Whether a change is nothing but an owner, a group or a mode, or not even that:
/// then there is nothing to keep.
fn is_copy(there: &There<Dirs>) -> bool {
    let is_leaf =
        matches!(there.seen.trio.upper, Upper::Plain(mine) if mine.kind != Kind::Directory);
    is_leaf && matches!(there.seen.trio.change(), None | Some(Change::OwnerChanged))
}

impl Unmounted<'_> {
    /// Takes a change back. The caller sees to it that it becomes durable.
    pub(crate) fn reset(&self, path: &[u8], there: &There<Dirs>, keep: Keep) -> io::Result<Done> {
        let root = op_dbus_btrfs::open_dir(self.upper).map_err(|why| why.source)?;
        let (dir, name) = beneath::parent(root.as_fd(), path)?;
        if there.seen.trio.upper == Upper::Whiteout || is_copy(there) {
            rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
            return Ok(Done::Reset(None));
        }
        if keep == Keep::Not {
            let overlay = op_dbus_btrfs::open_dir(self.overlay).map_err(|why| why.source)?;
            // Left by a power cut.
            remove(&overlay, DISCARDED.as_bytes())?;
            let flags = RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(&dir, name, &overlay, DISCARDED, flags)?;
            remove(&overlay, DISCARDED.as_bytes())?;
            return Ok(Done::Reset(None));
        }
        let aside = beside(path, |candidate| {
            let taken = there.dir.old.as_ref().map(|old| disk::stat(old, candidate));
            if taken.transpose()?.flatten().is_some() {
                return Err(Errno::EXIST.into());
            }
            let flags = RenameFlags::NOREPLACE;
            Ok(rustix::fs::renameat_with(
                &dir, name, &dir, candidate, flags,
            )?)
        })?;
        Ok(Done::Reset(Some(aside)))
    }
}

impl Mounted {
    /// Writes the version's own over a change. The caller sees to it that it
    /// becomes durable.
    pub(crate) fn reset(&self, path: &[u8], there: &There<Dirs>, keep: Keep) -> io::Result<Done> {
        let trio = &there.seen.trio;
        let own = match &there.dir.old {
            Some(old) => disk::stat(old, last(path))?.map(|stat| (old, stat)),
            None => None,
        };
        let (dir, name) = beneath::parent(self.root.as_fd(), path)?;
        let mine = match trio.upper {
            Upper::Whiteout => None,
            Upper::Opaque(mine) | Upper::Plain(mine) => Some(mine.kind),
        };
        let Some((old, own)) = own else {
            return Ok(match mine {
                // The mark of a removal, and nothing that was removed.
                None => Done::Nothing,
                Some(_) => Done::Reset(put_aside(&dir, name, path, keep)?),
            });
        };
        match (trio.change(), disk::kind(&own)) {
            (None, Kind::Directory) => Ok(Done::Refused(
                "it is a directory, and what was changed is in it",
            )),
            (None, _) => Ok(Done::Nothing),
            (Some(Change::OwnerChanged), _) => {
                take_owner(&dir, name, &own)?;
                Ok(Done::Reset(None))
            }
            (_, Kind::Directory) => Ok(Done::Refused(
                "a directory that was removed or replaced can't be had back while the overlay is mounted",
            )),
            (_, Kind::Special) => Ok(Done::Refused(
                "a device, FIFO or socket can't be had back while the overlay is mounted",
            )),
            (_, kind) => {
                make(old, &own, kind, &dir, name)?;
                let placed = place(&dir, name, path, mine, keep);
                if placed.is_err() {
                    // What was made is only a copy.
                    let _ = rustix::fs::unlinkat(&dir, HIDDEN, AtFlags::empty());
                }
                placed.map(Done::Reset)
            }
        }
    }
}

/// Gives the version's own its name: in one step, unless a directory is there
/// that is to be kept.
fn place(
    dir: &OwnedFd,
    name: &[u8],
    path: &[u8],
    mine: Option<Kind>,
    keep: Keep,
) -> io::Result<Option<Vec<u8>>> {
    match mine {
        None => {
            rustix::fs::renameat_with(dir, HIDDEN, dir, name, RenameFlags::NOREPLACE)?;
            Ok(None)
        }
        Some(Kind::Directory) if keep == Keep::Beside => {
            // Not exchanged: what has the hidden name is nobody's, also after
            // a power cut.
            let kept = put_aside(dir, name, path, keep)?;
            rustix::fs::renameat_with(dir, HIDDEN, dir, name, RenameFlags::NOREPLACE)?;
            Ok(kept)
        }
        Some(Kind::Directory) => {
            rustix::fs::renameat_with(dir, HIDDEN, dir, name, RenameFlags::EXCHANGE)?;
            remove(dir, HIDDEN)?;
            Ok(None)
        }
        Some(_) => {
            let kept = match keep {
                Keep::Beside => Some(beside(path, |candidate| {
                    Ok(rustix::fs::linkat(
                        dir,
                        name,
                        dir,
                        candidate,
                        AtFlags::empty(),
                    )?)
                })?),
                Keep::Not => None,
            };
            rustix::fs::renameat(dir, HIDDEN, dir, name)?;
            Ok(kept)
        }
    }
}

/// The last part of a path.
fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// Tries names beside a path until one is not taken. Returns the path it has then.
fn beside(path: &[u8], mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Vec<u8>> {
    for number in 0..NAMES_MAX {
        let mut candidate = [path, b".mine"].concat();
        if number > 0 {
            candidate.extend(format!("-{number}").bytes());
        }
        match take(last(&candidate)) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
            taken => return taken.map(|()| candidate),
        }
    }
    Err(io::Error::other("too many names beside it are taken"))
}

/// Takes something out of its place.
fn put_aside(dir: &OwnedFd, name: &[u8], path: &[u8], keep: Keep) -> io::Result<Option<Vec<u8>>> {
    if keep == Keep::Not {
        remove(dir, name)?;
        return Ok(None);
    }
    let aside = beside(path, |candidate| {
        let flags = RenameFlags::NOREPLACE;
        Ok(rustix::fs::renameat_with(dir, name, dir, candidate, flags)?)
    })?;
    Ok(Some(aside))
}

/// Removes whatever is at a name, with all that is in it, if there is anything.
fn remove(dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let Some(stat) = disk::stat(dir, name)? else {
        return Ok(());
    };
    if disk::kind(&stat) != Kind::Directory {
        return Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?);
    }
    // The standard library's way down follows nothing, whatever is swapped
    // meanwhile.
    let place = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    std::fs::remove_dir_all(place.join(OsStr::from_bytes(name)))
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

fn take_owner(dir: &OwnedFd, name: &[u8], own: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(own);
    rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if disk::kind(own) != Kind::Link {
        // After the owner, whose change takes setuid and setgid away.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = beneath::open(dir, name, flags)?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(own.st_mode & 0o7777))?;
    }
    Ok(())
}

fn times(own: &Stat) -> Timestamps {
    let written = Timespec {
        tv_sec: own.st_mtime,
        tv_nsec: own.st_mtime_nsec.try_into().unwrap_or(0),
    };
    Timestamps {
        last_access: written,
        last_modification: written,
    }
}

/// Makes a copy of the version's own under the hidden name; complete and on disk
/// when this returns.
fn make(old: &OwnedFd, own: &Stat, kind: Kind, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    // Left by a power cut.
    remove(dir, HIDDEN)?;
    let made = match kind {
        Kind::Link => make_link(old, own, dir, name),
        _ => make_file(old, own, dir.as_fd(), name),
    };
    if made.is_err() {
        // The error of making it is the one to report.
        let _ = rustix::fs::unlinkat(dir, HIDDEN, AtFlags::empty());
    }
    made
}

fn make_link(old: &OwnedFd, own: &Stat, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let target = rustix::fs::readlinkat(old, name, Vec::new())?;
    rustix::fs::symlinkat(target, dir, HIDDEN)?;
    let (uid, gid) = owner(own);
    rustix::fs::chownat(dir, HIDDEN, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    let times = times(own);
    Ok(rustix::fs::utimensat(
        dir,
        HIDDEN,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn make_file(old: &OwnedFd, own: &Stat, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let mut from = disk::open_file(old, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(dir, HIDDEN, flags, Mode::RUSR | Mode::WUSR)?;
    let mut made = File::from(made);
    io::copy(&mut from, &mut made)?;
    let (uid, gid) = owner(own);
    rustix::fs::fchown(&made, uid, gid)?;
    // After the owner, whose change takes capabilities away.
    let attributes = Attributes::new().of(from.as_fd())?;
    for attribute in content(&attributes) {
        let (name, value) = attribute;
        rustix::fs::fsetxattr(&made, name.as_c_str(), value, XattrFlags::empty())?;
    }
    rustix::fs::fchmod(&made, Mode::from_raw_mode(own.st_mode & 0o7777))?;
    rustix::fs::futimens(&made, &times(own))?;
    made.sync_all()
}
