//! A file system with an area to receive into, and canaries all around it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::build::PARENT;
use op_dbus_loopback::Volume;
use op_dbus_sendstream::{Destination, Incoming, Policy, StreamError, Summary};
use rustix::fs::{Mode, OFlags};

/// Name of the subvolume that is received.
pub(crate) const NAME: &str = "received";

/// Where streams are received.
pub(crate) struct World {
    volume: Volume,
    dir: tempfile::TempDir,
    area: OwnedFd,
    parent: OwnedFd,
}

/// Everything outside the area, in a form that shows every change.
pub(crate) type Listing = BTreeMap<PathBuf, String>;

pub(crate) fn open(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

/// A directory that is worth reaching from within.
fn plant(dir: &Path) {
    fs::create_dir_all(dir.join("dir")).unwrap();
    fs::write(dir.join("file"), vec![b'c'; 16384]).unwrap();
    let value = b"alive";
    let flags = rustix::fs::XattrFlags::empty();
    // Not every file system has user attributes.
    let _ = rustix::fs::setxattr(dir.join("file"), "user.canary", value, flags);
    std::os::unix::fs::symlink("file", dir.join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("fifo"),
        rustix::fs::FileType::Fifo,
        Mode::RUSR,
        0,
    )
    .unwrap();
}

impl World {
    /// None without root, loudly.
    pub(crate) fn new() -> Option<Self> {
        let dir = op_dbus_loopback::private_dir("oph")?;
        let top = dir.path().join("top");
        let volume = Volume::new(&top, 512);
        fs::create_dir(top.join("area")).unwrap();
        fs::set_permissions(top.join("area"), fs::Permissions::from_mode(0o700)).unwrap();
        plant(&top.join("secret"));
        plant(&top.join("area-sibling"));
        plant(&dir.path().join("outside"));
        fs::write(top.join("canary"), vec![b'c'; 16384]).unwrap();
        op_dbus_btrfs::create_subvolume(&top.join("parent")).unwrap();
        plant(&top.join("parent"));
        let links = top.join("parent/links");
        fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink("../../../secret", links.join("dir")).unwrap();
        std::os::unix::fs::symlink("../../../canary", links.join("file")).unwrap();
        let (area, parent) = (open(&top.join("area")), open(&top.join("parent")));
        op_dbus_btrfs::set_received(&parent, PARENT, 7).unwrap();
        op_dbus_btrfs::set_read_only(&top.join("parent"), true).unwrap();
        Some(Self {
            volume,
            dir,
            area,
            parent,
        })
    }

    pub(crate) fn top(&self) -> PathBuf {
        self.volume.top().to_owned()
    }

    pub(crate) fn area(&self) -> PathBuf {
        self.top().join("area")
    }

    /// The canaries on another file system.
    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// Receives a stream, with or without the parent to build on.
    pub(crate) fn apply(
        &self,
        source: impl std::io::Read,
        policy: &Policy,
        parent: bool,
    ) -> Result<Summary, StreamError> {
        let incoming = Incoming::open(source, policy)?;
        incoming.apply(&self.destination(parent))
    }

    /// The same, with what comes compressed not offered to the kernel.
    pub(crate) fn apply_decompressing(
        &self,
        source: impl std::io::Read,
        policy: &Policy,
        parent: bool,
    ) -> Result<Summary, StreamError> {
        let incoming = Incoming::open(source, policy)?.decompressing();
        incoming.apply(&self.destination(parent))
    }

    fn destination(&self, parent: bool) -> Destination<'_> {
        Destination {
            area: self.area.as_fd(),
            name: OsStr::new(NAME),
            parent: parent.then_some(self.parent.as_fd()),
        }
    }

    /// What lies outside the area, and what the area's own directory is like.
    pub(crate) fn listing(&self) -> Listing {
        let mut found = Listing::new();
        self.list(&self.top(), &mut found);
        self.list(&self.outside(), &mut found);
        found
    }

    fn list(&self, path: &Path, found: &mut Listing) {
        let meta = fs::symlink_metadata(path).unwrap();
        let mut facts = vec![
            format!("mode {:o}", meta.mode()),
            format!("owner {}:{}", meta.uid(), meta.gid()),
            format!("links {} device {}", meta.nlink(), meta.rdev()),
        ];
        // A subvolume coming and going changes the times of its directory.
        let area = path == self.area();
        if !area {
            facts.push(format!("size {}", meta.size()));
            facts.push(format!("mtime {}.{}", meta.mtime(), meta.mtime_nsec()));
            facts.push(format!("ctime {}.{}", meta.ctime(), meta.ctime_nsec()));
        }
        facts.extend(attributes(path));
        if meta.is_file() {
            let content = crc32c::crc32c(&fs::read(path).unwrap());
            facts.push(format!("content {content:08x}"));
        } else if meta.is_symlink() {
            facts.push(format!("to {}", fs::read_link(path).unwrap().display()));
        } else if meta.is_dir() && !area {
            for entry in fs::read_dir(path).unwrap() {
                self.list(&entry.unwrap().path(), found);
            }
        }
        found.insert(path.to_owned(), facts.join(", "));
    }

    /// The names in the area.
    pub(crate) fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.area()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Empties the area.
    pub(crate) fn clean(&self) {
        for name in self.left() {
            let path = self.area().join(name);
            if op_dbus_btrfs::is_subvolume(&path).unwrap() {
                op_dbus_btrfs::delete_subvolume(&path).unwrap();
            } else {
                fs::remove_dir_all(&path)
                    .or_else(|_| fs::remove_file(&path))
                    .unwrap();
            }
        }
    }
}

fn attributes(path: &Path) -> Vec<String> {
    let mut names = [0; 4096];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else {
        return Vec::new();
    };
    let names = names[..length].split(|byte| *byte == 0);
    let values = names.filter_map(|name| {
        let mut value = [0; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
        Some(format!(
            "{} = {}",
            name.escape_ascii(),
            value[..length].escape_ascii()
        ))
    });
    values.collect()
}

/// What differs, in words.
pub(crate) fn difference(before: &Listing, after: &Listing) -> String {
    let paths = before.keys().chain(after.keys());
    let changes = paths.filter_map(|path| {
        let (was, is) = (before.get(path), after.get(path));
        (was != is).then(|| format!("{}: was {was:?}, is {is:?}", path.display()))
    });
    changes.collect::<Vec<_>>().join("\n    ")
}
