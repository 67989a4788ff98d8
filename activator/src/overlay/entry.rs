//! What an upper layer holds at a path, as one digest: by it a plan's entry is
//! only carried out on what it was made for.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::beneath;

/// Longest content that is read for a digest, in bytes.
pub const CONTENT_MAX: u64 = 16 * 1024 * 1024;
/// What marks a directory that hides all of the lower layer's (kernel
/// documentation, overlayfs, "whiteouts and opaque directories").
pub const OPAQUE: &str = "trusted.overlay.opaque";

/// Begins every digest, so that it equals no digest of anything else.
const DOMAIN: &[u8] = b"op-dbus overlay entry 1\0";

/// Whether it stands for a name that was removed: a character device 0:0.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether an open directory hides all of the lower layer's.
pub fn is_opaque(dir: impl AsFd) -> io::Result<bool> {
    let mut value = [0; 4];
    match rustix::fs::fgetxattr(dir, OPAQUE, &mut value) {
        Ok(length) => Ok(value.get(..length) == Some(b"y")),
        // The last: longer than a mark is, so none that the kernel made.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(why) => Err(why.into()),
    }
}

/// The digest of what is at a path: its kind, mode, owner and group, whether it
/// is a whiteout or opaque, a symlink's target, a file's content. Not what is in
/// a directory, no times, no other attributes.
///
/// A file longer than [`CONTENT_MAX`] is an error.
pub fn digest(upper: BorrowedFd<'_>, path: &[u8]) -> io::Result<[u8; 32]> {
    let mut budget = CONTENT_MAX;
    digest_within(upper, path, &mut budget)
}

/// As [`digest`], and takes the bytes it reads from a budget; beyond that it is
/// an error.
pub fn digest_within(upper: BorrowedFd<'_>, path: &[u8], budget: &mut u64) -> io::Result<[u8; 32]> {
    let found = beneath::open(upper, path, OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = rustix::fs::fstat(&found)?;
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    for number in [stat.st_mode, stat.st_uid, stat.st_gid] {
        hash.update(number.to_le_bytes());
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => content(upper, path, &stat, &mut hash, budget)?,
        FileType::Directory => {
            let dir = beneath::open(upper, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            same(&stat, &rustix::fs::fstat(&dir)?)?;
            hash.update([u8::from(is_opaque(&dir)?)]);
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
            hash.update(target.as_bytes());
        }
        // Among them whiteouts.
        FileType::CharacterDevice | FileType::BlockDevice => {
            hash.update(stat.st_rdev.to_le_bytes());
        }
        _ => {}
    }
    Ok(hash.finalize().into())
}

fn content(
    upper: BorrowedFd<'_>,
    path: &[u8],
    stat: &Stat,
    hash: &mut Sha256,
    budget: &mut u64,
) -> io::Result<()> {
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size > CONTENT_MAX.min(*budget) {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "too large to be compared",
        ));
    }
    *budget -= size;
    // What was a file a moment ago may be a FIFO now, while a device runs.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(beneath::open(upper, path, flags)?);
    same(stat, &rustix::fs::fstat(&file)?)?;
    let mut file = file.take(size);
    let mut read = 0_u64;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(why),
        };
        hash.update(buffer.get(..length).unwrap_or_default());
        read = read.saturating_add(length.try_into().unwrap_or(u64::MAX));
    }
    hash.update(read.to_le_bytes());
    Ok(())
}

/// Whether two looks saw one thing.
fn same(before: &Stat, after: &Stat) -> io::Result<()> {
    let shape = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_mode, stat.st_size);
    if shape(before) == shape(after) {
        return Ok(());
    }
    Err(io::Error::other("it changed while it was read"))
}

/// What is at a path of a layer; `None`: nothing, not even a whiteout.
pub fn look(layer: BorrowedFd<'_>, path: &[u8]) -> io::Result<Option<Stat>> {
    let (dir, name) = match beneath::parent(layer, path) {
        Err(why)
            if matches!(
                why.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        found => found?,
    };
    match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(why) => Err(why.into()),
    }
}
