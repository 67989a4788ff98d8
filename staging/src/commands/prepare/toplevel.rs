//! The top level of a Btrfs file system, mounted nowhere.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::device::FileSystem;
use crate::error::{Exit, Failure, Result};

/// A detached mount: it goes away with its descriptor, also when the program is killed.
#[derive(Debug)]
pub(crate) struct TopLevel {
    tree: OwnedFd,
}

impl TopLevel {
    /// Mounts the top level (subvolume id 5) of a file system.
    pub(crate) fn open(filesystem: &FileSystem) -> Result<Self> {
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = || {
            let context = rustix::mount::fsopen("btrfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            rustix::mount::fsconfig_set_string(&context, "source", &filesystem.device)?;
            rustix::mount::fsconfig_set_string(&context, "subvolid", "5")?;
            rustix::mount::fsconfig_create(&context)?;
            rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        };
        match mount() {
            Ok(tree) => Ok(Self { tree }),
            Err(why) => Err(Failure::new(
                Exit::Store,
                format_args!("{}: mount", filesystem.device.display()),
                std::io::Error::from(why),
                "see the kernel log for the reason (journalctl -k)",
            )),
        }
    }

    /// A path to something in it, for this process.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.tree.as_raw_fd())).join(inside)
    }

    /// Creates a subvolume in it. From within, because what creates subvolumes
    /// follows no link to their directory, and the path above is one.
    pub(crate) fn create_subvolume(&self, name: &str) -> Result<()> {
        let fail = |why: std::io::Error| Failure::io(format_args!("subvolume {name}: create"), why);
        let enter = |dir: &OwnedFd| rustix::process::fchdir(dir).map_err(|why| fail(why.into()));
        let before = op_dbus_btrfs::open_dir(Path::new("."))?;
        enter(&self.tree)?;
        let created = op_dbus_btrfs::create_subvolume(Path::new(name));
        enter(&before)?;
        created.map_err(|why| fail(why.source))
    }
}
