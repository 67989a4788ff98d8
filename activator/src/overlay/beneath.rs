//! Paths within an overlay's upper layer, which whoever runs in the device may
//! have filled: nothing leads out of it, and no symlink is followed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Longest path, in bytes (`PATH_MAX` of `uapi/linux/limits.h`, without its end).
pub const PATH_MAX: usize = 4095;

/// Relative, and every part is a name: not empty, `.` or `..`, and without NUL.
pub fn is_plain(path: &[u8]) -> bool {
    path.len() <= PATH_MAX
        && !path.contains(&0)
        && path
            .split(|&byte| byte == b'/')
            .all(|part| !matches!(part, b"" | b"." | b".."))
}

/// Opens a plain path below a directory. A symlink on the way is an error, and
/// so is one at its end, unless the flags say `PATH | NOFOLLOW`.
pub fn open(root: impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    if !is_plain(path) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a plain relative path",
        ));
    }
    Ok(rustix::fs::openat2(
        root,
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?)
}

/// The directory a plain path lies in, and its last part.
pub fn parent<'p>(root: BorrowedFd<'_>, path: &'p [u8]) -> io::Result<(OwnedFd, &'p [u8])> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => {
            let (above, name) = path.split_at(at);
            Ok((open(root, above, flags)?, name.get(1..).unwrap_or_default()))
        }
        None if is_plain(path) => Ok((root.try_clone_to_owned()?, path)),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_plain_paths_pass() {
        for path in ["a", "a/b", ".a", "a..", "...", "a\nb"] {
            assert!(is_plain(path.as_bytes()), "{path:?}");
        }
        for path in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "a/./b", "a\0",
        ] {
            assert!(!is_plain(path.as_bytes()), "{path:?}");
        }
        assert!(!is_plain(&[b'a'; PATH_MAX + 1]));
    }

    #[test]
    fn nothing_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a")).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        fs::write(dir.path().join("out/file"), "x").unwrap();
        std::os::unix::fs::symlink("../out", root.join("up")).unwrap();
        std::os::unix::fs::symlink("a", root.join("link")).unwrap();
        let root = fs::File::open(root).unwrap();
        assert!(open(&root, b"a", OFlags::RDONLY).is_ok());
        for path in [&b"up/file"[..], b"../out/file", b"link", b"link/x"] {
            assert!(open(&root, path, OFlags::RDONLY).is_err());
        }
        let link = OFlags::PATH | OFlags::NOFOLLOW;
        assert!(open(&root, b"link", link).is_ok());
        assert!(parent(root.as_fd(), b"up/file").is_err());
        assert!(parent(root.as_fd(), b"..").is_err());
        let (_, name) = parent(root.as_fd(), b"a/file").unwrap();
        assert_eq!(name, b"file");
    }
}
