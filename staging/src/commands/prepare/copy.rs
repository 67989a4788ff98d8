//! Copying a directory out of a mounted overlay into the store, with all that is
//! known of each file. Contents are cloned from the overlay's layers where they
//! lie in the same file system, which takes no room; where they can't be, they
//! are copied.
//!
//! Programs may write there meanwhile: no symlink is followed, whatever one is
//! swapped for. Hard links become files of their own.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use op_dbus_activator::overlay::beneath;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

/// Directories within directories; each holds two descriptors open.
const DEPTH_MAX: usize = 200;
/// Longest list of attributes, and longest attribute, in bytes (`XATTR_LIST_MAX`
/// and `XATTR_SIZE_MAX` of `uapi/linux/limits.h`).
const XATTR_MAX: usize = 65536;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Files, symlinks and FIFOs copied.
    pub(super) files: u64,
    /// Sockets and devices left out.
    pub(super) skipped: u64,
}

/// The overlay's layers at the directory that is copied, the upper one first.
pub(super) struct Layers(Vec<OwnedFd>);

impl Layers {
    /// Those of the layers that have the directory.
    pub(super) fn open(layers: &[PathBuf], path: &str) -> Self {
        let mut found = Vec::new();
        for layer in layers {
            let Ok(layer) = op_dbus_btrfs::open_dir(layer) else {
                continue;
            };
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            found.extend(beneath::open(&layer, path.as_bytes(), flags).ok());
        }
        Self(found)
    }

    /// Clones the content of a file of the overlay from the layer it is in.
    fn clone_into(&self, new: &File, path: &[u8], of: &Stat) -> bool {
        for layer in &self.0 {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let Ok(file) = beneath::open(layer, path, flags) else {
                continue;
            };
            // Where the upper layer has something else, the overlay shows that.
            let same = rustix::fs::fstat(&file).is_ok_and(|stat| {
                (stat.st_mode, stat.st_size) == (of.st_mode, of.st_size)
                    && (stat.st_mtime, stat.st_mtime_nsec) == (of.st_mtime, of.st_mtime_nsec)
            });
            return same && rustix::fs::ioctl_ficlone(new, &file).is_ok();
        }
        false
    }
}

/// Copies what is in a directory, and the directory's own attributes.
pub(super) fn copy_tree(source: &OwnedFd, target: &OwnedFd, layers: &Layers) -> io::Result<Counts> {
    let mut counts = Counts::default();
    let mut path = Vec::new();
    copy_dir(source, target, layers, &mut path, 0, &mut counts)?;
    Ok(counts)
}

fn copy_dir(
    source: &OwnedFd,
    target: &OwnedFd,
    layers: &Layers,
    path: &mut Vec<u8>,
    depth: usize,
    counts: &mut Counts,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("too many directories within each other"));
    }
    for entry in Dir::read_from(source)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let length = path.len();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name.to_bytes());
        let copied = copy_one(source, target, name, layers, path, depth, counts);
        if let Err(why) = copied {
            let shown = String::from_utf8_lossy(path);
            return Err(match why.kind() {
                // It went away meanwhile.
                io::ErrorKind::NotFound => {
                    path.truncate(length);
                    continue;
                }
                kind if depth == 0 => io::Error::new(kind, format!("{shown:?}: {why}")),
                _ => why,
            });
        }
        path.truncate(length);
    }
    let stat = rustix::fs::fstat(source)?;
    attributes(source, target)?;
    own(target, &stat)
}

fn copy_one(
    source: &OwnedFd,
    target: &OwnedFd,
    name: &std::ffi::CStr,
    layers: &Layers,
    path: &mut Vec<u8>,
    depth: usize,
    counts: &mut Counts,
) -> io::Result<()> {
    let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let reading = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let flags = reading | OFlags::DIRECTORY;
            let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
            rustix::fs::mkdirat(target, name, Mode::RWXU)?;
            let to = rustix::fs::openat(target, name, flags, Mode::empty())?;
            return copy_dir(&from, &to, layers, path, depth + 1, counts);
        }
        FileType::RegularFile => {
            let from = File::from(rustix::fs::openat(source, name, reading, Mode::empty())?);
            copy_file(&from, target, name, layers, path)?;
        }
        FileType::Symlink => {
            let to: CString = rustix::fs::readlinkat(source, name, Vec::new())?;
            rustix::fs::symlinkat(to, target, name)?;
            let (uid, gid) = owner(&stat);
            rustix::fs::chownat(target, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        FileType::Fifo => {
            rustix::fs::mknodat(target, name, FileType::Fifo, Mode::empty(), 0)?;
            let (uid, gid) = owner(&stat);
            rustix::fs::chownat(target, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            let mode = Mode::from_raw_mode(stat.st_mode);
            rustix::fs::chmodat(target, name, mode, AtFlags::empty())?;
        }
        _ => {
            counts.skipped += 1;
            return Ok(());
        }
    }
    counts.files += 1;
    Ok(())
}

fn copy_file(
    from: &File,
    target: &OwnedFd,
    name: &std::ffi::CStr,
    layers: &Layers,
    path: &[u8],
) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it changed while it was copied"));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let mut to = File::from(rustix::fs::openat(target, name, flags, mode)?);
    if !layers.clone_into(&to, path, &stat) {
        io::copy(&mut &*from, &mut to)?;
    }
    let to = OwnedFd::from(to);
    // Before the owner and mode: writing content takes capabilities away, and
    // setting them comes last.
    own(&to, &stat)?;
    attributes(from, &to)?;
    times(&to, &stat)
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

fn own(to: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    rustix::fs::fchown(to, uid, gid)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    times(to, stat)
}

fn times(to: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.try_into().unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

/// Extended attributes, ACLs among them.
fn attributes(from: impl std::os::fd::AsFd, to: &OwnedFd) -> io::Result<()> {
    let mut names = vec![0; XATTR_MAX];
    let length = match rustix::fs::flistxattr(&from, names.as_mut_slice()) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        length => length?,
    };
    names.truncate(length);
    let mut value = vec![0; XATTR_MAX];
    for name in names.split_inclusive(|&byte| byte == 0) {
        let Ok(name) = std::ffi::CStr::from_bytes_with_nul(name) else {
            continue;
        };
        // Other file systems' marks mean nothing here; the overlay's own it hides.
        if name.to_bytes().starts_with(b"trusted.") {
            continue;
        }
        let length = rustix::fs::fgetxattr(&from, name, value.as_mut_slice())?;
        let value = value.get(..length).unwrap_or_default();
        rustix::fs::fsetxattr(to.as_fd(), name, value, XattrFlags::empty())?;
    }
    Ok(())
}
