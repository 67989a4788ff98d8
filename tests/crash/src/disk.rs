//! A block device whose content is in this process: a loop device on a FUSE file.
//!
//! What the loop driver makes of a request (`drivers/block/loop.c`; 6.1 and 6.18
//! agree in this, and `/sys/block/loop*/queue` says so):
//!
//! - It announces a volatile write cache, because FUSE files have an fsync
//!   (`blk_queue_write_cache(q, true, false)`, since 6.11
//!   `BLK_FEAT_WRITE_CACHE`), and turns a flush into one (`lo_req_flush()`).
//! - It announces no FUA. So the block layer makes a write that asks for it into
//!   a write and a flush (`REQ_FSEQ_POSTFLUSH` in `block/blk-flush.c`): the log has
//!   it as such, and no write is durable by itself.
//! - Direct I/O (`LO_FLAGS_DIRECT_IO`) changes neither. It lets requests be merged,
//!   and takes each to the file as one, past the page cache: that is how we
//!   record. Otherwise the file's page cache answers reads, and every write comes
//!   through to us at once, as we ask for no write-back cache
//!   (`FUSE_WRITEBACK_CACHE`): that is how we replay.
//! - Discards and requests for zeros become `fallocate()`, which we refuse: the
//!   block layer then writes zeros, and nothing is discarded.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::server::{Medium, Server, lock};
use crate::sys;

/// How long a device may stay busy after its last user seemed to be gone: what
/// a process leaves is cleared away a moment after its end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a loop device reads and writes its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Past the page cache: each request of the block layer comes as one.
    Direct,
    /// What was read once comes from the page cache.
    Cached,
}

/// A loop device on the file of a [`Server`].
#[derive(Debug)]
pub(crate) struct Disk<M> {
    medium: Arc<Mutex<M>>,
    node: PathBuf,
    /// Closed first, as fields go in order: the device goes, then the file
    /// system below it has no user any more.
    device: Option<File>,
    server: Option<Server>,
}

impl<M: Medium> Disk<M> {
    pub(crate) fn new(medium: M, name: &str, access: Access) -> io::Result<Self> {
        let medium = Arc::new(Mutex::new(medium));
        // Whose it is, should somebody wonder about the device.
        let name = format!("{name} {}", std::process::id()).replace('/', "-");
        let (server, file) = Server::start(medium.clone(), &name).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("no FUSE file system: {error}; run as root on a kernel with FUSE"),
            )
        })?;
        let (node, device) = sys::attach(&file, access == Access::Direct).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("no loop device: {error}; run as root on a kernel with loop devices"),
            )
        })?;
        // Freed blocks are not news to be replayed. The server refuses discards,
        // but Btrfs asks the queue.
        if let Some(name) = node.file_name() {
            let queue = Path::new("/sys/block").join(name).join("queue");
            let _ = std::fs::write(queue.join("discard_max_bytes"), "0");
        }
        Ok(Self {
            medium,
            node,
            device: Some(device),
            server: Some(server),
        })
    }

    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    pub(crate) fn medium(&self) -> MutexGuard<'_, M> {
        lock(&self.medium)
    }

    /// Waits until nothing is mounted from the device.
    pub(crate) fn wait_until_free(&self) -> io::Result<()> {
        let start = Instant::now();
        while !sys::is_free(&self.node)? {
            if start.elapsed() > PATIENCE {
                let message = format!("{}: still in use; unmount it first", self.node.display());
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Makes the kernel read these pieces anew, in bytes.
    pub(crate) fn forget(&self, pieces: Vec<Range<u64>>) -> io::Result<()> {
        if let Some(device) = &self.device {
            sys::flush_buffers(device)?;
        }
        match &self.server {
            Some(server) => server.forget(pieces),
            None => Ok(()),
        }
    }

    /// Ends the device.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        if self.device.is_none() {
            return Ok(());
        }
        self.wait_until_free()?;
        // A kernel without Btrfs has nothing to forget.
        let _ = sys::forget_btrfs(&self.node);
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
        if self.device.is_some() && sys::is_free(&self.node).unwrap_or(false) {
            let _ = sys::forget_btrfs(&self.node);
        }
        self.device = None;
        if let Some(server) = self.server.take() {
            let _ = server.join(Duration::from_millis(200));
        }
    }
}
