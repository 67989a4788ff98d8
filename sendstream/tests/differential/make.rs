//! How trees are made: one call for one thing that a file can have.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, IFlags, Mode, RenameFlags, Timespec, Timestamps,
    XattrFlags,
};

/// A small generator of numbers (SplitMix64): the same seed, the same tree,
/// whatever library is around.
#[derive(Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must not be zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    pub(crate) fn number(&mut self, from: &[u64]) -> u64 {
        from[self.index(from.len())]
    }

    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// Content: noise, text that compresses well, or both by turns.
    pub(crate) fn bytes(&mut self, length: u64) -> Vec<u8> {
        let length = usize::try_from(length).unwrap();
        let kind = self.below(3);
        let mut bytes = Vec::with_capacity(length + 64);
        while bytes.len() < length {
            let noise = kind == 0 || (kind == 2 && (bytes.len() >> 16) & 1 == 0);
            if noise {
                bytes.extend(self.next().to_le_bytes());
            } else {
                bytes.extend(format!("line {} of some text\n", self.below(50)).bytes());
            }
        }
        bytes.truncate(length);
        bytes
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Makes a file that is not there yet.
pub(crate) fn file(path: &Path, content: &[u8]) -> io::Result<()> {
    File::create_new(path)?.write_all_at(content, 0)
}

pub(crate) fn write(path: &Path, at: u64, content: &[u8]) -> io::Result<()> {
    open(path)?.write_all_at(content, at)
}

pub(crate) fn resize(path: &Path, size: u64) -> io::Result<()> {
    open(path)?.set_len(size)
}

pub(crate) fn allocate(path: &Path, mode: FallocateFlags, at: u64, length: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(open(path)?, mode, at, length)?)
}

/// Punches a hole.
pub(crate) fn punch(path: &Path, at: u64, length: u64) -> io::Result<()> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    allocate(path, mode, at, length)
}

/// Makes a range of `to` share its place on disk with one of `from`. Whole
/// blocks only; Btrfs shares them whenever it can.
pub(crate) fn share(from: &Path, at: u64, length: u64, to: &Path, to_at: u64) -> io::Result<()> {
    let (from, to) = (File::open(from)?, open(to)?);
    let length = usize::try_from(length).unwrap();
    let (mut at, mut to_at) = (at, to_at);
    rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut to_at), length)?;
    Ok(())
}

/// Makes `to` a new file that shares all content with `from`.
pub(crate) fn reflink(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (File::open(from)?, File::create_new(to)?);
    Ok(rustix::fs::ioctl_ficlone(&to, &from)?)
}

pub(crate) fn node(path: &Path, kind: FileType, mode: u32, device: (u32, u32)) -> io::Result<()> {
    let device = rustix::fs::makedev(device.0, device.1);
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), device)?;
    Ok(())
}

pub(crate) fn fifo(path: &Path) -> io::Result<()> {
    node(path, FileType::Fifo, 0o640, (0, 0))
}

pub(crate) fn swap(one: &Path, two: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(
        CWD,
        one,
        CWD,
        two,
        RenameFlags::EXCHANGE,
    )?)
}

pub(crate) fn chmod(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

pub(crate) fn chown(path: &Path, user: u32, group: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(user), Some(group))
}

/// Sets both times, of a symlink its own.
pub(crate) fn times(path: &Path, atime: (i64, i64), mtime: (i64, i64)) -> io::Result<()> {
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(atime),
        last_modification: time(mtime),
    };
    Ok(rustix::fs::utimensat(
        CWD,
        path,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

pub(crate) fn xattr(path: &Path, name: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(
        path,
        name,
        value,
        XattrFlags::empty(),
    )?)
}

pub(crate) fn no_xattr(path: &Path, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lremovexattr(path, name)?)
}

/// An access or default ACL that lets one user and one group in (`acl(5)`;
/// layout: `uapi/linux/posix_acl_xattr.h`).
pub(crate) fn acl(path: &Path, default: bool, user: u32, group: u32) -> io::Result<()> {
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 6] = [
        (0x01, 7, NOBODY), // owner
        (0x02, 6, user),
        (0x04, 5, NOBODY), // owning group
        (0x08, 4, group),
        (0x10, 7, NOBODY), // mask
        (0x20, 1, NOBODY), // everyone else
    ];
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    let name = if default { "default" } else { "access" };
    xattr(path, format!("system.posix_acl_{name}").as_bytes(), &value)
}

/// File capabilities, effective (`capabilities(7)`; layout: `struct vfs_cap_data`,
/// revision 2).
pub(crate) fn capability(path: &Path, permitted: u32) -> io::Result<()> {
    let words = [0x0200_0001, permitted, 0, 0, 0];
    let value: Vec<u8> = words
        .iter()
        .flat_map(|word: &u32| word.to_le_bytes())
        .collect();
    xattr(path, b"security.capability", &value)
}

/// Adds attributes (`chattr`).
pub(crate) fn attributes(path: &Path, more: IFlags) -> io::Result<()> {
    let file = File::open(path)?;
    let flags = rustix::fs::ioctl_getflags(&file)?;
    Ok(rustix::fs::ioctl_setflags(&file, flags | more)?)
}
