//! A block device of which every read, write and flush comes to this process: a
//! loop device on a FUSE file. Requests come as the block layer made them, past
//! the page cache.
//!
//! Discards and requests for zeros become `fallocate()`, which we refuse: the
//! block layer then writes zeros, and nothing is discarded.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::device::Device;
use crate::server::{Medium, Server, lock};

/// How long a file system may take to end after its last user.
const PATIENCE: Duration = Duration::from_secs(5);

/// A loop device on the file of a [`Server`].
#[derive(Debug)]
pub(crate) struct Disk<M> {
    medium: Arc<Mutex<M>>,
    /// Closed first: then the file system below it has no user any more.
    device: Option<Device>,
    server: Option<Server>,
}

impl<M: Medium> Disk<M> {
    pub(crate) fn new(medium: M, name: &str) -> io::Result<Self> {
        let medium = Arc::new(Mutex::new(medium));
        // Whose it is, should somebody wonder about the device.
        let name = format!("{name} {}", std::process::id()).replace('/', "-");
        let (server, file) = Server::start(medium.clone(), &name).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("no FUSE file system: {error}; run as root on a kernel with FUSE"),
            )
        })?;
        let device = Device::on(&file, true)?;
        device.announce_cache()?;
        Ok(Self {
            medium,
            device: Some(device),
            server: Some(server),
        })
    }

    /// Empty once it was closed.
    pub(crate) fn node(&self) -> &Path {
        self.device.as_ref().map_or(Path::new(""), Device::node)
    }

    pub(crate) fn medium(&self) -> MutexGuard<'_, M> {
        lock(&self.medium)
    }

    /// Ends the device; fails while it is mounted.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        if let Some(device) = &mut self.device {
            device.close()?;
        }
        self.device = None;
        match self.server.take() {
            Some(server) => server.join(PATIENCE),
            None => Ok(()),
        }
    }
}

impl<M> Drop for Disk<M> {
    /// Without patience: what is still mounted keeps the device until then.
    fn drop(&mut self) {
        self.device = None;
        if let Some(server) = self.server.take() {
            let _ = server.join(Duration::from_millis(200));
        }
    }
}
