//! Bounded reading of a version's tree.
//!
//! The tree is read only where it is mounted, but what it holds is somebody
//! else's: links that lead out of it, FIFOs that never answer, directories and
//! files without end, names with line breaks.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Directory entries looked at, so that a huge directory takes no time.
pub const MAX_ENTRIES: usize = 1024;

/// A directory of the version.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// Why a directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is there.
    #[error("{0}: no such directory")]
    Missing(String),
    /// Something else than a directory, or a link, is on the way.
    #[error("{0}: not a directory; ship a real directory")]
    NotADirectory(String),
    /// The system refused.
    #[error("open {0}: {1}")]
    Io(String, io::Error),
}

impl Directory {
    /// Opens `below` (plain components) in the version mounted at `tree`.
    pub fn open(tree: &Path, below: &str) -> Result<Self, Error> {
        let mut path = tree.to_owned();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Where the mount is, is the host's business.
        let mut fd = rustix::fs::openat(CWD, tree, flags, Mode::empty())
            .map_err(|why| Error::new(&path, why))?;
        // One by one, so that the message names the one at fault.
        for part in below.split('/') {
            path.push(part);
            fd = rustix::fs::openat(&fd, part, flags | OFlags::NOFOLLOW, Mode::empty())
                .map_err(|why| Error::new(&path, why))?;
        }
        Ok(Self { fd, path })
    }

    /// Opens a directory in this one.
    pub fn subdirectory(&self, name: &str) -> Result<Self, Error> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let fd = rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), resolve)
            .map_err(|why| Error::new(&path, why))?;
        Ok(Self { fd, path })
    }

    /// The names in it, sorted; of those beyond [`MAX_ENTRIES`] there is a note.
    pub fn names(&self, notes: &mut Vec<String>) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let entries = match Dir::read_from(&self.fd) {
            Ok(entries) => entries,
            Err(why) => {
                notes.push(format!("list {}: {}", self.shown(), io::Error::from(why)));
                return names;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(why) => {
                    notes.push(format!("list {}: {}", self.shown(), io::Error::from(why)));
                    break;
                }
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == MAX_ENTRIES {
                notes.push(format!(
                    "{}: more than {MAX_ENTRIES} entries; the others are not looked at",
                    self.shown()
                ));
                break;
            }
            names.push(name.to_owned());
        }
        names.sort();
        names
    }

    /// Whether `name` is a directory, not followed if it is a link.
    pub fn is_directory(&self, name: &[u8]) -> bool {
        rustix::fs::statat(&self.fd, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// The text of a regular file of at most `max` bytes.
    pub fn text(&self, name: &str, max: usize) -> Result<String, String> {
        let io = |why: Errno| io::Error::from(why).to_string();
        // Before opening it: opening a device may do something.
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err("not a regular file".to_owned());
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let fd = rustix::fs::openat2(self.fd.as_fd(), name, flags, Mode::empty(), resolve)
            .map_err(io)?;
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        File::from(fd)
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|why| why.to_string())?;
        if bytes.len() > max {
            return Err(format!("larger than {max} bytes"));
        }
        String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())
    }

    /// Its path, fit for one line.
    pub fn shown(&self) -> String {
        shown(self.path.as_os_str().as_bytes())
    }

    /// The path of something in it, fit for one line.
    pub fn shown_in(&self, name: &[u8]) -> String {
        format!("{}/{}", self.shown(), shown(name))
    }
}

impl Error {
    fn new(path: &Path, why: Errno) -> Self {
        let shown = shown(path.as_os_str().as_bytes());
        match why {
            Errno::NOENT => Self::Missing(shown),
            Errno::NOTDIR | Errno::LOOP => Self::NotADirectory(shown),
            why => Self::Io(shown, why.into()),
        }
    }
}

/// A name or path for people: one line, whatever it is made of.
pub fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .flat_map(|c| {
            let plain = (!c.is_control()).then_some(c);
            let escaped = plain.is_none().then(|| c.escape_default());
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn made() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("lib/real")).unwrap();
        symlink("/etc", dir.path().join("lib/out")).unwrap();
        symlink("real", dir.path().join("lib/in")).unwrap();
        dir
    }

    #[test]
    fn no_link_is_followed_on_the_way() {
        let dir = made();
        assert!(Directory::open(dir.path(), "lib/real").is_ok());
        for below in ["lib/out", "lib/in"] {
            let error = Directory::open(dir.path(), below).unwrap_err();
            assert!(matches!(error, Error::NotADirectory(_)), "{error}");
        }
        let error = Directory::open(dir.path(), "lib/none").unwrap_err();
        assert!(matches!(error, Error::Missing(_)), "{error}");
        let lib = Directory::open(dir.path(), "lib").unwrap();
        assert!(lib.subdirectory("real").is_ok());
        assert!(lib.subdirectory("in").is_err());
        assert!(lib.subdirectory("..").is_err());
        assert!(lib.is_directory(b"real") && !lib.is_directory(b"out"));
    }

    #[test]
    fn only_regular_files_are_read_and_nothing_waits() {
        let dir = made();
        let lib = dir.path().join("lib");
        fs::write(lib.join("fits"), "1234").unwrap();
        fs::write(lib.join("large"), "12345").unwrap();
        fs::write(lib.join("bytes"), [0xff]).unwrap();
        symlink("fits", lib.join("link")).unwrap();
        rustix::fs::mkfifoat(CWD, lib.join("fifo"), Mode::from_raw_mode(0o644)).unwrap();
        let lib = Directory::open(dir.path(), "lib").unwrap();
        assert_eq!(lib.text("fits", 4).unwrap(), "1234");
        for (name, why) in [
            ("large", "larger than 4 bytes"),
            ("bytes", "not UTF-8 text"),
            ("link", "not a regular file"),
            ("fifo", "not a regular file"),
            ("real", "not a regular file"),
        ] {
            assert_eq!(lib.text(name, 4).unwrap_err(), why, "{name}");
        }
    }

    #[test]
    fn names_stay_on_one_line() {
        assert_eq!(shown(b"a\nb\x1b[2Jc"), "a\\nb\\u{1b}[2Jc");
        assert_eq!(shown("grün".as_bytes()), "grün");
    }
}
