//! Getting hold of the store: its device, its mount, its lock.

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::config;
use crate::device::{DeviceError, Devices};
use crate::layout::Layout;
use crate::mount;
use crate::steps::Steps;

/// The store is nothing to run programs from; the trees mounted out of it have
/// flags of their own.
const FLAGS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NOATIME);

/// How the store is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreState {
    /// Why it is read-only, if it is.
    pub read_only: Option<String>,
    /// Whether it was mounted before.
    pub reused: bool,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The place to mount it on can't be made.
    #[error("{}: make the store's mount point: {source}", path.display())]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not in that file system.
    #[error(
        "{}: no subvolume {subvolume:?}; correct [store], or make the store with: op-dbus-stage prepare",
        device.display()
    )]
    NoSubvolume {
        /// The device.
        device: PathBuf,
        /// As configured.
        subvolume: String,
    },
    /// It can't be mounted.
    #[error("{}: mount the store: {source}; check it with: btrfs check --readonly", device.display())]
    Mount {
        /// The device.
        device: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What is mounted in its place is something else.
    #[error("{}: what is mounted there is not a Btrfs subvolume; unmount it", path.display())]
    Foreign {
        /// The mount point.
        path: PathBuf,
    },
}

/// Whether the store is mounted at its place already.
pub fn mounted(layout: &Layout) -> Result<Option<StoreState>, StoreError> {
    let path = &layout.store;
    let fail = |source: io::Error| StoreError::MountPoint {
        path: path.clone(),
        source,
    };
    let dir = match op_dbus_btrfs::open_dir(path) {
        Ok(dir) => dir,
        Err(why) if why.is_not_found() => return Ok(None),
        Err(why) => return Err(fail(why.source)),
    };
    if !mount::is_mount_root(&dir).map_err(fail)? {
        return Ok(None);
    }
    if !op_dbus_btrfs::is_subvolume_fd(&dir).map_err(fail)? {
        return Err(StoreError::Foreign { path: path.clone() });
    }
    let read_only = mount::is_read_only(&dir)
        .map_err(fail)?
        .then(|| "it was mounted read-only before".to_owned());
    Ok(Some(StoreState {
        read_only,
        reused: true,
    }))
}

/// Finds the store's device and mounts the store at its place, writable if it can be.
///
/// With mount(2): the newer calls leave a superblock read-only that a read-only
/// root has made so (kernel 6.8 and later, `btrfs_reconfigure_for_mount`).
pub fn mount(
    layout: &Layout,
    config: &config::Store,
    devices: &Devices,
    steps: &mut Steps,
) -> Result<StoreState, StoreError> {
    if let Some(state) = mounted(layout)? {
        return Ok(state);
    }
    make_mount_point(layout).map_err(|source| StoreError::MountPoint {
        path: layout.store.clone(),
        source,
    })?;
    let device = devices.find(&config.device, config.wait())?;
    steps.done("device");
    let read_only = mount_device(layout, &config.subvolume, &device)?;
    Ok(StoreState {
        read_only,
        reused: false,
    })
}

fn make_mount_point(layout: &Layout) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(layout.run_dir())?;
    match DirBuilder::new().mode(0o700).create(&layout.store) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => Err(why),
        _ => Ok(()),
    }
}

/// Mounts the store; returns why it is read-only, if it is.
fn mount_device(
    layout: &Layout,
    subvolume: &str,
    device: &Path,
) -> Result<Option<String>, StoreError> {
    let refused = match try_mount(layout, subvolume, device, "", MountFlags::empty()) {
        Ok(()) => {
            // A file system that met an error before turns itself read-only.
            let read_only = fs::File::open(&layout.store)
                .and_then(mount::is_read_only)
                .unwrap_or(false);
            return Ok(read_only.then(|| "its file system is read-only".to_owned()));
        }
        Err(Errno::NOENT) => {
            return Err(StoreError::NoSubvolume {
                device: device.to_owned(),
                subvolume: subvolume.to_owned(),
            });
        }
        Err(why) => why,
    };
    // The second way is for a device that takes no writes while the file system
    // has a log to replay. The boot record does not live in that log.
    for options in ["", ",rescue=nologreplay"] {
        if try_mount(layout, subvolume, device, options, MountFlags::RDONLY).is_ok() {
            return Ok(Some(format!("mounting it writable: {refused}")));
        }
    }
    Err(StoreError::Mount {
        device: device.to_owned(),
        source: refused.into(),
    })
}

fn try_mount(
    layout: &Layout,
    subvolume: &str,
    device: &Path,
    options: &str,
    extra: MountFlags,
) -> Result<(), Errno> {
    let data = CString::new(format!("subvol=/{subvolume}{options}")).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(
        device,
        &layout.store,
        "btrfs",
        FLAGS | extra,
        data.as_c_str(),
    )
}

/// Makes a mounted store writable again, superblock included: a read-only root
/// of the same file system takes it along (`ro` in fstab).
pub fn remount_writable(layout: &Layout) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(&layout.store, FLAGS, "")?)
}
