//! On which file system the store goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use op_dbus_activator::config::{Config, Device};
use op_dbus_activator::device::{DeviceError, Devices};
use op_dbus_bootstate::Uuid;
use op_dbus_btrfs::Superblock;

use crate::cli::device as cli;
use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::mountinfo;

/// A Btrfs file system.
#[derive(Debug, Clone)]
pub(crate) struct FileSystem {
    /// One of its devices.
    pub(crate) device: PathBuf,
    /// Its UUID.
    pub(crate) uuid: Uuid,
}

/// Finds the file system: the one asked for, that of the configuration, or the root's.
pub(crate) fn find(
    context: &Context,
    args: &cli::Prepare,
    existing: Option<&Config>,
) -> Result<FileSystem> {
    let wanted = args
        .device
        .as_ref()
        .or(existing.map(|config| &config.store.device));
    let device = match wanted {
        Some(device) => {
            let found = Devices::default().find(device, Duration::from_secs(2));
            found.map_err(|why| failure(device, &why))?
        }
        None => of_root(&context.layout.sysroot)?,
    };
    match Superblock::read(&device) {
        Ok(Some(superblock)) => Ok(FileSystem {
            device,
            uuid: Uuid(superblock.fsid),
        }),
        Ok(None) => Err(not_btrfs(device.display())),
        Err(why) => Err(Failure::new(
            Exit::Store,
            device.display(),
            why.source,
            "name the store's device: op-dbus-stage prepare --device DEVICE",
        )),
    }
}

fn not_btrfs(what: impl std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Store,
        what,
        "holds no Btrfs file system",
        "name a device that does: op-dbus-stage prepare --device DEVICE",
    )
}

fn failure(device: &Device, why: &DeviceError) -> Failure {
    match why {
        DeviceError::NotBtrfs { .. } => not_btrfs(device),
        DeviceError::Missing { .. } => Failure::new(
            Exit::Store,
            device,
            "there is no such device",
            "see which there are: blkid",
        ),
        DeviceError::Unreadable { why, .. } => {
            Failure::new(Exit::Store, device, why, "check the device (journalctl -k)")
        }
    }
}

/// The device the host's root is mounted from.
fn of_root(sysroot: &Path) -> Result<PathBuf> {
    let dir = op_dbus_btrfs::open_dir(sysroot)?;
    let is_btrfs =
        op_dbus_btrfs::is_btrfs(&dir).map_err(|why| Failure::io(sysroot.display(), why))?;
    if !is_btrfs {
        return Err(not_btrfs(format_args!("{}: the root", sysroot.display())));
    }
    let list = "/proc/self/mountinfo";
    let text =
        fs::read_to_string(list).map_err(|why| Failure::io(format_args!("{list}: read"), why))?;
    let path = fs::canonicalize(sysroot).map_err(|why| Failure::io(sysroot.display(), why))?;
    let mount = mountinfo::holding(&text, &path).filter(|mount| mount.kind == "btrfs");
    mount.map(|mount| mount.source).ok_or_else(|| {
        Failure::new(
            Exit::Store,
            sysroot.display(),
            "its device can't be told from /proc/self/mountinfo",
            "name it: op-dbus-stage prepare --device DEVICE",
        )
    })
}
