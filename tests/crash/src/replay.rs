//! Presents what power cuts left, one after the other, on a block device.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Log, State};

/// A block device that holds one state after the other. One for each worker;
/// dropping it ends the device.
#[derive(Debug)]
pub struct Replayer {
    log: Arc<Log>,
    node: PathBuf,
}

impl Replayer {
    /// A device that has no content yet. The name is for messages. Needs root.
    pub fn new(log: Arc<Log>, name: &str) -> io::Result<Self> {
        let _ = (log, name);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The device with this state on it. What was written to it since the last
    /// call is forgotten; nothing of it may be mounted any more.
    pub fn present(&mut self, state: &State) -> io::Result<&Path> {
        let _ = state;
        Ok(&self.node)
    }

    /// Writes what the device holds now, with all that was written since
    /// [`Replayer::present`], as a plain sparse file.
    pub fn image_to(&self, path: &Path) -> io::Result<()> {
        let _ = (path, &self.log);
        Err(io::ErrorKind::Unsupported.into())
    }
}
