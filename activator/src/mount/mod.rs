//! Mounting without half-done states.
//!
//! A tree is made complete while it is detached from every directory: cloned or
//! mounted, its flags set, its overlay probed. Only then is it attached. Whatever
//! fails before leaves nothing, because a detached tree goes away with its
//! descriptor.
//!
//! Kernel 5.12 or later: `open_tree`, `fsopen`, `move_mount` (5.2), `openat2`
//! (5.6), `statx` mount root (5.8), `mount_setattr` (5.12).

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags, StatxFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

mod setattr;

/// `STATX_ATTR_MOUNT_ROOT` of `uapi/linux/stat.h`.
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

/// A tree of mounts that is attached nowhere yet.
#[derive(Debug)]
pub struct Detached {
    tree: OwnedFd,
}

/// A tree that is attached; unmounted again when dropped, unless kept.
#[derive(Debug)]
pub struct Attached {
    tree: Option<OwnedFd>,
}

/// A directory to mount on, found below the host's root.
#[derive(Debug)]
pub struct MountPoint {
    dir: OwnedFd,
    occupied: bool,
}

impl Detached {
    /// A read-only view of an open directory: `nosuid`, `nodev`, and executable
    /// whatever its own mount says.
    pub fn read_only_clone(dir: impl AsFd) -> io::Result<Self> {
        Self::clone_with(
            dir,
            MountAttrFlags::MOUNT_ATTR_RDONLY,
            MountAttrFlags::empty(),
        )
    }

    /// The same, and as writable as its file system is.
    pub fn writable_clone(dir: impl AsFd) -> io::Result<Self> {
        Self::clone_with(
            dir,
            MountAttrFlags::empty(),
            MountAttrFlags::MOUNT_ATTR_RDONLY,
        )
    }

    fn clone_with(dir: impl AsFd, set: MountAttrFlags, clear: MountAttrFlags) -> io::Result<Self> {
        let tree = rustix::mount::open_tree(
            dir,
            "",
            OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH,
        )?;
        let set = set | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        let clear = clear | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        setattr::change(tree.as_fd(), set, clear)?;
        Ok(Self { tree })
    }

    /// A new overlay file system, `nosuid` and `nodev`. The error holds what the
    /// kernel had to say about the options.
    pub fn overlay(options: &[(&str, &str)], read_only: bool) -> io::Result<Self> {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let made = configure(context.as_fd(), options, read_only);
        made.map(|tree| Self { tree })
            .map_err(|why| with_messages(&why.into(), &context))
    }

    /// The root of the tree.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// Attaches the tree.
    pub fn attach(self, point: &MountPoint) -> io::Result<Attached> {
        rustix::mount::move_mount(
            &self.tree,
            "",
            &point.dir,
            "",
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
        )?;
        Ok(Attached {
            tree: Some(self.tree),
        })
    }
}

fn configure(
    context: BorrowedFd<'_>,
    options: &[(&str, &str)],
    read_only: bool,
) -> rustix::io::Result<OwnedFd> {
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(context, *key, *value)?;
    }
    if read_only {
        rustix::mount::fsconfig_set_flag(context, "ro")?;
    }
    rustix::mount::fsconfig_create(context)?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    if read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Adds the messages that wait on a file system context, one a `read`.
fn with_messages(why: &io::Error, context: &OwnedFd) -> io::Error {
    let mut text = why.to_string();
    let mut message = [0; 256];
    for _ in 0..4 {
        match rustix::io::read(context, &mut message) {
            Ok(length @ 1..) => {
                let words = message.get(..length).unwrap_or_default();
                let words = String::from_utf8_lossy(words);
                let _ = write!(text, "; {}", words.trim());
            }
            _ => break,
        }
    }
    io::Error::new(why.kind(), text)
}

impl Attached {
    /// The root of the tree, where it is attached.
    pub fn root(&self) -> Option<BorrowedFd<'_>> {
        self.tree.as_ref().map(AsFd::as_fd)
    }

    /// Lets the tree stay attached.
    pub fn keep(mut self) {
        self.tree = None;
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(tree) = &self.tree {
            if let Err(why) = unmount(tree.as_fd()) {
                log::error!("a mount could not be taken back: {why}");
            }
        }
    }
}

/// Unmounts what a descriptor is the root of. By descriptor, because a path
/// might lead to something mounted meanwhile.
fn unmount(root: BorrowedFd<'_>) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", root.as_raw_fd());
    Ok(rustix::mount::unmount(path, UnmountFlags::DETACH)?)
}

impl MountPoint {
    /// Opens a directory of the host. Symlinks lead where they would lead in the
    /// host, also while the host's root is `/sysroot`.
    pub fn open(sysroot: &Path, path: &Path) -> io::Result<Self> {
        let root = open_path(sysroot)?;
        let dir = rustix::fs::openat2(
            &root,
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )?;
        Self::of(dir)
    }

    /// An open directory.
    pub fn of(dir: OwnedFd) -> io::Result<Self> {
        let occupied = is_mount_root(&dir)?;
        Ok(Self { dir, occupied })
    }

    /// Whether something is mounted on it.
    pub fn is_occupied(&self) -> bool {
        self.occupied
    }

    /// Unmounts what is mounted on it; programs that use it keep it until they end.
    pub fn unmount(self) -> io::Result<()> {
        unmount(self.dir.as_fd())
    }

    /// The directory, or the root of what is mounted on it.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(
        CWD,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Whether an open directory is the root of a mount.
pub fn is_mount_root(dir: impl AsFd) -> io::Result<bool> {
    let stat = rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
    Ok(stat.stx_attributes.bits() & STATX_ATTR_MOUNT_ROOT != 0)
}

/// Whether an open file's file system, or its mount, is read-only.
pub fn is_read_only(file: impl AsFd) -> io::Result<bool> {
    let stat = rustix::fs::fstatvfs(file)?;
    Ok(stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}
