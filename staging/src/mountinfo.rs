//! What is mounted where: `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`). Pure.

use std::path::{Path, PathBuf};

/// Longest list that is read, in bytes.
pub(crate) const MAX: usize = 16 << 20;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// What of its file system is mounted, from that one's top level.
    pub(crate) root: PathBuf,
    /// Where.
    pub(crate) point: PathBuf,
    /// Options of this mount.
    pub(crate) options: String,
    /// Type of the file system.
    pub(crate) kind: String,
    /// What it is mounted from.
    pub(crate) source: PathBuf,
    /// Options of the file system.
    pub(crate) super_options: String,
}

impl Mount {
    /// `36 35 98:0 /root /point rw,noatime shared:1 - btrfs /dev/sda rw,subvolid=5`
    fn parse(line: &str) -> Option<Self> {
        let (mount, rest) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut rest = rest.split(' ');
        Some(Self {
            root: unescape(mount.next()?).into(),
            point: unescape(mount.next()?).into(),
            options: mount.next()?.to_owned(),
            kind: rest.next()?.to_owned(),
            source: unescape(rest.next()?).into(),
            super_options: rest.next().unwrap_or_default().to_owned(),
        })
    }

    /// Whether the mount itself is read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        has(&self.options, "ro")
    }

    /// Whether its file system is.
    pub(crate) fn is_super_read_only(&self) -> bool {
        has(&self.super_options, "ro")
    }

    /// The value of one of the file system's options.
    pub(crate) fn super_option(&self, name: &str) -> Option<String> {
        self.super_options.split(',').find_map(|option| {
            let (key, value) = option.split_once('=')?;
            (key == name).then(|| unescape(value))
        })
    }
}

fn has(options: &str, wanted: &str) -> bool {
    options.split(',').any(|option| option == wanted)
}

/// What is seen at a path: of the mounts at that very place, the last.
pub(crate) fn at(mountinfo: &str, point: &Path) -> Option<Mount> {
    mountinfo
        .lines()
        .filter_map(Mount::parse)
        .rfind(|mount| mount.point == point)
}

/// The mount that a path lies in: the longest mount point above it, and of mounts
/// at the same place the last.
pub(crate) fn holding(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mut best: Option<Mount> = None;
    for mount in mountinfo.lines().filter_map(Mount::parse) {
        let is_better =
            |best: &Mount| mount.point.components().count() >= best.point.components().count();
        if path.starts_with(&mount.point) && best.as_ref().is_none_or(is_better) {
            best = Some(mount);
        }
    }
    best
}

/// Undoes the kernel's and fstab's escapes: `\040` for a space.
pub(crate) fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        rest = match octal {
            Some(_) => after.get(3..).unwrap_or_default(),
            None => after,
        };
        plain.push(octal.unwrap_or(byte));
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "22 1 0:20 / / rw - ext4 /dev/sda1 rw\n\
        30 22 0:25 / /mnt/a\\040b rw - btrfs /dev/sdb rw,subvol=/x\\040y\n\
        31 22 0:26 / /mnt rw - tmpfs tmpfs rw\n\
        broken line\n\
        32 31 0:27 /@op-dbus /mnt/deep ro,noatime shared:5 - btrfs /dev/sdc ro,subvolid=256,subvol=/@op-dbus\n\
        33 22 0:28 / /mnt rw - xfs /dev/sdd rw\n";

    #[test]
    fn the_last_mount_of_a_place_counts() {
        let source = |path: &str| holding(LIST, Path::new(path)).map(|mount| mount.source);
        assert_eq!(source("/etc"), Some("/dev/sda1".into()));
        assert_eq!(source("/mnt/a b/c"), Some("/dev/sdb".into()));
        assert_eq!(source("/mnt/x"), Some("/dev/sdd".into()));
        assert_eq!(source("/mnt/deep"), Some("/dev/sdc".into()));
        assert_eq!(at(LIST, Path::new("/mnt")).unwrap().kind, "xfs");
        assert_eq!(at(LIST, Path::new("/etc")), None);
    }

    #[test]
    fn escapes_are_undone_and_other_backslashes_kept() {
        assert_eq!(unescape("a\\040b\\134"), "a b\\");
        assert_eq!(unescape("\\zzz\\"), "\\zzz\\");
    }

    #[test]
    fn a_mount_tells_its_parts() {
        let mount = at(LIST, Path::new("/mnt/deep")).unwrap();
        assert_eq!(mount.root, Path::new("/@op-dbus"));
        assert!(mount.is_read_only() && mount.is_super_read_only());
        assert_eq!(mount.super_option("subvolid").as_deref(), Some("256"));
        let mount = at(LIST, Path::new("/mnt/a b")).unwrap();
        assert!(!mount.is_read_only() && !mount.is_super_read_only());
        assert_eq!(mount.super_option("subvol").as_deref(), Some("/x y"));
        assert_eq!(mount.super_option("rw"), None);
    }
}
