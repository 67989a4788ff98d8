//! Named moments in a program's run: which system call, which occurrence of
//! it, and on which side.
//!
//! Text form: `NAME[@SUBSTRING]:NTH:entry|exit`, for example
//! `fdatasync:2:exit` or `pwrite64@boot/record.1:1:entry`. With a substring only
//! the calls whose file or path contains it are counted. The ioctls of Btrfs
//! have the names they have in linux/btrfs.h:
//! `BTRFS_IOC_SNAP_CREATE_V2@deploy:1:exit`.

use std::fmt;
use std::str::FromStr;

use nix::libc;

/// Where a system call names the file it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The argument of this index is a descriptor.
    Fd(usize),
    /// The argument of this index points to a path.
    Path(usize),
}

/// A system call that a moment can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Its name, as in its manual page.
    pub name: &'static str,
    /// Its number on this architecture.
    pub number: i64,
    /// Of an ioctl, which one: its second argument.
    pub request: Option<u32>,
    /// Where the file it works on is found.
    pub subjects: &'static [Subject],
}

const fn only(requests: &[u32]) -> Option<u32> {
    match requests {
        [request, ..] => Some(*request),
        [] => None,
    }
}

macro_rules! calls {
    ($($name:literal $number:ident $($request:literal)? [$($kind:ident $index:literal),*];)*) => {
        &[$(Call {
            name: $name,
            number: libc::$number,
            request: only(&[$($request)?]),
            subjects: &[$(Subject::$kind($index)),*],
        }),*]
    };
}

/// Every call that can be named: those that change what a boot later sees.
pub const CALLS: &[Call] = calls! {
    "BTRFS_IOC_ENCODED_WRITE" SYS_ioctl 0x4080_9440 [Fd 0];
    "BTRFS_IOC_SET_RECEIVED_SUBVOL" SYS_ioctl 0xc0c8_9425 [Fd 0];
    "BTRFS_IOC_SNAP_CREATE_V2" SYS_ioctl 0x5000_9417 [Fd 0];
    "BTRFS_IOC_SNAP_DESTROY" SYS_ioctl 0x5000_940f [Fd 0];
    "BTRFS_IOC_SUBVOL_CREATE_V2" SYS_ioctl 0x5000_9418 [Fd 0];
    "BTRFS_IOC_SUBVOL_SETFLAGS" SYS_ioctl 0x4008_941a [Fd 0];
    "execve" SYS_execve [Path 0];
    "fadvise64" SYS_fadvise64 [Fd 0];
    "fallocate" SYS_fallocate [Fd 0];
    "fdatasync" SYS_fdatasync [Fd 0];
    "flock" SYS_flock [Fd 0];
    "fsync" SYS_fsync [Fd 0];
    "ftruncate" SYS_ftruncate [Fd 0];
    "ioctl" SYS_ioctl [Fd 0];
    "linkat" SYS_linkat [Path 1, Path 3];
    "mkdir" SYS_mkdir [Path 0];
    "mkdirat" SYS_mkdirat [Path 1];
    "mount" SYS_mount [Path 1];
    "move_mount" SYS_move_mount [Fd 2, Path 3];
    "openat" SYS_openat [Path 1];
    "openat2" SYS_openat2 [Path 1];
    "pwrite64" SYS_pwrite64 [Fd 0];
    "rename" SYS_rename [Path 0, Path 1];
    "renameat" SYS_renameat [Path 1, Path 3];
    "renameat2" SYS_renameat2 [Path 1, Path 3];
    "rmdir" SYS_rmdir [Path 0];
    "symlinkat" SYS_symlinkat [Path 2];
    "sync" SYS_sync [];
    "syncfs" SYS_syncfs [Fd 0];
    "umount2" SYS_umount2 [Path 0];
    "unlink" SYS_unlink [Path 0];
    "unlinkat" SYS_unlinkat [Path 1];
    "write" SYS_write [Fd 0];
};

/// Before the kernel carries the call out, or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The program asked, nothing was done yet.
    Entry,
    /// The kernel is done, the program has not seen the result yet.
    Exit,
}

/// One moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The call.
    pub call: Call,
    /// Count only calls whose file or path contains this.
    pub about: Option<String>,
    /// Which of them, from 1.
    pub nth: u32,
    /// Which side of it.
    pub side: Side,
}

/// Why a text names no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' names no moment: {reason}; write NAME[@SUBSTRING]:NTH:entry|exit")]
pub struct Invalid {
    text: String,
    reason: &'static str,
}

impl FromStr for Moment {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |reason| Invalid {
            text: text.to_owned(),
            reason,
        };
        let (rest, side) = text.rsplit_once(':').ok_or(invalid("no side"))?;
        let (call, nth) = rest.rsplit_once(':').ok_or(invalid("no count"))?;
        let side = match side {
            "entry" => Side::Entry,
            "exit" => Side::Exit,
            _ => return Err(invalid("the side is neither entry nor exit")),
        };
        let nth = match nth.parse() {
            Ok(nth) if nth > 0 => nth,
            _ => return Err(invalid("the count is no number from 1")),
        };
        let (name, about) = match call.split_once('@') {
            Some((name, about)) => (name, Some(about.to_owned())),
            None => (call, None),
        };
        let call = *CALLS
            .iter()
            .find(|call| call.name == name)
            .ok_or(invalid("unknown system call"))?;
        if about.is_some() && call.subjects.is_empty() {
            return Err(invalid("this call names no file"));
        }
        Ok(Self {
            call,
            about,
            nth,
            side,
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call.name)?;
        if let Some(about) = &self.about {
            write!(f, "@{about}")?;
        }
        let side = match self.side {
            Side::Entry => "entry",
            Side::Exit => "exit",
        };
        write!(f, ":{}:{side}", self.nth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for text in [
            "fdatasync:2:exit",
            "pwrite64@boot/record.1:1:entry",
            "sync:1:exit",
            "mount@/opt/op-dbus:1:exit",
            "BTRFS_IOC_SET_RECEIVED_SUBVOL@incoming:1:entry",
        ] {
            assert_eq!(text.parse::<Moment>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_names_no_moment() {
        for text in [
            "",
            "fdatasync",
            "fdatasync:1",
            "fdatasync:0:exit",
            "fdatasync:x:exit",
            "fdatasync:1:after",
            "getpid:1:exit",
            "sync@x:1:exit",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        for (at, call) in CALLS.iter().enumerate() {
            assert!(
                CALLS[at + 1..]
                    .iter()
                    .all(|other| (other.number, other.request) != (call.number, call.request))
            );
        }
    }
}
