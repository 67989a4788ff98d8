//! The file that is being written.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::tree::Place;

/// Content collected before it is written, in bytes. A stream brings at most
/// 48 KiB a command (version 1); each call costs Btrfs a reservation.
const BUFFER: usize = 1 << 20;

/// At most one file open for writing, and content on its way into it.
#[derive(Debug)]
pub(crate) struct Writer {
    open: Option<Open>,
    buffer: Vec<u8>,
    /// Where in the file the buffer's content belongs.
    start: u64,
}

#[derive(Debug)]
struct Open {
    path: Vec<u8>,
    fd: Rc<OwnedFd>,
    /// Made by this stream, and nothing but its content set so far.
    fresh: bool,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self {
            open: None,
            buffer: Vec::with_capacity(BUFFER),
            start: 0,
        }
    }

    /// The open file, if this is its path.
    pub(crate) fn get(&self, path: &[u8]) -> Option<Rc<OwnedFd>> {
        let open = self.open.as_ref().filter(|open| open.path == path)?;
        Some(Rc::clone(&open.fd))
    }

    /// Whether the open file is new and has had nothing but content so far.
    pub(crate) fn is_fresh(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.fresh)
    }

    /// The open file gets more than content.
    pub(crate) fn is_used(&mut self) {
        if let Some(open) = &mut self.open {
            open.fresh = false;
        }
    }

    /// Makes a file, which must not exist, and keeps it open.
    pub(crate) fn create(&mut self, path: &[u8], (dir, name): &Place<'_>) -> io::Result<()> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        // Most files end up with this mode, and then it need not be changed;
        // nobody else gets into the area meanwhile.
        let mode = Mode::from_raw_mode(0o644);
        let fd = rustix::fs::openat(dir.as_fd(), *name, flags | OFlags::CLOEXEC, mode)?;
        self.open = Some(Open {
            path: path.to_owned(),
            fd: Rc::new(fd),
            fresh: true,
        });
        Ok(())
    }

    /// Opens a file for writing instead of the one before.
    pub(crate) fn open(&mut self, path: &[u8], place: &Place<'_>) -> io::Result<Rc<OwnedFd>> {
        self.open = None;
        let fd = Rc::new(open_file(place, OFlags::RDWR)?);
        self.open = Some(Open {
            path: path.to_owned(),
            fd: Rc::clone(&fd),
            fresh: false,
        });
        Ok(fd)
    }

    /// Adds to the open file. Flushes first what does not fit before it.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let follows = self.start.saturating_add(self.buffer.len() as u64) == offset;
        if !follows || self.buffer.len() + data.len() > BUFFER {
            self.flush()?;
        }
        if self.buffer.is_empty() {
            self.start = offset;
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    /// Path of the file that content is waiting for.
    pub(crate) fn pending(&self) -> Option<&[u8]> {
        let open = self.open.as_ref().filter(|_| !self.buffer.is_empty())?;
        Some(&open.path)
    }

    /// Writes what was collected.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let result = match &self.open {
            Some(open) => write_all(&open.fd, self.start, &self.buffer),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        self.buffer.clear();
        result
    }

    /// Something was renamed; an open file keeps being open at its new path.
    pub(crate) fn renamed(&mut self, from: &[u8], to: &[u8]) {
        let Some(open) = &mut self.open else { return };
        if open.path == from {
            to.clone_into(&mut open.path);
        } else if super::tree::is_beneath(&open.path, from)
            || super::tree::is_beneath(&open.path, to)
        {
            self.open = None;
        }
    }

    /// Something was removed.
    pub(crate) fn removed(&mut self, path: &[u8]) {
        if self.open.as_ref().is_some_and(|open| open.path == path) {
            self.open = None;
        }
    }
}

/// Opens a file that exists. Only a regular one: opening a device is an act of
/// its own, and a FIFO would wait.
pub(crate) fn open_file((dir, name): &Place<'_>, access: OFlags) -> io::Result<OwnedFd> {
    let found = rustix::fs::statat(dir.as_fd(), *name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(
        dir.as_fd(),
        *name,
        flags,
        Mode::empty(),
    )?)
}

/// Writes all of `data`.
pub(crate) fn write_all(fd: &OwnedFd, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let written = match rustix::io::pwrite(fd, data, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(rustix::io::Errno::INTR) => continue,
            Err(why) => return Err(why.into()),
        };
        data = data.get(written..).unwrap_or_default();
        offset += written as u64;
    }
    Ok(())
}
