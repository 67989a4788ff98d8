//! What no stream can carry, and how much there is: one walk over a tree that
//! reads no content.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

/// Deepest nesting of directories: each level keeps one descriptor open.
const DEPTH_MAX: usize = 128;
/// Longest list of attribute names (`xattr(7)`).
const XATTR_MAX: usize = 64 * 1024;
/// How many of a kind are remembered by name.
const NAMES_MAX: usize = 8;
/// Inode of a subvolume's root, and of the empty directory that a snapshot has
/// in the place of one (`BTRFS_FIRST_FREE_OBJECTID`, `BTRFS_EMPTY_SUBVOL_DIR_OBJECTID`).
const SUBVOLUMES: [u64; 2] = [256, 2];

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Sum of the sizes of regular files, in bytes.
    pub(crate) bytes: u64,
    /// Entries, the root included.
    pub(crate) entries: u64,
    /// Subvolumes in the subvolume: `btrfs send` leaves them out without a word.
    pub(crate) nested: Names,
    /// What overlayfs would take for an instruction.
    pub(crate) overlay: Names,
}

/// Some names, and how many there are in all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    first: Vec<String>,
    count: u64,
}

impl Names {
    fn add(&mut self, name: String) {
        self.count += 1;
        if self.first.len() < NAMES_MAX {
            self.first.push(name);
        }
    }

    /// None at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them, or the first and how many more.
    pub(crate) fn text(&self) -> String {
        let more = self.count.saturating_sub(self.first.len() as u64);
        let names = self.first.join(", ");
        if more == 0 {
            names
        } else {
            format!("{names} and {more} more")
        }
    }
}

/// Walks the tree below a subvolume's root.
pub(crate) fn scan(root: &Path) -> Result<Scan, (PathBuf, io::Error)> {
    let mut walk = Walk {
        found: Scan::default(),
        path: Vec::new(),
        list: vec![0; XATTR_MAX],
    };
    let result = op_dbus_btrfs::open_dir(root)
        .map_err(|why| why.source)
        .and_then(|dir| walk.directory(&dir, 0));
    match result {
        Ok(()) => Ok(walk.found),
        Err(why) => Err((root.join(shown(&walk.path)), why)),
    }
}

fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

struct Walk {
    found: Scan,
    /// Of the entry at hand, from the root of the tree.
    path: Vec<u8>,
    list: Vec<u8>,
}

impl Walk {
    fn directory(&mut self, dir: &OwnedFd, depth: usize) -> io::Result<()> {
        use std::os::fd::AsFd as _;
        if depth > DEPTH_MAX {
            return Err(io::Error::other("directories are nested too deeply"));
        }
        self.found.entries += 1;
        let length = rustix::fs::flistxattr(dir, &mut self.list)?;
        self.attributes(length);
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            self.entry(dir.as_fd(), name, depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            if SUBVOLUMES.contains(&stat.st_ino) {
                self.found.nested.add(shown(&self.path));
                return Ok(());
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            return self.directory(&dir, depth + 1);
        }
        self.found.entries += 1;
        if kind == FileType::RegularFile {
            let size = u64::try_from(stat.st_size).unwrap_or_default();
            self.found.bytes = self.found.bytes.saturating_add(size);
        }
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            self.found
                .overlay
                .add(format!("{} (whiteout)", shown(&self.path)));
        }
        if kind != FileType::Symlink {
            let length = list_at(parent, name, &mut self.list)?;
            self.attributes(length);
        }
        Ok(())
    }

    /// Looks at the names in the list.
    fn attributes(&mut self, length: usize) {
        let list = self.list.get(..length).unwrap_or_default();
        let steers = |name: &[u8]| {
            name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
        };
        if let Some(name) = list.split(|&byte| byte == 0).find(|name| steers(name)) {
            let name = name.escape_ascii();
            self.found
                .overlay
                .add(format!("{} ({name})", shown(&self.path)));
        }
    }
}

/// Of an entry that is not opened: opening a FIFO would wait, a device act.
fn list_at(parent: BorrowedFd<'_>, name: &CStr, list: &mut [u8]) -> io::Result<usize> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let path = Path::new("/proc/self/fd")
        .join(parent.as_raw_fd().to_string())
        .join(OsStr::from_bytes(name.to_bytes()));
    Ok(rustix::fs::llistxattr(&path, list)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn counts_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join("bin/app"), [0; 100]).unwrap();
        std::os::unix::fs::symlink("app", dir.path().join("bin/alias")).unwrap();
        let found = scan(dir.path()).unwrap();
        assert_eq!((found.entries, found.bytes), (4, 100));
        assert!(found.nested.is_empty() && found.overlay.is_empty());
        assert!(scan(&dir.path().join("bin/app")).is_err());
        assert!(scan(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn names_are_not_listed_without_end() {
        let mut names = Names::default();
        for index in 0..10 {
            names.add(index.to_string());
        }
        assert_eq!(names.text(), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }
}
