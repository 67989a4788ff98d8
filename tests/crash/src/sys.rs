//! Calls to the kernel that no crate wraps: loop devices, the buffer cache of a
//! block device, Btrfs' list of devices, and a table of descriptors of one's own.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;

// `<linux/loop.h>`
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
pub(crate) struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct btrfs_ioctl_vol_args`: a descriptor or a path.
#[repr(C)]
pub(crate) struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

mod ioctl {
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, super::LoopConfig);
    nix::ioctl_none_bad!(
        flush_buffers,
        nix::request_code_none!(0x12, 97) // BLKFLSBUF
    );
    nix::ioctl_write_ptr!(btrfs_forget_device, 0x94, 5, super::VolArgs);
}

/// Puts a loop device on a file. It goes with the last descriptor of it and the
/// last mount of it; the one returned is a descriptor.
pub(crate) fn attach(file: &File, direct: bool) -> io::Result<(PathBuf, File)> {
    let control = open("/dev/loop-control".as_ref())?;
    let direct = if direct { LO_FLAGS_DIRECT_IO } else { 0 };
    let config = LoopConfig {
        fd: u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?,
        block_size: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_AUTOCLEAR | direct,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // Another process may take the free one first.
    let mut attempts = 0;
    loop {
        // SAFETY: the call has no argument.
        let number = unsafe { ioctl::loop_ctl_get_free(control.as_raw_fd()) }?;
        let node = PathBuf::from(format!("/dev/loop{number}"));
        let device = open(&node)?;
        // SAFETY: the argument is a whole `struct loop_config` that outlives the
        // call, which only reads it.
        match unsafe { ioctl::loop_configure(device.as_raw_fd(), &raw const config) } {
            Ok(_) => return Ok((node, device)),
            Err(nix::errno::Errno::EBUSY) if attempts < 100 => attempts += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
        .open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Writes out and drops what the kernel has cached of a block device.
pub(crate) fn flush_buffers(device: &File) -> io::Result<()> {
    // SAFETY: the call has no argument.
    unsafe { ioctl::flush_buffers(device.as_raw_fd()) }?;
    Ok(())
}

/// Whether nobody holds the block device: no mount, no other exclusive opener.
pub(crate) fn is_free(node: &Path) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    match options.read(true).custom_flags(libc::O_EXCL).open(node) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes Btrfs forget an unmounted device, so that an older state of it can
/// appear under another name: kernels before 6.7 refuse that. Kernels that never
/// saw a Btrfs on it have nothing to forget.
pub(crate) fn forget_btrfs(node: &Path) -> io::Result<()> {
    let control = open("/dev/btrfs-control".as_ref())?;
    let mut arguments = VolArgs {
        fd: 0,
        name: [0; 4088],
    };
    let node: &OsStr = node.as_os_str();
    // The last byte stays zero.
    for (to, from) in arguments
        .name
        .iter_mut()
        .zip(node.as_bytes().iter().take(4087))
    {
        *to = *from;
    }
    // SAFETY: the argument is a whole `struct btrfs_ioctl_vol_args` that
    // outlives the call, which only reads it.
    match unsafe { ioctl::btrfs_forget_device(control.as_raw_fd(), &raw const arguments) } {
        Ok(_) | Err(nix::errno::Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Gives the calling thread, and the threads that it starts, a mount namespace
/// of their own, with nothing mounted in it.
pub(crate) fn no_mounts() -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    // Before anything else: what is unmounted here is to stay mounted elsewhere.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    match nix::mount::umount2("/", MntFlags::MNT_DETACH) {
        Ok(()) => Ok(()),
        // An initramfs can't be unmounted itself.
        Err(_) => detach_all_but_the_root(),
    }
}

fn detach_all_but_the_root() -> io::Result<()> {
    let mut mounts = File::open("/proc/thread-self/mountinfo")?;
    let mut text = String::new();
    mounts.read_to_string(&mut text)?;
    // Last come, first gone. The fifth field is where it is mounted.
    let places = text.lines().filter_map(|line| line.split(' ').nth(4));
    for place in places.filter(|place| *place != "/").rev() {
        // One that lay in another is gone already. Names with blanks in them are
        // escaped: they go with what they are in, or are left over.
        let _ = nix::mount::umount2(place, MntFlags::MNT_DETACH);
    }
    text.clear();
    mounts.rewind()?;
    mounts.read_to_string(&mut text)?;
    match text.lines().find(|line| !line.contains(" / / ")) {
        None => Ok(()),
        Some(line) => Err(io::Error::other(format!("can't be detached: {line}"))),
    }
}

/// Gives the calling thread, and the threads that it starts, a table of
/// descriptors of their own, with nothing in it but the standard three and
/// `keep`.
pub(crate) fn own_descriptors(keep: BorrowedFd<'_>) -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_FILES)?;
    let keep = keep.as_raw_fd();
    close_range(3, keep - 1)?;
    close_range(keep + 1, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: the call takes three numbers. The descriptors are of a table that
    // only this thread has: no owner of any of them is on this thread.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initramfs_keeps_only_itself() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let detach = || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            detach_all_but_the_root().map_err(|error| error.to_string())
        };
        assert_eq!(std::thread::spawn(detach).join().unwrap(), Ok(()));
        assert!(Path::new("/proc/self/mountinfo").exists());
    }
}
