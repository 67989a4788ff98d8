//! Paths of a stream, resolved beneath the root of a subvolume.
//!
//! A path's directory is opened with `openat2(2)`, which neither follows a
//! symlink nor leaves the subvolume nor crosses a mount, whatever the tree
//! holds; its last component is only ever used relative to that directory,
//! by calls that do not follow it either.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, ResolveFlags, Timestamps};

/// Directories kept open, besides the root.
const OPEN: usize = 64;

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// A subvolume, with the directories used last kept open.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Rc<Dir>,
    dirs: HashMap<Box<[u8]>, Rc<Dir>>,
    clock: u64,
}

/// An open directory.
pub(crate) struct Dir {
    fd: OwnedFd,
    used: Cell<u64>,
    /// Times it is to have. Every entry made in it would change them again, and
    /// a stream sets them again and again, so they are set once it is let go of.
    times: Cell<Option<Timestamps>>,
    /// Whether new entries inherit nothing from it; not known before asked.
    plain: Cell<Option<bool>>,
}

/// Where a path leads: a name in an open directory.
pub(crate) type Place<'p> = (Rc<Dir>, &'p [u8]);

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dir").field(&self.fd).finish()
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    fn new(fd: OwnedFd) -> Rc<Self> {
        Rc::new(Self {
            fd,
            used: Cell::new(0),
            times: Cell::new(None),
            plain: Cell::new(None),
        })
    }

    /// Remembers the times it is to have.
    pub(crate) fn set_times(&self, times: Timestamps) {
        self.times.set(Some(times));
    }

    fn settle(&self) -> io::Result<()> {
        match self.times.take() {
            Some(times) => Ok(rustix::fs::futimens(&self.fd, &times)?),
            None => Ok(()),
        }
    }

    /// Whether an entry made here is the same as one made elsewhere and moved
    /// here: a default ACL, a security label, Btrfs properties and flags are
    /// inherited when an entry is made, and not when it is moved.
    pub(crate) fn is_plain(&self) -> io::Result<bool> {
        if let Some(known) = self.plain.get() {
            return Ok(known);
        }
        let plain = rustix::fs::ioctl_getflags(&self.fd)?.is_empty()
            && rustix::fs::flistxattr_query(&self.fd)? == 0;
        self.plain.set(Some(plain));
        Ok(plain)
    }

    /// Its attributes are about to change.
    pub(crate) fn attributes_change(&self) {
        self.plain.set(None);
    }
}

impl Tree {
    /// A tree beneath the root of a subvolume.
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self {
            root: Dir::new(root),
            dirs: HashMap::new(),
            clock: 0,
        }
    }

    /// The directory a path's last component is in, and that component. The
    /// policy has seen to it that there is one.
    pub(crate) fn place<'p>(&mut self, path: &'p [u8]) -> io::Result<Place<'p>> {
        let (parent, name) = split(path);
        Ok((self.dir(parent)?, name))
    }

    /// A directory, if it is open already.
    pub(crate) fn open_dir(&mut self, path: &[u8]) -> Option<Rc<Dir>> {
        if path.is_empty() {
            return Some(Rc::clone(&self.root));
        }
        let dir = self.dirs.get(path)?;
        self.clock += 1;
        dir.used.set(self.clock);
        Some(Rc::clone(dir))
    }

    fn dir(&mut self, path: &[u8]) -> io::Result<Rc<Dir>> {
        if let Some(dir) = self.open_dir(path) {
            return Ok(dir);
        }
        let fd = rustix::fs::openat2(&self.root.fd, path, FLAGS, Mode::empty(), BENEATH)?;
        self.keep(path, fd)
    }

    /// Keeps a directory open that has just been made.
    pub(crate) fn made(&mut self, path: &[u8], (parent, name): &Place<'_>) -> io::Result<()> {
        let fd = rustix::fs::openat(parent.as_fd(), *name, FLAGS, Mode::empty())?;
        self.keep(path, fd).map(|_| ())
    }

    fn keep(&mut self, path: &[u8], fd: OwnedFd) -> io::Result<Rc<Dir>> {
        if self.dirs.len() >= OPEN {
            let oldest = self.dirs.iter().min_by_key(|(_, dir)| dir.used.get());
            if let Some(path) = oldest.map(|(path, _)| path.clone()) {
                self.close(&path)?;
            }
        }
        let dir = Dir::new(fd);
        self.clock += 1;
        dir.used.set(self.clock);
        self.dirs.insert(path.into(), Rc::clone(&dir));
        Ok(dir)
    }

    fn close(&mut self, path: &[u8]) -> io::Result<()> {
        match self.dirs.remove(path) {
            Some(dir) => dir.settle(),
            None => Ok(()),
        }
    }

    /// A path stands for something else from now on, and with it every path
    /// beneath it.
    pub(crate) fn forget(&mut self, path: &[u8]) -> io::Result<()> {
        let gone: Vec<_> = self
            .dirs
            .keys()
            .filter(|known| is_beneath(known, path))
            .cloned()
            .collect();
        gone.iter().try_for_each(|path| self.close(path))
    }

    /// Sets what times are still to be set.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        self.dirs.values().try_for_each(|dir| dir.settle())?;
        self.root.settle()
    }
}

/// Splits a path into its directory and its last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => {
            let (parent, name) = path.split_at(slash);
            (parent, name.strip_prefix(b"/").unwrap_or_default())
        }
        None => (&[], path),
    }
}

/// Whether a path is another one, or beneath it.
pub(crate) fn is_beneath(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert!(is_beneath(b"a/b", b"a"));
        assert!(is_beneath(b"a", b"a"));
        assert!(!is_beneath(b"ab", b"a"));
        assert!(!is_beneath(b"a", b"a/b"));
    }
}
