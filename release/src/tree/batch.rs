//! Reading entries: a batch at a time, by whichever thread is free.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FileType, Mode, OFlags, Stat};
use sha2::{Digest as _, Sha256};

use super::attributes::{Attribute, Attributes};
use super::{Cache, Kind, Privileged, refuse};

/// Read buffer of one thread.
const BUFFER: usize = 256 << 10;
/// A part of a result is handed over from this length on.
const PART: usize = 256 << 10;

/// What is read of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Content(Cache),
    Metadata,
}

/// An entry the walk has come across.
pub(super) struct Item {
    /// Of a directory itself, of anything else its parent.
    pub(super) dir: Arc<OwnedFd>,
    /// From the root of the tree, without leading slash.
    pub(super) path: Vec<u8>,
    /// What the walk saw.
    pub(super) stat: Stat,
}

/// A batch's contribution to the digest, or a part of it.
#[derive(Default)]
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    pub(super) privileged: Vec<Privileged>,
}

/// An entry that can't be read, by its path from the root of the tree.
pub(super) struct Failure {
    pub(super) path: Vec<u8>,
    pub(super) why: io::Error,
}

/// One thread's means to read entries.
pub(super) struct Reader<'a> {
    reading: Reading,
    /// Set once nobody wants to know any more.
    stop: &'a AtomicBool,
    attributes: Attributes,
    buffer: Vec<u8>,
    part: Part,
}

impl<'a> Reader<'a> {
    pub(super) fn new(reading: Reading, stop: &'a AtomicBool) -> Self {
        Self {
            reading,
            stop,
            attributes: Attributes::new(),
            buffer: vec![0; BUFFER],
            part: Part::default(),
        }
    }

    /// Reads a batch, and emits what it contributes in one or more parts.
    pub(super) fn batch(
        &mut self,
        items: Vec<Item>,
        emit: &mut dyn FnMut(Part),
    ) -> Result<(), Failure> {
        for item in items {
            if let Err(why) = self.item(&item) {
                let path = item.path;
                return Err(Failure { path, why });
            }
            if self.part.bytes.len() >= PART {
                emit(std::mem::take(&mut self.part));
            }
        }
        emit(std::mem::take(&mut self.part));
        Ok(())
    }

    fn item(&mut self, item: &Item) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let name = item.path.rsplit(|&byte| byte == b'/').next();
        let name = name.unwrap_or_default();
        let kind = FileType::from_raw_mode(item.stat.st_mode);
        if kind == FileType::Directory {
            let attributes = self.attributes.of(&item.dir)?;
            return self.head(b'd', item, &attributes);
        }
        if kind == FileType::RegularFile {
            let (fd, stat) = open_same(&item.dir, name, OFlags::NONBLOCK, &item.stat)?;
            let attributes = self.attributes.of(&fd)?;
            self.head(b'f', item, &attributes)?;
            if stat.st_mode & 0o6000 != 0 {
                self.privileged(item, Kind::Setuid);
            }
            return self.content(&fd, &stat);
        }
        let attributes = self.attributes.at(item.dir.as_fd(), name)?;
        match kind {
            FileType::Symlink => {
                self.head(b'l', item, &attributes)?;
                let target = rustix::fs::readlinkat(&item.dir, name, Vec::new())?;
                self.text(target.as_bytes());
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let block = kind == FileType::BlockDevice;
                self.head(if block { b'b' } else { b'c' }, item, &attributes)?;
                self.number(rustix::fs::major(item.stat.st_rdev));
                self.number(rustix::fs::minor(item.stat.st_rdev));
                self.privileged(item, Kind::Device);
            }
            FileType::Fifo => self.head(b'p', item, &attributes)?,
            FileType::Socket => self.head(b's', item, &attributes)?,
            _ => return Err(refuse("is of an unknown type")),
        }
        Ok(())
    }

    fn number(&mut self, number: u32) {
        self.part.bytes.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.part.bytes.extend((text.len() as u64).to_le_bytes());
        self.part.bytes.extend_from_slice(text);
    }

    fn privileged(&mut self, item: &Item, kind: Kind) {
        let path = item.path.clone();
        self.part.privileged.push(Privileged { path, kind });
    }

    fn head(&mut self, letter: u8, item: &Item, attributes: &[Attribute]) -> io::Result<()> {
        self.part.bytes.push(letter);
        self.number(item.stat.st_mode & 0o7777);
        self.number(item.stat.st_uid);
        self.number(item.stat.st_gid);
        self.text(&item.path);
        self.number(u32::try_from(attributes.len()).map_err(refuse)?);
        for (name, value) in attributes {
            self.text(name.as_bytes());
            self.text(value);
            if name.as_c_str() == c"security.capability" {
                self.privileged(item, Kind::Capability);
            }
        }
        Ok(())
    }

    fn content(&mut self, fd: &OwnedFd, stat: &Stat) -> io::Result<()> {
        let Reading::Content(cache) = self.reading else {
            return Ok(());
        };
        let size = u64::try_from(stat.st_size).map_err(refuse)?;
        if cache == Cache::Drop && size > 0 {
            rustix::fs::fadvise(fd, 0, None, Advice::DontNeed)?;
        }
        let mut hash = Sha256::new();
        let mut left = size;
        while left > 0 {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let buffer = self.buffer.get_mut(..most).unwrap_or_default();
            let count = match rustix::io::read(fd, &mut *buffer) {
                Ok(0) => return Err(refuse("became shorter while it was read")),
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(why) => return Err(why.into()),
            };
            hash.update(buffer.get(..count).unwrap_or_default());
            left = left.saturating_sub(count as u64);
        }
        self.part.bytes.extend(size.to_le_bytes());
        self.part.bytes.extend(hash.finalize());
        Ok(())
    }
}

/// Opens an entry that was just looked at, and only that one.
pub(super) fn open_same(
    parent: &OwnedFd,
    name: &[u8],
    how: OFlags,
    seen: &Stat,
) -> io::Result<(OwnedFd, Stat)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME | how;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if (stat.st_dev, stat.st_ino, stat.st_mode) != (seen.st_dev, seen.st_ino, seen.st_mode) {
        return Err(refuse("was replaced while it was read"));
    }
    Ok((fd, stat))
}
