//! Reading below a root, without ever waiting or leaving it.
//!
//! What is looked at may be anything: a FIFO, a device, a link that leads out of
//! an image under construction, a file without end, a directory with a million
//! names. So paths resolve within the root (`openat2`), nothing but regular files
//! and directories is read, opening never blocks, and everything has a bound.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags};

/// A directory that stands for `/`.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    path: PathBuf,
}

impl Root {
    /// Does nothing yet.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, &self.path, dir, Mode::empty())?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(
            &root,
            path,
            flags,
            Mode::empty(),
            resolve,
        )?)
    }

    /// What a path leads to.
    pub(crate) fn kind(&self, path: impl AsRef<Path>) -> io::Result<FileType> {
        let found = self.open_at(path.as_ref(), OFlags::PATH)?;
        let stat = rustix::fs::fstat(&found)?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    /// Whether there is a directory.
    pub(crate) fn is_dir(&self, path: impl AsRef<Path>) -> bool {
        self.kind(path)
            .is_ok_and(|kind| kind == FileType::Directory)
    }

    /// Whether there is a regular file.
    pub(crate) fn is_file(&self, path: impl AsRef<Path>) -> bool {
        self.kind(path)
            .is_ok_and(|kind| kind == FileType::RegularFile)
    }

    /// Whether there is a regular file that somebody may execute.
    pub(crate) fn is_program(&self, path: impl AsRef<Path>) -> bool {
        let stat = self
            .open_at(path.as_ref(), OFlags::PATH)
            .and_then(|found| Ok(rustix::fs::fstat(&found)?));
        stat.is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_mode & 0o111 != 0
        })
    }

    /// Where a symbolic link points; none if the last part of the path is none.
    pub(crate) fn link(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let found = self.open_at(path.as_ref(), flags).ok()?;
        let target = rustix::fs::readlinkat(&found, "", Vec::new()).ok()?;
        Some(OsString::from_vec(target.into_bytes()).into())
    }

    /// Opens a regular file.
    pub(crate) fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.open_at(path.as_ref(), flags)?);
        if file.metadata()?.is_file() {
            return Ok(file);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ))
    }

    /// Reads a regular file of at most so many bytes.
    pub(crate) fn bytes(&self, path: impl AsRef<Path>, max: usize) -> io::Result<Vec<u8>> {
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        self.open(path)?.take(limit).read_to_end(&mut bytes)?;
        if bytes.len() > max {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("longer than {max} bytes"),
            ));
        }
        Ok(bytes)
    }

    /// Likewise as text; what is no UTF-8 in it is replaced.
    pub(crate) fn text(&self, path: impl AsRef<Path>, max: usize) -> io::Result<String> {
        let bytes = self.bytes(path, max)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The names in a directory, sorted, but no more than so many. Ones that are
    /// not UTF-8 are left out: none that matters here is like that.
    pub(crate) fn names(&self, path: impl AsRef<Path>, max: usize) -> io::Result<Vec<String>> {
        let dir = self.open_at(path.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&dir)?.take(max) {
            if let Ok(name) = entry?.file_name().to_str() {
                if !matches!(name, "." | "..") {
                    names.push(name.to_owned());
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// The files in a directory whose names have this ending: their paths, sorted.
    pub(crate) fn parts(&self, dir: &str, ending: &str, max: usize) -> Vec<String> {
        let names = self.names(dir, max).unwrap_or_default();
        let fitting = names
            .iter()
            .filter(|name| name.strip_suffix(ending).is_some());
        fitting.map(|name| format!("{dir}/{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_makes_it_wait_or_leave() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        fs::write(dir.path().join("file"), "text").unwrap();
        assert_eq!(root.text("/file", 4).unwrap(), "text");
        let long = root.text("/file", 3).unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::FileTooLarge);

        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(
            root.text("fifo", 10)
                .unwrap_err()
                .to_string()
                .contains("regular")
        );
        assert!(root.text("", 10).is_err(), "a directory");

        symlink("/file", dir.path().join("absolute")).unwrap();
        symlink("/etc/passwd", dir.path().join("out")).unwrap();
        symlink("../../../../etc/passwd", dir.path().join("up")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        assert_eq!(root.text("absolute", 4).unwrap(), "text");
        for path in ["out", "up", "loop"] {
            assert!(root.text(path, 1 << 20).is_err(), "{path}");
        }
        assert_eq!(root.link("out"), Some("/etc/passwd".into()));
        assert_eq!(root.link("file"), None);
    }

    #[test]
    fn directories_are_read_so_far() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..50 {
            fs::write(dir.path().join(format!("{number:02}")), "").unwrap();
        }
        let root = Root::new(dir.path());
        assert_eq!(root.names("/", 100).unwrap().len(), 50);
        assert!(root.names("/", 10).unwrap().len() <= 10);
        assert!(root.names("/none", 10).is_err());
    }
}
