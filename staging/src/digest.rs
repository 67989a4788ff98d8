//! The content digest of a deployment: SHA-256 over its whole tree.
//!
//! It covers what must be equal on every device: of every entry its path, type,
//! mode bits, owner, group, extended attributes, and by type its content, link
//! target or device number. It leaves out:
//!
//! - **times**: a rebuild of the same content is the same version. Quarantine
//!   works by digest, and a bad version must not escape it by a new timestamp;
//! - **how it is stored**: inode numbers, hard links, holes, compression, and
//!   `btrfs.*` attributes, which a directory hands down on each device;
//! - **labels the device's own security module gives**: `security.selinux`,
//!   `security.SMACK64*`, `security.evm`, `security.ima`.
//!
//! Format 1. The hash runs over the text `op-dbus tree 1\n` and one entry after
//! the other, each directory before its content, siblings in the order of their
//! name's bytes. An entry is: one type byte (`d f l c b p s`), then in little
//! endian mode (u32), uid (u32), gid (u32); the path from the root of the tree,
//! without leading slash; the number of attributes (u32), then name and value of
//! each in the order of the name's bytes; at last for `f` the content, for `l`
//! the target, for `c` and `b` major and minor (u32 each). Whatever is of
//! variable length stands behind its length (u64).
//!
//! Nothing is followed: every entry is opened from its directory's descriptor,
//! without symlinks and without leaving the subvolume. Memory is one directory's
//! names a level, and one buffer.

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use op_dbus_bootstate::Digest;
use rustix::fs::{Advice, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use sha2::{Digest as _, Sha256};

/// Deepest nesting of directories: each level keeps one descriptor open.
const DEPTH_MAX: usize = 128;
/// Entries of one tree.
const ENTRIES_MAX: u64 = 4 << 20;
/// Content of one tree, in bytes, holes included.
const BYTES_MAX: u64 = 1 << 40;
/// Longest extended attribute value and list of names (`xattr(7)`).
const XATTR_MAX: usize = 64 * 1024;
const BUFFER: usize = 256 * 1024;

/// A tree's digest and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// SHA-256 by the format above.
    pub digest: Digest,
    /// Sum of the sizes of its regular files, in bytes.
    pub bytes: u64,
    /// Entries, the root included.
    pub entries: u64,
}

/// Why a tree has no digest.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct TreeError {
    /// The entry, from the root of the tree.
    pub path: PathBuf,
    /// What is wrong with it.
    pub source: io::Error,
}

/// Computes the digest of the tree below a directory.
pub fn tree(root: &Path) -> Result<Tree, TreeError> {
    let fail = |why: io::Error| TreeError {
        path: root.to_owned(),
        source: why,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(root, flags, Mode::empty()).map_err(|why| fail(why.into()))?;
    let stat = rustix::fs::fstat(&fd).map_err(|why| fail(why.into()))?;
    let mut walk = Walk {
        hash: Sha256::new_with_prefix(b"op-dbus tree 1\n"),
        device: stat.st_dev,
        path: Vec::new(),
        buffer: vec![0; BUFFER],
        bytes: 0,
        entries: 0,
    };
    match walk.directory(&fd, &stat, 0) {
        Ok(()) => Ok(Tree {
            digest: Digest(walk.hash.finalize().into()),
            bytes: walk.bytes,
            entries: walk.entries,
        }),
        Err(why) => Err(TreeError {
            path: root.join(lossy(&walk.path)),
            source: why,
        }),
    }
}

fn lossy(path: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(path).into_owned())
}

fn refuse(why: impl fmt::Display) -> io::Error {
    io::Error::other(why.to_string())
}

struct Walk {
    hash: Sha256,
    device: u64,
    /// Of the entry at hand; on an error it stays there and names the culprit.
    path: Vec<u8>,
    buffer: Vec<u8>,
    bytes: u64,
    entries: u64,
}

impl Walk {
    fn number(&mut self, number: u32) {
        self.hash.update(number.to_le_bytes());
    }

    fn text(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    fn directory(&mut self, fd: &OwnedFd, stat: &Stat, depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(refuse("directories are nested too deeply"));
        }
        self.head(b'd', stat, &attributes_of(fd)?)?;
        for name in names(fd)? {
            let length = self.path.len();
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.as_bytes());
            self.entry(fd.as_fd(), &name, depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        // Another device number is a subvolume in the subvolume, or a mount.
        if stat.st_dev != self.device {
            return Err(refuse("belongs to another subvolume or file system"));
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let fd = open_same(parent, name, OFlags::DIRECTORY, &stat)?;
                self.directory(&fd, &stat, depth + 1)
            }
            FileType::RegularFile => {
                let fd = open_same(parent, name, OFlags::NONBLOCK, &stat)?;
                self.head(b'f', &stat, &attributes_of(&fd)?)?;
                self.content(fd, &stat)
            }
            FileType::Symlink => {
                self.head(b'l', &stat, &attributes_at(parent, name)?)?;
                let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
                self.text(target.as_bytes());
                Ok(())
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
                let letter = if kind == FileType::BlockDevice {
                    b'b'
                } else {
                    b'c'
                };
                self.head(letter, &stat, &attributes_at(parent, name)?)?;
                self.number(rustix::fs::major(stat.st_rdev));
                self.number(rustix::fs::minor(stat.st_rdev));
                Ok(())
            }
            FileType::Fifo => self.head(b'p', &stat, &attributes_at(parent, name)?),
            FileType::Socket => self.head(b's', &stat, &attributes_at(parent, name)?),
            FileType::Unknown => Err(refuse("is of an unknown type")),
        }
    }

    fn head(&mut self, letter: u8, stat: &Stat, attributes: &[Attribute]) -> io::Result<()> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(refuse(format_args!(
                "the tree has more than {ENTRIES_MAX} entries"
            )));
        }
        self.hash.update([letter]);
        self.number(stat.st_mode & 0o7777);
        self.number(stat.st_uid);
        self.number(stat.st_gid);
        let path = std::mem::take(&mut self.path);
        self.text(&path);
        self.path = path;
        self.number(u32::try_from(attributes.len()).map_err(refuse)?);
        for (name, value) in attributes {
            self.text(name.as_bytes());
            self.text(value);
        }
        Ok(())
    }

    fn content(&mut self, fd: OwnedFd, stat: &Stat) -> io::Result<()> {
        let size = u64::try_from(stat.st_size).map_err(refuse)?;
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > BYTES_MAX {
            return Err(refuse(format_args!(
                "the tree holds more than {BYTES_MAX} bytes"
            )));
        }
        // What counts is what the disk holds: the caller synced, and this drops
        // the clean pages, so that reading goes past the cache.
        rustix::fs::fadvise(&fd, 0, None, Advice::DontNeed)?;
        self.hash.update(size.to_le_bytes());
        let mut file = File::from(fd).take(size);
        let mut left = size;
        while left > 0 {
            let count = match file.read(&mut self.buffer) {
                Ok(0) => return Err(refuse("became shorter while it was read")),
                Ok(count) => count,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                Err(why) => return Err(why),
            };
            self.hash
                .update(self.buffer.get(..count).unwrap_or_default());
            left = left.saturating_sub(count as u64);
        }
        Ok(())
    }
}

/// Opens an entry that was just looked at, and only that one.
fn open_same(parent: BorrowedFd<'_>, name: &CStr, how: OFlags, seen: &Stat) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME | how;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if (stat.st_dev, stat.st_ino, stat.st_mode) != (seen.st_dev, seen.st_ino, seen.st_mode) {
        return Err(refuse("was replaced while it was read"));
    }
    Ok(fd)
}

/// A directory's names in the order of their bytes.
fn names(fd: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            if names.len() as u64 > ENTRIES_MAX {
                return Err(refuse("the directory has too many entries"));
            }
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

type Attribute = (CString, Vec<u8>);

/// Whether an attribute belongs to the content rather than to the device.
fn counts(name: &CStr) -> bool {
    let name = name.to_bytes();
    !(name.starts_with(b"btrfs.")
        || name.starts_with(b"security.SMACK64")
        || matches!(
            name,
            b"security.selinux" | b"security.evm" | b"security.ima"
        ))
}

fn attributes_of(fd: &OwnedFd) -> io::Result<Vec<Attribute>> {
    collect(
        |list| rustix::fs::flistxattr(fd, list),
        |name, value| rustix::fs::fgetxattr(fd, name, value),
    )
}

/// Of an entry that can't be opened for reading: a link, a FIFO, a device.
fn attributes_at(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<Attribute>> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let path = Path::new("/proc/self/fd")
        .join(parent.as_raw_fd().to_string())
        .join(OsStr::from_bytes(name.to_bytes()));
    collect(
        |list| rustix::fs::llistxattr(&path, list),
        |name, value| rustix::fs::lgetxattr(&path, name, value),
    )
}

fn collect(
    list: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<Attribute>> {
    let mut buffer = vec![0; XATTR_MAX];
    let length = list(&mut buffer)?;
    if length == 0 {
        return Ok(Vec::new());
    }
    let mut value = vec![0; XATTR_MAX];
    let mut attributes = Vec::new();
    for name in buffer
        .get(..length)
        .unwrap_or_default()
        .split_inclusive(|&byte| byte == 0)
    {
        let name = CStr::from_bytes_with_nul(name).map_err(refuse)?;
        if counts(name) {
            let length = get(name, &mut value)?;
            attributes.push((
                name.to_owned(),
                value.get(..length).unwrap_or_default().to_vec(),
            ));
        }
    }
    attributes.sort_unstable();
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir(at("b")).unwrap();
        fs::write(at("b/file"), "content").unwrap();
        symlink("b/file", at("a")).unwrap();
        for (path, mode) in [("", 0o755), ("b", 0o750), ("b/file", 0o640)] {
            fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        dir
    }

    /// The format once more, written down entry by entry.
    #[test]
    fn the_hash_is_over_what_the_format_says() {
        let dir = sample();
        let owner = fs::metadata(dir.path()).unwrap();
        let mut expected = b"op-dbus tree 1\n".to_vec();
        for (letter, mode, path, content) in [
            (b'd', 0o755_u32, "", None),
            (b'l', 0o777, "a", Some("b/file")),
            (b'd', 0o750, "b", None),
            (b'f', 0o640, "b/file", Some("content")),
        ] {
            expected.push(letter);
            for number in [mode, owner.uid(), owner.gid()] {
                expected.extend(number.to_le_bytes());
            }
            expected.extend((path.len() as u64).to_le_bytes());
            expected.extend(path.as_bytes());
            expected.extend(0_u32.to_le_bytes());
            if let Some(content) = content {
                expected.extend((content.len() as u64).to_le_bytes());
                expected.extend(content.as_bytes());
            }
        }
        let found = tree(dir.path()).unwrap();
        assert_eq!(found.digest, Digest(Sha256::digest(expected).into()));
        assert_eq!((found.bytes, found.entries), (7, 4));
    }

    #[test]
    fn every_change_of_content_counts_and_time_does_not() {
        type Change = fn(&Path);
        let base = tree(sample().path()).unwrap().digest;
        let again = tree(sample().path()).unwrap().digest;
        assert_eq!(again, base, "another directory and time");
        let changes: [Change; 7] = [
            |dir| fs::write(dir.join("b/file"), "Content").unwrap(),
            |dir| fs::write(dir.join("b/file"), "content ").unwrap(),
            |dir| fs::write(dir.join("c"), "").unwrap(),
            |dir| fs::rename(dir.join("b/file"), dir.join("b/File")).unwrap(),
            |dir| fs::set_permissions(dir.join("b"), fs::Permissions::from_mode(0o755)).unwrap(),
            |dir| {
                fs::remove_file(dir.join("a")).unwrap();
                symlink("b", dir.join("a")).unwrap();
            },
            |dir| {
                // A file that holds what the link says.
                fs::remove_file(dir.join("a")).unwrap();
                fs::write(dir.join("a"), "b/file").unwrap();
            },
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let dir = sample();
            change(dir.path());
            assert_ne!(tree(dir.path()).unwrap().digest, base, "change {index}");
        }
    }

    #[test]
    fn attributes_count_unless_they_are_the_device_s_own() {
        for name in [
            c"user.kind",
            c"security.capability",
            c"system.posix_acl_access",
        ] {
            assert!(counts(name), "{name:?}");
        }
        for name in [
            c"btrfs.compression",
            c"security.selinux",
            c"security.SMACK64EXEC",
            c"security.ima",
        ] {
            assert!(!counts(name), "{name:?}");
        }
    }

    #[test]
    fn a_tree_that_is_none_is_an_error() {
        assert!(tree(Path::new("/nonexistent")).is_err());
        let dir = sample();
        assert!(tree(&dir.path().join("b/file")).is_err());
        assert!(
            tree(&dir.path().join("a")).is_err(),
            "a link is not followed"
        );
    }
}
