//! Presents what power cuts left, one after the other, on a block device: a loop
//! device on a file in memory, so that a mount asks nobody but the kernel.
//!
//! Nobody tells what a mount wrote. Before the next state every block that takes
//! memory is compared with what it has to be, which is cheaper than to hear of
//! every request; what differs is written, and what has to be zeros is given back.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::content::{Content, PageId};
use crate::device::Device;
use crate::memory::Memory;
use crate::moment::Walker;
use crate::{Log, State, image};

/// A block device that holds one state after the other. One for each worker;
/// dropping it ends the device.
#[derive(Debug)]
pub struct Replayer {
    walker: Walker,
    /// What the device has to hold.
    content: Content,
    memory: Memory,
    device: Device,
}

impl Replayer {
    /// A device with the log's base image. The name is for `losetup --list`.
    /// Needs root.
    pub fn new(log: Arc<Log>, name: &str) -> io::Result<Self> {
        let content = Content::new(log.base.pool.clone(), log.base.table.clone());
        // Whose it is, should somebody wonder about the device.
        let name = format!("{name} {}", std::process::id()).replace('/', "-");
        let mut memory = Memory::new(content.table.len(), &name)?;
        fill(&mut memory, &content)?;
        Ok(Self {
            walker: Walker::new(log),
            content,
            device: Device::on(memory.file(), false)?,
            memory,
        })
    }

    /// The device with this state on it. What was written to it since the last
    /// call is forgotten; nothing of it may be mounted any more.
    pub fn present(&mut self, state: &State) -> io::Result<&Path> {
        self.device.wait_until_free()?;
        self.walker
            .show(state, &mut self.content)
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        fill(&mut self.memory, &self.content)?;
        self.device.forget_buffers()?;
        Ok(self.device.node())
    }

    /// The device.
    pub fn node(&self) -> &Path {
        self.device.node()
    }

    /// Writes what the device holds now, with all that was written since
    /// [`Replayer::present`], as a plain sparse file. Nothing of it may be mounted.
    pub fn image_to(&self, path: &Path) -> io::Result<()> {
        let end = self.content.table.len();
        let (mut held, mut from) = (Vec::new(), 0);
        while let Some(range) = self.memory.held(&(from..end))? {
            from = range.end;
            held.extend(range);
        }
        let pages = held.iter().map(|&block| (block, self.memory.block(block)));
        image::write_blocks(self.content.size(), pages, path)
    }

    /// Ends the device; fails while it is mounted.
    pub fn close(mut self) -> io::Result<()> {
        self.device.close()
    }
}

/// Makes a file hold a content, whatever it holds.
fn fill(memory: &mut Memory, content: &Content) -> io::Result<()> {
    let zero = |id: &PageId| *id == PageId::ZERO;
    let mut first = 0;
    for alike in content.table.chunk_by(|one, next| zero(one) == zero(next)) {
        let blocks = first..first + alike.len();
        first = blocks.end;
        if alike.first().is_some_and(zero) {
            if memory.held(&blocks)?.is_some() {
                memory.clear(&blocks)?;
            }
            continue;
        }
        for (block, id) in blocks.zip(alike) {
            let page = content.page(*id);
            if !memory.is(block, page) {
                memory.put(block, page);
            }
        }
    }
    Ok(())
}
