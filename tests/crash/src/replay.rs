//! Presents what power cuts left, one after the other, on a block device.
//!
//! Between two states only a few blocks differ, and what a mount writes comes
//! through to us. So the kernel may keep what it has cached of the disk, but for
//! the blocks that it wrote or that differ: these it is told to forget. A mount
//! then asks us for next to nothing. The buffer cache of the block device itself
//! is dropped whole; Btrfs has only superblocks in it.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::content::{BLOCK, Content, PageId};
use crate::disk::{Access, Disk};
use crate::moment::Walker;
use crate::server::Medium;
use crate::{Log, State, image};

/// A block device that holds one state after the other. One for each worker;
/// dropping it ends the device.
#[derive(Debug)]
pub struct Replayer {
    walker: Walker,
    disk: Disk<Scratch>,
    /// What the kernel may have in its cache.
    cached: Vec<PageId>,
}

impl Replayer {
    /// A device with the log's base image. The name is for `losetup --list`.
    /// Needs root.
    pub fn new(log: Arc<Log>, name: &str) -> io::Result<Self> {
        let content = Content::new(log.base.pool.clone(), log.base.table.clone());
        let cached = log.base.table.clone();
        let requests = Requests::default();
        let disk = Disk::new(Scratch { content, requests }, name, Access::Cached)?;
        let walker = Walker::new(log);
        Ok(Self {
            walker,
            disk,
            cached,
        })
    }

    /// The device with this state on it. What was written to it since the last
    /// call is forgotten; nothing of it may be mounted any more.
    pub fn present(&mut self, state: &State) -> io::Result<&Path> {
        self.disk.wait_until_free()?;
        let outdated = {
            let mut medium = self.disk.medium();
            medium.requests = Requests::default();
            let content = &mut medium.content;
            self.cached.clone_from(&content.table);
            self.walker
                .show(state, content)
                .map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
            differences(&self.cached, content)
        };
        self.disk.forget(outdated)?;
        Ok(self.disk.node())
    }

    /// What the mount of this state has asked for so far.
    pub fn requests(&self) -> Requests {
        self.disk.medium().requests
    }

    /// The device.
    pub fn node(&self) -> &Path {
        self.disk.node()
    }

    /// Writes what the device holds now, with all that was written since
    /// [`Replayer::present`], as a plain sparse file.
    pub fn image_to(&self, path: &Path) -> io::Result<()> {
        image::write(&self.disk.medium().content, path)
    }

    /// Ends the device; fails while it is mounted.
    pub fn close(mut self) -> io::Result<()> {
        self.disk.close()
    }
}

/// Where the disk no longer holds what it did, in bytes.
fn differences(before: &[PageId], content: &Content) -> Vec<Range<u64>> {
    let mut pieces: Vec<Range<u64>> = Vec::new();
    for (block, (before, now)) in before.iter().zip(&content.table).enumerate() {
        // Numbers of pages of its own are given out anew for every state.
        if before == now && !content.is_own(*now) {
            continue;
        }
        let start = (block * BLOCK) as u64;
        let end = start + BLOCK as u64;
        match pieces.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => pieces.push(start..end),
        }
    }
    pieces
}

/// The medium of a replayer: what is written to it stays until the next state.
#[derive(Debug)]
struct Scratch {
    content: Content,
    requests: Requests,
}

/// What reached a replayer's disk since the last state was presented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Reads that the page cache did not answer.
    pub reads: u64,
    /// What they read, in bytes.
    pub read: u64,
    /// Writes.
    pub writes: u64,
    /// What they wrote, in bytes.
    pub written: u64,
    /// Flushes.
    pub flushes: u64,
}

impl Medium for Scratch {
    fn size(&self) -> u64 {
        self.content.size()
    }

    fn read(&mut self, offset: u64, to: &mut [u8]) {
        self.requests.reads += 1;
        self.requests.read += to.len() as u64;
        self.content.read(offset, to);
    }

    fn write(&mut self, offset: u64, from: &[u8]) {
        self.requests.writes += 1;
        self.requests.written += from.len() as u64;
        self.content.write(offset, from);
    }

    fn flush(&mut self) {
        self.requests.flushes += 1;
    }
}
