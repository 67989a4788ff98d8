//! A disk that writes down what reaches it.

use std::io;
use std::path::Path;

use crate::disk::Disk;
use crate::server::Medium;
use crate::{Image, Log, Mark, Tape};

/// A block device that logs. Dropping it ends the device.
///
/// Unmount before [`Recorder::finish`]: what is still in the page cache is in
/// no log.
#[derive(Debug)]
pub struct Recorder {
    disk: Disk<Tape>,
}

impl Recorder {
    /// A device with this content. Needs root.
    pub fn new(base: Image) -> io::Result<Self> {
        let disk = Disk::new(Tape::new(base), "op-dbus-crash record")?;
        Ok(Self { disk })
    }

    /// The block device, to be mounted.
    pub fn node(&self) -> &Path {
        self.disk.node()
    }

    /// Notes where the story stands: after all that reached the disk so far.
    pub fn mark(&self, mark: Mark) {
        self.disk.medium().mark(mark);
    }

    /// Ends the device and returns what was logged. Fails while it is mounted.
    pub fn finish(mut self) -> io::Result<Log> {
        self.disk.close()?;
        Ok(std::mem::take(&mut *self.disk.medium()).into_log())
    }
}

impl Medium for Tape {
    fn size(&self) -> u64 {
        Tape::size(self)
    }

    fn read(&mut self, offset: u64, to: &mut [u8]) {
        Tape::read(self, offset, to);
    }

    fn write(&mut self, offset: u64, from: &[u8]) {
        Tape::write(self, offset, from);
    }

    fn flush(&mut self) {
        Tape::flush(self);
    }
}
