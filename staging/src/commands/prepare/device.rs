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
    source_of(&text, &path).map(PathBuf::from).ok_or_else(|| {
        Failure::new(
            Exit::Store,
            sysroot.display(),
            "its device can't be told from /proc/self/mountinfo",
            "name it: op-dbus-stage prepare --device DEVICE",
        )
    })
}

/// The source of the mount a path lies in: the longest mount point above it, and
/// of mounts on the same point the last. Format: `proc_pid_mountinfo(5)`.
fn source_of(mountinfo: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mountinfo.lines() {
        let (mount, rest) = line.split_once(" - ")?;
        let point = unescape(mount.split(' ').nth(4)?);
        let mut rest = rest.split(' ');
        let (kind, source) = (rest.next()?, unescape(rest.next()?));
        let length = point.len();
        let is_longer = best.as_ref().is_none_or(|(known, _)| length >= *known);
        if kind == "btrfs" && is_longer && path.starts_with(&point) {
            best = Some((length, source));
        }
    }
    best.map(|(_, source)| source)
}

/// Undoes the kernel's `\040`, as in mountinfo and fstab.
pub(crate) fn unescape(text: &str) -> String {
    let mut plain = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after
            .split_at_checked(3)
            .filter(|_| first == b'\\')
            .and_then(|(digits, after)| {
                let digits = std::str::from_utf8(digits).ok()?;
                Some((u8::from_str_radix(digits, 8).ok()?, after))
            });
        let (byte, after) = octal.unwrap_or((first, after));
        plain.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mount_a_path_lies_in() {
        let text = "\
            22 1 0:20 /@ / rw,relatime shared:1 - btrfs /dev/vda2 rw,subvol=/@\n\
            23 22 0:21 / /srv rw - ext4 /dev/vdb rw\n\
            24 22 0:22 /@x /mnt\\040x rw - btrfs /dev/vdc rw\n";
        let source = |path: &str| source_of(text, Path::new(path));
        assert_eq!(source("/").as_deref(), Some("/dev/vda2"));
        assert_eq!(source("/etc").as_deref(), Some("/dev/vda2"));
        assert_eq!(source("/mnt x/sysroot").as_deref(), Some("/dev/vdc"));
    }

    #[test]
    fn escapes_are_undone_and_other_backslashes_kept() {
        assert_eq!(unescape("a\\040b\\134"), "a b\\");
        assert_eq!(unescape("\\zzz\\"), "\\zzz\\");
    }
}
