//! A disk that writes down what reaches it.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Image, Log, Mark};

/// A block device that logs. Dropping it ends the device.
///
/// Unmount before [`Recorder::finish`]: what is still in the page cache is in
/// no log.
#[derive(Debug)]
pub struct Recorder {
    node: PathBuf,
}

impl Recorder {
    /// A device with this content. Needs root.
    pub fn new(base: Image) -> io::Result<Self> {
        let _ = base;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The block device, to be mounted.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Notes where the story stands: after all that reached the disk so far.
    pub fn mark(&self, mark: Mark) {
        let _ = mark;
    }

    /// Ends the device and returns what was logged.
    pub fn finish(self) -> io::Result<Log> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
