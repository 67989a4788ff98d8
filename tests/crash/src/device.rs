//! A loop device, from its beginning to its end.
//!
//! What the loop driver makes of a request (`drivers/block/loop.c`; 6.1 and 6.18
//! agree in this, and `/sys/block/loop*/queue` says so):
//!
//! - It announces a volatile write cache where the file has an fsync, as files of
//!   FUSE and files in memory do (`blk_queue_write_cache(q, true, false)`, since
//!   6.11 `BLK_FEAT_WRITE_CACHE`), and turns a flush into one (`lo_req_flush()`).
//! - It announces no FUA. So the block layer makes a write that asks for it into
//!   a write and a flush (`REQ_FSEQ_POSTFLUSH` in `block/blk-flush.c`): a log has
//!   it as such, and no write is durable by itself.
//! - Direct I/O (`LO_FLAGS_DIRECT_IO`) changes neither. It lets requests be merged,
//!   and takes each to the file as one, past the page cache.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sys;

/// How long a device may stay busy after its last user seemed to be gone: what
/// a process leaves is cleared away a moment after its end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A volatile cache, as sysfs calls it.
const CACHE: &str = "write back";

/// A loop device on a file. It goes with this, or with the last mount of it.
#[derive(Debug)]
pub(crate) struct Device {
    node: PathBuf,
    file: Option<File>,
}

impl Device {
    /// Puts a device on a file; `direct` as the driver understands it.
    pub(crate) fn on(file: &File, direct: bool) -> io::Result<Self> {
        let (node, device) = sys::attach(file, direct).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("no loop device: {error}; run as root on a kernel with loop devices"),
            )
        })?;
        // Freed blocks are not news to be replayed. Btrfs asks the queue before it
        // discards.
        if let Some(name) = node.file_name() {
            let queue = Path::new("/sys/block").join(name).join("queue");
            let _ = std::fs::write(queue.join("discard_max_bytes"), "0");
        }
        Ok(Self {
            node,
            file: Some(device),
        })
    }

    /// Makes sure that the device announces its volatile cache. What somebody once
    /// wrote into that setting stays with the number of a loop device (since Linux
    /// 6.11), and without a cache the kernel sends no flushes at all.
    pub(crate) fn announce_cache(&self) -> io::Result<()> {
        let name = self.node.file_name().unwrap_or_default();
        let setting = Path::new("/sys/block").join(name).join("queue/write_cache");
        std::fs::write(&setting, CACHE)?;
        if std::fs::read_to_string(&setting)?.trim() == CACHE {
            return Ok(());
        }
        let setting = setting.display();
        Err(io::Error::other(format!(
            "{setting}: is not {CACHE}; record on a kernel whose loop devices pass flushes on"
        )))
    }

    pub(crate) fn node(&self) -> &Path {
        &self.node
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

    /// Drops what the kernel has cached of the device itself: Btrfs has only
    /// superblocks in there.
    pub(crate) fn forget_buffers(&self) -> io::Result<()> {
        match &self.file {
            Some(device) => sys::flush_buffers(device),
            None => Ok(()),
        }
    }

    /// Ends it; fails while it is mounted.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        self.wait_until_free()?;
        // A kernel without Btrfs has nothing to forget.
        let _ = sys::forget_btrfs(&self.node);
        self.file = None;
        Ok(())
    }
}

impl Drop for Device {
    /// Without patience: what is still mounted keeps the device until then.
    fn drop(&mut self) {
        if self.file.is_some() && sys::is_free(&self.node).unwrap_or(false) {
            let _ = sys::forget_btrfs(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    #[test]
    fn flushes_come_whatever_was_set_for_that_number_before() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let memory = Memory::new(64, "test").unwrap();
        let device = Device::on(memory.file(), true).unwrap();
        let name = device.node().file_name().unwrap();
        let setting = Path::new("/sys/block").join(name).join("queue/write_cache");
        std::fs::write(&setting, "write through").unwrap();
        let left = std::fs::read_to_string(&setting).unwrap();
        device.announce_cache().unwrap();
        assert_eq!(left.trim(), "write through");
        assert_eq!(std::fs::read_to_string(&setting).unwrap().trim(), CACHE);
    }
}
