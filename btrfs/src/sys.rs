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

/// `struct btrfs_ioctl_received_subvol_args`.
#[repr(C)]
pub(crate) struct ReceivedArgs {
    uuid: [u8; 16],
    stransid: u64,
    rtransid: u64,
    stime: Timespec,
    rtime: Timespec,
    flags: u64,
    reserved: [u64; 16],
}

/// `struct btrfs_ioctl_clone_range_args`, the kernel's `file_clone_range`.
#[repr(C)]
pub(crate) struct CloneRangeArgs {
    src_fd: i64,
    src_offset: u64,
    src_length: u64,
    dest_offset: u64,
}

/// `struct btrfs_ioctl_send_args`.
#[repr(C)]
pub(crate) struct SendArgs {
    send_fd: i64,
    clone_sources_count: u64,
    clone_sources: *const u64,
    parent_root: u64,
    flags: u64,
    version: u32,
    reserved: [u8; 28],
}

/// `struct btrfs_ioctl_fs_info_args`, as far as it is looked at.
#[repr(C)]
pub(crate) struct FsInfoArgs {
    max_id: u64,
    num_devices: u64,
    pub(crate) fsid: [u8; 16],
    rest: [u64; 124],
}

/// `BTRFS_SEND_FLAG_NO_FILE_DATA`.
const SEND_NO_FILE_DATA: u64 = 1;

/// `struct iovec`.
#[repr(C)]
struct IoVec {
    base: *const u8,
    len: usize,
}

/// `struct btrfs_ioctl_encoded_io_args`.
#[repr(C)]
pub(crate) struct EncodedArgs {
    iov: *const IoVec,
    iovcnt: std::ffi::c_ulong,
    offset: i64,
    flags: u64,
    len: u64,
    unencoded_len: u64,
    unencoded_offset: u64,
    compression: u32,
    encryption: u32,
    reserved: [u8; 64],
}

/// `struct fiemap_extent` of `uapi/linux/fiemap.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct FiemapExtent {
    pub(crate) logical: u64,
    pub(crate) physical: u64,
    pub(crate) length: u64,
    reserved: [u64; 2],
    pub(crate) flags: u32,
    reserved_too: [u32; 3],
}

/// `struct fiemap`, without the extents that follow it.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
}

/// Extents asked for at a time.
const FIEMAP_EXTENTS: usize = 64;

/// A [`Fiemap`] with room behind it.
#[repr(C)]
struct FiemapRoom {
    head: Fiemap,
    extents: [FiemapExtent; FIEMAP_EXTENTS],
}

// The kernel derives the ioctl numbers from these sizes.
const _: () = assert!(size_of::<VolArgs>() == 4096);
const _: () = assert!(size_of::<ReceivedArgs>() == 200);
const _: () = assert!(size_of::<Fiemap>() == 32);
const _: () = assert!(size_of::<FiemapRoom>() == 32 + 56 * FIEMAP_EXTENTS);
const _: () = assert!(size_of::<CloneRangeArgs>() == 32);
// Only on 64-bit targets does the structure hold no padding; the kernel has
// another ioctl number for 32-bit callers.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<EncodedArgs>() == 128);
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<SendArgs>() == 72);
const _: () = assert!(size_of::<FsInfoArgs>() == 1024);
const _: () = assert!(size_of::<VolArgsV2>() == 4096);
const _: () = assert!(size_of::<SubvolInfoArgs>() == 504);

const MAGIC: u8 = 0x94;

nix::ioctl_write_ptr!(ioc_scan_dev, MAGIC, 4, VolArgs);
nix::ioctl_none!(ioc_sync, MAGIC, 8);
nix::ioctl_write_ptr!(ioc_clone_range, MAGIC, 13, CloneRangeArgs);
nix::ioctl_write_ptr!(ioc_snap_destroy, MAGIC, 15, VolArgs);
nix::ioctl_write_ptr!(ioc_snap_create_v2, MAGIC, 23, VolArgsV2);
nix::ioctl_write_ptr!(ioc_subvol_create_v2, MAGIC, 24, VolArgsV2);
nix::ioctl_read!(ioc_subvol_getflags, MAGIC, 25, u64);
nix::ioctl_write_ptr!(ioc_subvol_setflags, MAGIC, 26, u64);
nix::ioctl_read!(ioc_fs_info, MAGIC, 31, FsInfoArgs);
nix::ioctl_readwrite!(ioc_set_received_subvol, MAGIC, 37, ReceivedArgs);
nix::ioctl_write_ptr!(ioc_send, MAGIC, 38, SendArgs);
nix::ioctl_read!(ioc_get_subvol_info, MAGIC, 60, SubvolInfoArgs);
nix::ioctl_write_ptr!(ioc_encoded_write, MAGIC, 64, EncodedArgs);
nix::ioctl_readwrite!(ioc_fiemap, b'f', 11, Fiemap);

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

/// `BTRFS_IOC_SET_RECEIVED_SUBVOL`.
pub(crate) fn set_received(
    subvolume: BorrowedFd<'_>,
    uuid: [u8; 16],
    stransid: u64,
) -> io::Result<()> {
    let mut args = ReceivedArgs {
        uuid,
        stransid,
        rtransid: 0,
        stime: Timespec::default(),
        rtime: Timespec::default(),
        flags: 0,
        reserved: [0; 16],
    };
    // SAFETY: the kernel reads and writes one structure of exactly this layout,
    // exclusively borrowed for the call.
    unsafe { ioc_set_received_subvol(subvolume.as_raw_fd(), &raw mut args) }?;
    Ok(())
}

/// `BTRFS_IOC_SEND`: the whole subvolume, as a stream of version 1.
pub(crate) fn send(
    subvolume: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    with_data: bool,
) -> io::Result<()> {
    let args = SendArgs {
        send_fd: output.as_raw_fd().into(),
        clone_sources_count: 0,
        clone_sources: std::ptr::null(),
        parent_root: 0,
        flags: if with_data { 0 } else { SEND_NO_FILE_DATA },
        version: 0,
        reserved: [0; 28],
    };
    // SAFETY: the kernel reads one structure, which outlives the call; its count
    // says that its one pointer leads to nothing. Both descriptors are borrowed.
    unsafe { ioc_send(subvolume.as_raw_fd(), &raw const args) }?;
    Ok(())
}

/// `BTRFS_IOC_FS_INFO`.
pub(crate) fn fs_info(file: BorrowedFd<'_>) -> io::Result<FsInfoArgs> {
    let mut args = FsInfoArgs {
        max_id: 0,
        num_devices: 0,
        fsid: [0; 16],
        rest: [0; 124],
    };
    // SAFETY: the kernel fills one structure of exactly this size, which is part
    // of the ioctl's number, exclusively borrowed for the call.
    unsafe { ioc_fs_info(file.as_raw_fd(), &raw mut args) }?;
    Ok(args)
}

/// `BTRFS_IOC_CLONE_RANGE`, which is also `FICLONERANGE`.
pub(crate) fn clone_range(
    source: BorrowedFd<'_>,
    from: u64,
    length: u64,
    target: BorrowedFd<'_>,
    to: u64,
) -> io::Result<()> {
    let args = CloneRangeArgs {
        src_fd: source.as_raw_fd().into(),
        src_offset: from,
        src_length: length,
        dest_offset: to,
    };
    // SAFETY: the kernel reads one structure, which outlives the call; both
    // descriptors are borrowed for it.
    unsafe { ioc_clone_range(target.as_raw_fd(), &raw const args) }?;
    Ok(())
}

/// `FS_IOC_FIEMAP`: the next extents of a file, from a place in it on.
pub(crate) fn fiemap(file: BorrowedFd<'_>, start: u64) -> io::Result<Vec<FiemapExtent>> {
    let mut room = FiemapRoom {
        head: Fiemap {
            start,
            length: u64::MAX - start,
            flags: 0,
            mapped: 0,
            count: u32::try_from(FIEMAP_EXTENTS).unwrap_or(0),
            reserved: 0,
        },
        extents: [FiemapExtent::default(); FIEMAP_EXTENTS],
    };
    // SAFETY: the kernel writes at most `count` extents behind the head, which is
    // as many as the room has; the pointer is of the whole room, and both outlive
    // the call.
    unsafe { ioc_fiemap(file.as_raw_fd(), (&raw mut room).cast::<Fiemap>()) }?;
    let mapped = usize::try_from(room.head.mapped).unwrap_or(0);
    Ok(room.extents.iter().take(mapped).copied().collect())
}

/// `BTRFS_IOC_ENCODED_WRITE`; returns how many bytes of `data` were taken.
pub(crate) fn encoded_write(
    file: BorrowedFd<'_>,
    extent: &crate::Encoded,
    data: &[u8],
) -> io::Result<usize> {
    let offset = i64::try_from(extent.offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let vector = IoVec {
        base: data.as_ptr(),
        len: data.len(),
    };
    let args = EncodedArgs {
        iov: &raw const vector,
        iovcnt: 1,
        offset,
        flags: 0,
        len: extent.len,
        unencoded_len: extent.unencoded_len,
        unencoded_offset: extent.unencoded_offset,
        compression: extent.compression,
        encryption: 0,
        reserved: [0; 64],
    };
    // SAFETY: the kernel reads one structure and, through its one vector, `data`;
    // all three outlive the call, and the count says that there is one vector.
    let taken = unsafe { ioc_encoded_write(file.as_raw_fd(), &raw const args) }?;
    usize::try_from(taken).map_err(|_| io::ErrorKind::InvalidData.into())
}
