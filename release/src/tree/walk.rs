//! The walk: which entries there are, in the order of the format.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};

use super::batch::{Failure, Item, Reading, open_same};
use super::order::{Order, run};
use super::{BYTES_MAX, DEPTH_MAX, ENTRIES_MAX, Found, TreeError, refuse};
use crate::manifest::Tree;

const HEADER: &[u8] = b"op-dbus tree 2\n";
/// Entries of one batch.
const BATCH_ITEMS: usize = 128;
/// Directories one batch keeps open.
const BATCH_DIRS: usize = 8;
/// Content from which on a batch takes no more entries, in bytes: large files
/// get a thread each.
const BATCH_BYTES: u64 = 1 << 20;
/// Paths of one batch, in bytes: they may be long.
const BATCH_PATHS: usize = 64 << 10;
/// Buffer for names, on their way from the kernel.
const NAMES: usize = 32 << 10;

pub(super) fn tree(root: &Path, reading: Reading, threads: usize) -> Result<Found, TreeError> {
    let fail = |path: &[u8], source| TreeError {
        path: match path {
            [] => root.to_owned(),
            path => root.join(OsStr::from_bytes(path)),
        },
        source,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(root, flags, Mode::empty());
    let fd = opened.map_err(|why| fail(&[], why.into()))?;
    let stat = rustix::fs::fstat(&fd).map_err(|why| fail(&[], why.into()))?;
    let walked = run(reading, threads, HEADER, |order| {
        let mut walk = Walk {
            order,
            device: stat.st_dev,
            path: Vec::new(),
            names: Vec::with_capacity(NAMES),
            bytes: 0,
            entries: 1,
            batch: Batch::default(),
        };
        walk.directory(fd, stat, 0)?;
        walk.flush()?;
        Ok((walk.bytes, walk.entries))
    });
    let ((bytes, entries), digest, privileged) =
        walked.map_err(|failure| fail(&failure.path, failure.why))?;
    let tree = Tree {
        digest,
        bytes,
        entries,
    };
    Ok(Found { tree, privileged })
}

#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    dirs: usize,
    bytes: u64,
    paths: usize,
}

struct Walk<'a, 'b> {
    order: &'a mut Order<'b>,
    device: u64,
    /// Of the entry at hand.
    path: Vec<u8>,
    names: Vec<u8>,
    bytes: u64,
    /// Those seen and those whose names are known.
    entries: u64,
    batch: Batch,
}

impl Walk<'_, '_> {
    fn failed(&self, why: io::Error) -> Failure {
        let path = self.path.clone();
        Failure { path, why }
    }

    fn directory(&mut self, fd: OwnedFd, stat: Stat, depth: usize) -> Result<(), Failure> {
        if depth > DEPTH_MAX {
            let why = format!("is nested more than {DEPTH_MAX} directories deep");
            return Err(self.failed(refuse(why)));
        }
        let names = self.names(&fd).map_err(|why| self.failed(why))?;
        let fd = Arc::new(fd);
        self.add(&fd, stat, 0)?;
        let length = self.path.len();
        for name in names {
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            self.entry(&fd, &name, depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, parent: &Arc<OwnedFd>, name: &[u8], depth: usize) -> Result<(), Failure> {
        let seen = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = seen.map_err(|why| self.failed(why.into()))?;
        // Another device number is a subvolume in the subvolume, or a mount.
        if stat.st_dev != self.device {
            let why = "belongs to another subvolume or file system";
            return Err(self.failed(refuse(why)));
        }
        let size = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let opened = open_same(parent, name, OFlags::DIRECTORY, &stat);
                let (fd, stat) = opened.map_err(|why| self.failed(why))?;
                return self.directory(fd, stat, depth + 1);
            }
            FileType::RegularFile => u64::try_from(stat.st_size).unwrap_or(0),
            _ => 0,
        };
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > BYTES_MAX {
            let why = format!("the tree holds more than {BYTES_MAX} bytes");
            return Err(self.failed(refuse(why)));
        }
        self.add(parent, stat, size)
    }

    fn add(&mut self, dir: &Arc<OwnedFd>, stat: Stat, size: u64) -> Result<(), Failure> {
        let batch = &mut self.batch;
        let last = batch.items.last();
        if !last.is_some_and(|last| Arc::ptr_eq(&last.dir, dir)) {
            batch.dirs += 1;
        }
        batch.bytes = batch.bytes.saturating_add(size);
        batch.paths = batch.paths.saturating_add(self.path.len());
        batch.items.push(Item {
            dir: Arc::clone(dir),
            path: self.path.clone(),
            stat,
        });
        let full = batch.items.len() >= BATCH_ITEMS
            || batch.dirs >= BATCH_DIRS
            || batch.bytes >= BATCH_BYTES
            || batch.paths >= BATCH_PATHS;
        if full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        self.order.push(batch.items)
    }

    /// A directory's names in the order of their bytes.
    fn names(&mut self, fd: &OwnedFd) -> io::Result<Vec<Box<[u8]>>> {
        let mut names = Vec::new();
        let mut dir = RawDir::new(fd, self.names.spare_capacity_mut());
        while let Some(entry) = dir.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                let why = format!("the tree has more than {ENTRIES_MAX} entries");
                return Err(refuse(why));
            }
            names.push(Box::from(name));
        }
        names.sort_unstable();
        Ok(names)
    }
}
