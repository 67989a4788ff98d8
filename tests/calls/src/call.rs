//! System calls that change what a later boot sees, those that look past the
//! page cache, and those that look at a subvolume's identity.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::Pid;

use crate::memory::{of_fd, of_path, of_plain_path, text_at};

/// A call that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name, as in its manual page; of an ioctl, the request's.
    pub name: &'static str,
    /// The file it worked on.
    pub path: PathBuf,
    /// The second one, of a rename or a link; the source, of a snapshot.
    pub other: Option<PathBuf>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.path.display())?;
        match &self.other {
            Some(other) => write!(f, " {}", other.display()),
            None => Ok(()),
        }
    }
}

/// Registers with the arguments, in their order.
pub(crate) type Arguments = [u64; 6];

/// Offset of the name in `struct btrfs_ioctl_vol_args` and in its version 2.
const NAME: u64 = 8;
const NAME_V2: u64 = 56;

impl Call {
    /// What a process is about to do, if it is of interest.
    pub(crate) fn of(pid: Pid, number: i64, arguments: &Arguments) -> Option<Self> {
        let [a, b, c, d, ..] = *arguments;
        let one = |name, path: Option<PathBuf>| {
            Some(Self {
                name,
                path: path?,
                other: None,
            })
        };
        let two = |name, path: Option<PathBuf>, other: Option<PathBuf>| {
            Some(Self {
                name,
                path: path?,
                other: Some(other?),
            })
        };
        match number {
            libc::SYS_write => one("write", of_fd(pid, a)),
            libc::SYS_pwrite64 => one("pwrite64", of_fd(pid, a)),
            libc::SYS_writev => one("writev", of_fd(pid, a)),
            libc::SYS_ftruncate => one("ftruncate", of_fd(pid, a)),
            libc::SYS_fallocate => one("fallocate", of_fd(pid, a)),
            libc::SYS_copy_file_range => one("copy_file_range", of_fd(pid, c)),
            libc::SYS_fsync => one("fsync", of_fd(pid, a)),
            libc::SYS_fdatasync => one("fdatasync", of_fd(pid, a)),
            libc::SYS_syncfs => one("syncfs", of_fd(pid, a)),
            libc::SYS_setxattr => one("setxattr", of_plain_path(pid, a)),
            libc::SYS_fadvise64 => one("fadvise64", of_fd(pid, a)),
            libc::SYS_openat => creating(pid, c, of_path(pid, a, b)),
            libc::SYS_mkdir => one("mkdir", of_plain_path(pid, a)),
            libc::SYS_mkdirat => one("mkdirat", of_path(pid, a, b)),
            libc::SYS_unlink => one("unlink", of_plain_path(pid, a)),
            libc::SYS_rmdir => one("rmdir", of_plain_path(pid, a)),
            libc::SYS_unlinkat => one("unlinkat", of_path(pid, a, b)),
            libc::SYS_rename => two("rename", of_plain_path(pid, a), of_plain_path(pid, b)),
            libc::SYS_renameat | libc::SYS_renameat2 => {
                two("renameat", of_path(pid, a, b), of_path(pid, c, d))
            }
            libc::SYS_linkat => two("linkat", of_path(pid, a, b), of_path(pid, c, d)),
            libc::SYS_symlink => one("symlink", of_plain_path(pid, b)),
            libc::SYS_symlinkat => one("symlinkat", of_path(pid, b, c)),
            libc::SYS_mount => one("mount", of_plain_path(pid, b)),
            libc::SYS_move_mount => one("move_mount", of_path(pid, c, d)),
            libc::SYS_ioctl => ioctl(pid, a, b, c),
            _ => None,
        }
    }

    /// The name a change of names is about, and the directory it is in.
    pub(crate) fn directory(path: &Path) -> PathBuf {
        path.parent().unwrap_or(path).to_owned()
    }
}

/// An open that makes a file; of an existing one it changes nothing, unless it
/// empties it.
fn creating(pid: Pid, flags: u64, path: Option<PathBuf>) -> Option<Call> {
    let path = path?;
    let has = |flag: i32| u64::try_from(flag).is_ok_and(|flag| flags & flag != 0);
    let seen_from = PathBuf::from(format!("/proc/{pid}/root")).join(path.strip_prefix("/").ok()?);
    let exists = seen_from.symlink_metadata().is_ok();
    let name = match (exists, has(libc::O_CREAT), has(libc::O_TRUNC)) {
        (false, true, _) => "creat",
        (true, _, true) => "truncate",
        _ if has(libc::O_DIRECT) => "openat(O_DIRECT)",
        _ => return None,
    };
    Some(Call {
        name,
        path,
        other: None,
    })
}

fn ioctl(pid: Pid, fd: u64, request: u64, argument: u64) -> Option<Call> {
    let named = |name, offset: u64| {
        Some(Call {
            name,
            path: of_fd(pid, fd)?.join(text_at(pid, argument.checked_add(offset)?)?),
            other: None,
        })
    };
    let plain = |name| {
        Some(Call {
            name,
            path: of_fd(pid, fd)?,
            other: None,
        })
    };
    // linux/btrfs.h; the kernel reads 32 bits.
    match request & u64::from(u32::MAX) {
        0x5000_9417 => named("BTRFS_IOC_SNAP_CREATE_V2", NAME_V2),
        0x5000_9418 => named("BTRFS_IOC_SUBVOL_CREATE_V2", NAME_V2),
        0x5000_940f => named("BTRFS_IOC_SNAP_DESTROY", NAME),
        0x4008_941a => plain("BTRFS_IOC_SUBVOL_SETFLAGS"),
        0xc0c8_9425 => plain("BTRFS_IOC_SET_RECEIVED_SUBVOL"),
        0x4080_9440 => plain("BTRFS_IOC_ENCODED_WRITE"),
        0x4020_940d | 0x4004_9409 => plain("FICLONE"),
        0x9408 => plain("BTRFS_IOC_SYNC"),
        0x81f8_943c => plain("BTRFS_IOC_GET_SUBVOL_INFO"),
        _ => None,
    }
}
