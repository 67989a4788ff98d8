//! The ioctls themselves, and the structures they take.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

/// `BTRFS_SUBVOL_RDONLY`.
pub(crate) const SUBVOL_RDONLY: u64 = 1 << 1;
/// Longest name of one subvolume, in bytes (`BTRFS_VOL_NAME_MAX`).
const NAME_MAX: usize = 255;

/// `struct btrfs_ioctl_vol_args`: a descriptor or a path.
#[repr(C)]
pub(crate) struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`, with its two unions as the plain bytes
/// that our calls leave zero or fill with a name.
#[repr(C)]
pub(crate) struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_timespec`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Timespec {
    sec: u64,
    nsec: u32,
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
pub(crate) struct SubvolInfoArgs {
    pub(crate) treeid: u64,
    name: [u8; 256],
    pub(crate) parent_id: u64,
    dirid: u64,
    pub(crate) generation: u64,
    pub(crate) flags: u64,
    pub(crate) uuid: [u8; 16],
    pub(crate) parent_uuid: [u8; 16],
    pub(crate) received_uuid: [u8; 16],
    pub(crate) ctransid: u64,
    pub(crate) otransid: u64,
    pub(crate) stransid: u64,
    pub(crate) rtransid: u64,
    times: [Timespec; 4],
    reserved: [u64; 8],
}

// The kernel derives the ioctl numbers from these sizes.
const _: () = assert!(size_of::<VolArgs>() == 4096);
const _: () = assert!(size_of::<VolArgsV2>() == 4096);
const _: () = assert!(size_of::<SubvolInfoArgs>() == 504);

const MAGIC: u8 = 0x94;

nix::ioctl_write_ptr!(ioc_scan_dev, MAGIC, 4, VolArgs);
nix::ioctl_none!(ioc_sync, MAGIC, 8);
nix::ioctl_write_ptr!(ioc_snap_destroy, MAGIC, 15, VolArgs);
nix::ioctl_write_ptr!(ioc_snap_create_v2, MAGIC, 23, VolArgsV2);
nix::ioctl_write_ptr!(ioc_subvol_create_v2, MAGIC, 24, VolArgsV2);
nix::ioctl_read!(ioc_subvol_getflags, MAGIC, 25, u64);
nix::ioctl_write_ptr!(ioc_subvol_setflags, MAGIC, 26, u64);
nix::ioctl_read!(ioc_get_subvol_info, MAGIC, 60, SubvolInfoArgs);

/// Copies a path or name and leaves at least one zero byte behind it.
fn fill(room: &mut [u8], text: &OsStr, max: usize) -> io::Result<()> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if bytes.len() > max || bytes.len() >= room.len() {
        return Err(rustix::io::Errno::NAMETOOLONG.into());
    }
    for (to, from) in room.iter_mut().zip(bytes) {
        *to = *from;
    }
    Ok(())
}

/// A subvolume's name is one path component.
fn fill_name(room: &mut [u8], name: &OsStr) -> io::Result<()> {
    if name.as_bytes().contains(&b'/') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    fill(room, name, NAME_MAX)
}

fn v2(name: &OsStr, fd: i64, flags: u64) -> io::Result<VolArgsV2> {
    let mut args = VolArgsV2 {
        fd,
        transid: 0,
        flags,
        unused: [0; 4],
        name: [0; 4040],
    };
    fill_name(&mut args.name, name)?;
    Ok(args)
}

/// `BTRFS_IOC_SUBVOL_CREATE_V2`: an empty subvolume in a directory.
pub(crate) fn create(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let args = v2(name, 0, 0)?;
    // SAFETY: the kernel reads one vol_args_v2, which outlives the call; its
    // name ends in a zero byte and its flags announce no pointer.
    unsafe { ioc_subvol_create_v2(parent.as_raw_fd(), &raw const args) }?;
    Ok(())
}

/// `BTRFS_IOC_SNAP_CREATE_V2`: a snapshot of a subvolume in a directory.
pub(crate) fn snapshot(
    source: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &OsStr,
    read_only: bool,
) -> io::Result<()> {
    let flags = if read_only { SUBVOL_RDONLY } else { 0 };
    let args = v2(name, source.as_raw_fd().into(), flags)?;
    // SAFETY: as in `create`; the source descriptor is borrowed for the call.
    unsafe { ioc_snap_create_v2(parent.as_raw_fd(), &raw const args) }?;
    Ok(())
}

/// `BTRFS_IOC_SNAP_DESTROY`: removes a subvolume from its directory.
pub(crate) fn destroy(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let mut args = VolArgs {
        fd: 0,
        name: [0; 4088],
    };
    fill_name(&mut args.name, name)?;
    // SAFETY: the kernel reads one vol_args, which outlives the call; its name
    // ends in a zero byte.
    unsafe { ioc_snap_destroy(parent.as_raw_fd(), &raw const args) }?;
    Ok(())
}

/// `BTRFS_IOC_SYNC`: commits, and wakes what frees the space of deleted subvolumes.
pub(crate) fn sync(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes no argument; the descriptor is borrowed for it.
    unsafe { ioc_sync(file.as_raw_fd()) }?;
    Ok(())
}

/// `BTRFS_IOC_SUBVOL_GETFLAGS`.
pub(crate) fn flags(subvolume: BorrowedFd<'_>) -> io::Result<u64> {
    let mut flags = 0;
    // SAFETY: the kernel writes one u64 to a valid, exclusively borrowed place.
    unsafe { ioc_subvol_getflags(subvolume.as_raw_fd(), &raw mut flags) }?;
    Ok(flags)
}

/// `BTRFS_IOC_SUBVOL_SETFLAGS`.
pub(crate) fn set_flags(subvolume: BorrowedFd<'_>, flags: u64) -> io::Result<()> {
    // SAFETY: the kernel reads one u64, which outlives the call.
    unsafe { ioc_subvol_setflags(subvolume.as_raw_fd(), &raw const flags) }?;
    Ok(())
}

/// `BTRFS_IOC_GET_SUBVOL_INFO`.
pub(crate) fn subvol_info(subvolume: BorrowedFd<'_>) -> io::Result<SubvolInfoArgs> {
    let mut args = SubvolInfoArgs {
        treeid: 0,
        name: [0; 256],
        parent_id: 0,
        dirid: 0,
        generation: 0,
        flags: 0,
        uuid: [0; 16],
        parent_uuid: [0; 16],
        received_uuid: [0; 16],
        ctransid: 0,
        otransid: 0,
        stransid: 0,
        rtransid: 0,
        times: [Timespec::default(); 4],
        reserved: [0; 8],
    };
    // SAFETY: the kernel fills one structure of exactly this layout (its size is
    // part of the ioctl number), exclusively borrowed for the call.
    unsafe { ioc_get_subvol_info(subvolume.as_raw_fd(), &raw mut args) }?;
    Ok(args)
}

/// `BTRFS_IOC_SCAN_DEV` on an open `/dev/btrfs-control`.
pub(crate) fn scan_dev(control: impl AsFd, device: &OsStr) -> io::Result<()> {
    let mut args = VolArgs {
        fd: 0,
        name: [0; 4088],
    };
    fill(&mut args.name, device, 4087)?;
    // SAFETY: the kernel reads one vol_args, which outlives the call; the path
    // ends in a zero byte.
    unsafe { ioc_scan_dev(control.as_fd().as_raw_fd(), &raw const args) }?;
    Ok(())
}
