//! Subvolumes and snapshots.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, Mode, OFlags};

use crate::error::Error;
use crate::{Result, sys};

/// `BTRFS_SUPER_MAGIC`, as `statfs` reports it.
const SUPER_MAGIC: u64 = 0x9123_683E;
/// Inode number of every subvolume's root (`BTRFS_FIRST_FREE_OBJECTID`).
const ROOT_INODE: u64 = 256;

/// What `BTRFS_IOC_GET_SUBVOL_INFO` says of a subvolume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubvolInfo {
    /// Its id.
    pub id: u64,
    /// Id of the subvolume that contains it; zero once it is deleted.
    pub parent_id: u64,
    /// Its last transaction, moved also by balance.
    pub generation: u64,
    /// Its flags; see [`SubvolInfo::is_read_only`].
    pub flags: u64,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// UUID of the subvolume it was snapshot from; zero if none.
    pub parent_uuid: [u8; 16],
    /// UUID of the subvolume it was received from; zero if none.
    pub received_uuid: [u8; 16],
    /// Transaction of the last change to its content.
    pub ctransid: u64,
    /// Transaction of its creation.
    pub otransid: u64,
    /// Transaction of the sending, on the sender.
    pub stransid: u64,
    /// Transaction at which receiving ended.
    pub rtransid: u64,
}

impl SubvolInfo {
    /// Whether it is read-only.
    pub fn is_read_only(&self) -> bool {
        // On-disk root flag BTRFS_ROOT_SUBVOL_RDONLY is bit 0; this ioctl
        // reports the root item's flags as they are on disk.
        self.flags & 1 != 0
    }
}

/// Opens a directory, without following a symlink in its last component.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|why| Error::new("open directory", path, why))
}

/// Opens for reading what a path descriptor (`O_PATH`) of a directory stands for.
pub fn reopen_dir(dir: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, ".", flags, Mode::empty())?)
}

/// Splits a path into an open parent directory and a name.
fn parent_of(path: &Path) -> Result<(OwnedFd, &OsStr)> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::new("find its name", path, io::ErrorKind::InvalidInput))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((open_dir(&parent)?, name))
}

/// What the kernel knows of the subvolume that contains an open file.
pub fn subvol_info(fd: impl AsFd) -> io::Result<SubvolInfo> {
    let args = sys::subvol_info(fd.as_fd())?;
    Ok(SubvolInfo {
        id: args.treeid,
        parent_id: args.parent_id,
        generation: args.generation,
        flags: args.flags,
        uuid: args.uuid,
        parent_uuid: args.parent_uuid,
        received_uuid: args.received_uuid,
        ctransid: args.ctransid,
        otransid: args.otransid,
        stransid: args.stransid,
        rtransid: args.rtransid,
    })
}

/// Like [`subvol_info`], by path; refuses a directory that is no subvolume's root.
pub fn info_of(path: &Path) -> Result<SubvolInfo> {
    let fd = open_dir(path)?;
    let found = is_subvolume_fd(&fd).map_err(|why| Error::new("look at", path, why))?;
    if !found {
        let why = io::Error::other("not a Btrfs subvolume");
        return Err(Error::new("read subvolume information", path, why));
    }
    subvol_info(&fd).map_err(|why| Error::new("read subvolume information", path, why))
}

/// Whether an open file lies on Btrfs.
pub fn is_btrfs(fd: impl AsFd) -> io::Result<bool> {
    let statfs = rustix::fs::fstatfs(fd)?;
    Ok(u64::try_from(statfs.f_type).is_ok_and(|magic| magic == SUPER_MAGIC))
}

/// Whether an open directory is the root of a subvolume.
pub fn is_subvolume_fd(fd: impl AsFd) -> io::Result<bool> {
    let stat = rustix::fs::fstat(fd.as_fd())?;
    Ok(stat.st_ino == ROOT_INODE && is_btrfs(fd)?)
}

/// Whether a path is the root of a subvolume. A missing path is not.
pub fn is_subvolume(path: &Path) -> Result<bool> {
    match open_dir(path) {
        Ok(fd) => is_subvolume_fd(fd).map_err(|why| Error::new("look at", path, why)),
        Err(why) if why.is_not_found() => Ok(false),
        Err(why) if why.source.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(why) => Err(why),
    }
}

/// Creates an empty subvolume. Durable after [`sync_filesystem`].
pub fn create_subvolume(path: &Path) -> Result<()> {
    let (parent, name) = parent_of(path)?;
    sys::create(parent.as_fd(), name).map_err(|why| Error::new("create subvolume", path, why))
}

/// Like [`create_subvolume`], in an open directory.
pub fn create_subvolume_at(dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    sys::create(dir.as_fd(), name)
}

/// Like [`snapshot`], between open directories.
pub fn snapshot_at(
    source: impl AsFd,
    dir: impl AsFd,
    name: &OsStr,
    read_only: bool,
) -> io::Result<()> {
    sys::snapshot(source.as_fd(), dir.as_fd(), name, read_only)
}

/// Like [`delete_subvolume`], in an open directory.
pub fn delete_subvolume_at(dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    sys::destroy(dir.as_fd(), name)
}

/// Records what a subvolume was received from: the UUID and the transaction at
/// sending that its stream names. Commits a transaction.
pub fn set_received(subvolume: impl AsFd, uuid: [u8; 16], stransid: u64) -> io::Result<()> {
    sys::set_received(subvolume.as_fd(), uuid, stransid)
}

/// Sends a read-only subvolume, whole, to a pipe or file, as `btrfs send` does:
/// returns when all of it is written. Without data there are lengths in its
/// place. Needs `CAP_SYS_ADMIN`.
pub fn send(subvolume: impl AsFd, output: impl AsFd, with_data: bool) -> io::Result<()> {
    sys::send(subvolume.as_fd(), output.as_fd(), with_data)
}

/// UUID of the file system an open file lies on, if that is Btrfs.
pub fn filesystem_uuid(fd: impl AsFd) -> io::Result<Option<[u8; 16]>> {
    if !is_btrfs(fd.as_fd())? {
        return Ok(None);
    }
    Ok(Some(sys::fs_info(fd.as_fd())?.fsid))
}

/// Takes a snapshot of `source` at `path`. Durable after [`sync_filesystem`].
pub fn snapshot(source: &Path, path: &Path, read_only: bool) -> Result<()> {
    let source = open_dir(source)?;
    let (parent, name) = parent_of(path)?;
    sys::snapshot(source.as_fd(), parent.as_fd(), name, read_only)
        .map_err(|why| Error::new("create snapshot", path, why))
}

/// Deletes a subvolume, read-only or not, even one that is mounted elsewhere.
/// Gone for good after [`sync_filesystem`]; its space is freed in the background.
pub fn delete_subvolume(path: &Path) -> Result<()> {
    let (parent, name) = parent_of(path)?;
    sys::destroy(parent.as_fd(), name).map_err(|why| Error::new("delete subvolume", path, why))
}

/// Whether a subvolume is read-only.
pub fn is_read_only(path: &Path) -> Result<bool> {
    let fd = open_dir(path)?;
    let flags = sys::flags(fd.as_fd())
        .map_err(|why| Error::new("read the subvolume's flags", path, why))?;
    Ok(flags & sys::SUBVOL_RDONLY != 0)
}

/// Makes a subvolume read-only or writable.
pub fn set_read_only(path: &Path, read_only: bool) -> Result<()> {
    set_read_only_fd(open_dir(path)?, read_only)
        .map_err(|why| Error::new("change the subvolume's read-only flag", path, why))
}

/// Like [`set_read_only`], by an open file. Commits a transaction.
pub fn set_read_only_fd(subvolume: impl AsFd, read_only: bool) -> io::Result<()> {
    let flags = sys::flags(subvolume.as_fd())?;
    let wanted = if read_only {
        flags | sys::SUBVOL_RDONLY
    } else {
        flags & !sys::SUBVOL_RDONLY
    };
    if wanted == flags {
        return Ok(());
    }
    sys::set_flags(subvolume.as_fd(), wanted)
}

/// Turns copy-on-write off for an open file, which must still be empty: Btrfs
/// ignores the flag on a file that has data.
pub fn set_nocow(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::ioctl_getflags(fd.as_fd())?;
    rustix::fs::ioctl_setflags(fd, flags | IFlags::NOCOW)?;
    Ok(())
}

/// Commits everything written to the file system a path lies on.
pub fn sync_filesystem(path: &Path) -> Result<()> {
    let fd = open_dir(path)?;
    sync_filesystem_fd(fd).map_err(|why| Error::new("sync the file system", path, why))
}

/// Like [`sync_filesystem`], by an open file.
pub fn sync_filesystem_fd(fd: impl AsFd) -> io::Result<()> {
    // A syncfs reports an earlier write error once per open file, like fsync.
    Ok(rustix::fs::syncfs(fd)?)
}

/// Commits the file system a path lies on, and has the space of deleted
/// subvolumes freed now: by itself the kernel gets to that every 30 seconds.
/// Freeing goes on in the background when this returns.
pub fn free_deleted(path: &Path) -> Result<()> {
    let fd = open_dir(path)?;
    sys::sync(fd.as_fd()).map_err(|why| Error::new("free deleted subvolumes", path, why))
}
