//! What a tree is, down to what most programs forget; and a tree of everything.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::XattrFlags;

use crate::common::noise;

/// Everything about one entry but when it was last read and its inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    modified: (i64, i64),
    links: u64,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Vec<u8>,
    /// The first path of the same inode.
    same_as: String,
}

/// A tree, by path.
pub(crate) fn describe(root: &Path) -> BTreeMap<String, Described> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    walk(root, root, &mut found, &mut inodes);
    found
}

fn walk(
    root: &Path,
    path: &Path,
    found: &mut BTreeMap<String, Described>,
    inodes: &mut BTreeMap<u64, String>,
) {
    let meta = path.symlink_metadata().unwrap();
    let shown = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
    let shown = shown.escape_ascii().to_string();
    let first = inodes.entry(meta.ino()).or_insert_with(|| shown.clone());
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let mut xattrs = BTreeMap::new();
    for name in names[..length].split(|&byte| byte == 0) {
        if name.is_empty() || name == b"trusted.op-dbus.restored" {
            continue;
        }
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value.truncate(length);
        xattrs.insert(name.to_vec(), value);
    }
    let content = match meta.file_type() {
        kind if kind.is_file() => fs::read(path).unwrap(),
        kind if kind.is_symlink() => fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let described = Described {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        device: meta.rdev(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        links: meta.nlink(),
        xattrs,
        content,
        same_as: first.clone(),
    };
    found.insert(shown, described);
    if meta.is_dir() {
        let mut children: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        children.sort();
        for child in children {
            walk(root, &child, found, inodes);
        }
    }
}

/// Blocks a file takes.
pub(crate) fn blocks(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().blocks()
}

/// Makes one of everything in a directory of an upper layer.
pub(crate) fn everything(dir: &Path) {
    let at = |name: &str| dir.join(name);
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
    };
    fs::create_dir_all(at("deep/er")).unwrap();
    fs::write(at("file"), noise(100_000)).unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::set_permissions(at("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::lchown(at("empty"), Some(1234), Some(70_000)).unwrap();
    fs::hard_link(at("file"), at("deep/er/hard")).unwrap();
    symlink("../../../../etc/passwd", at("link")).unwrap();
    symlink("/absolute", at("deep/absolute")).unwrap();
    std::os::unix::fs::lchown(at("link"), Some(1), Some(2)).unwrap();
    fs::write(dir.join(OsStr::from_bytes(b"not \xff utf8\n")), "x").unwrap();
    fs::write(at(&"n".repeat(255)), "long").unwrap();

    // Sparse: a hole, data, a hole.
    let sparse = File::create(at("sparse")).unwrap();
    sparse.write_all_at(b"middle", 5 << 20).unwrap();
    sparse.set_len(64 << 20).unwrap();
    // Allocated beyond what is written.
    let mut allocated = File::create(at("allocated")).unwrap();
    allocated.write_all(b"begin").unwrap();
    rustix::fs::fallocate(
        &allocated,
        rustix::fs::FallocateFlags::KEEP_SIZE,
        0,
        1 << 20,
    )
    .unwrap();
    // Two files that share their extents.
    allocated.sync_all().unwrap();
    let clone = File::create(at("reflink")).unwrap();
    let file = File::open(at("file")).unwrap();
    file.sync_all().unwrap();
    op_dbus_btrfs::clone_range(&file, 0, 0, &clone, 0).unwrap();

    let node = |name: &str, kind: SFlag, device| {
        mknod(&at(name), kind, Mode::from_bits_truncate(0o640), device).unwrap();
    };
    node("whiteout", SFlag::S_IFCHR, 0);
    node("null", SFlag::S_IFCHR, makedev(1, 3));
    node("loop", SFlag::S_IFBLK, makedev(7, 9));
    node("fifo", SFlag::S_IFIFO, 0);
    node("socket", SFlag::S_IFSOCK, 0);

    set(&at("deep"), "trusted.overlay.opaque", b"y");
    set(&at("deep"), "trusted.overlay.origin", &[0, 0xfb, 0x1d, 7]);
    set(&at("file"), "user.note", "für später".as_bytes());
    set(&at("empty"), "trusted.mine", b"");
    // A capability (VFS_CAP_REVISION_2, cap_net_bind_service), and an ACL: u:1000:r.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set(&at("allocated"), "security.capability", &capability);
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permission, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, 1000),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 4, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(permission.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    set(&at("empty"), "system.posix_acl_access", &acl);
    set(&at("deep/er"), "system.posix_acl_default", &acl);

    // Times before 1970, and far ahead.
    for (name, seconds) in [("empty", -5), ("link", 1 << 32), ("deep/er", 1)] {
        let time = rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: 123_456_789,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        let nofollow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, at(name), &times, nofollow).unwrap();
    }
}
