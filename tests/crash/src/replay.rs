//! Presents what power cuts left, one after the other, on a block device: a loop
//! device on a file in memory, so that a mount asks nobody but the kernel.
//!
//! The kernel tells which blocks were written to ([`Writes`]). Before the next
//! state these, and those that differ between the two, get what they have to hold.
//! That all was told is not taken on trust: every now and then, and always where
//! nobody tells, every block that takes memory is compared, and what has to be
//! zeros is given back.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::content::{Content, PageId};
use crate::device::Device;
use crate::memory::Memory;
use crate::moment::Walker;
use crate::writes::Writes;
use crate::{Log, State, image};

/// Of so many states one is compared in every block. Until then blocks that became
/// zeros keep their memory.
const EVERY: u32 = 32;
/// Blocks that are looked at in one go.
const CHUNK: usize = 256;

/// A block device that holds one state after the other. One for each worker;
/// dropping it ends the device.
#[derive(Debug)]
pub struct Replayer {
    walker: Walker,
    /// What the device has to hold.
    content: Content,
    memory: Memory,
    device: Device,
    /// None where the kernel does not tell.
    writes: Option<Writes>,
    /// What the device held before somebody wrote to it.
    shown: Vec<PageId>,
    states: u32,
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
        let device = Device::on(memory.file(), false)?;
        Ok(Self {
            walker: Walker::new(log),
            shown: content.table.clone(),
            content,
            writes: Writes::to(device.node()).ok(),
            device,
            memory,
            states: 0,
        })
    }

    /// The device with this state on it. What was written to it since the last
    /// call is forgotten; nothing of it may be mounted any more.
    pub fn present(&mut self, state: &State) -> io::Result<&Path> {
        self.device.wait_until_free()?;
        self.shown.clone_from(&self.content.table);
        self.walker
            .show(state, &mut self.content)
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        self.device.forget_buffers()?;
        let written = self.writes.as_mut().and_then(Writes::take);
        if let Some(written) = &written {
            exchange(&mut self.memory, &self.content, &self.shown, written);
        }
        self.states = self.states.wrapping_add(1);
        // The second one is the first that follows a mount.
        if written.is_none() || self.states % EVERY == 2 {
            let differed = fill(&mut self.memory, &self.content)?;
            if let (Some(_), Some(block)) = (written, differed) {
                let node = self.device.node().display();
                let message = format!(
                    "{node}: block {block} was written to, and the kernel did not tell of it; \
                     run it again without tracefs"
                );
                return Err(io::Error::other(message));
            }
        }
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

/// Makes a file hold a content, where it held another one and was then written to.
fn exchange(memory: &mut Memory, now: &Content, before: &[PageId], written: &[Range<usize>]) {
    let mut put = |block: usize, id: &PageId| memory.put(block, now.page(*id));
    // A page of a content's own may be another one under the same number.
    let differ = |one: &PageId, next: &PageId| one != next || now.is_own(*next);
    for (number, (before, now)) in before
        .chunks(CHUNK)
        .zip(now.table.chunks(CHUNK))
        .enumerate()
    {
        let pairs = || before.iter().zip(now);
        if pairs().any(|(one, next)| differ(one, next)) {
            for (place, (_, id)) in pairs()
                .enumerate()
                .filter(|(_, (one, next))| differ(one, next))
            {
                put(number * CHUNK + place, id);
            }
        }
    }
    for block in written.iter().cloned().flatten() {
        // A device may be a little longer than the disk.
        if let Some(id) = now.table.get(block) {
            put(block, id);
        }
    }
}

/// Makes a file hold a content, whatever it holds, and gives back the memory of
/// what has to be zeros. The first block that held something else.
fn fill(memory: &mut Memory, content: &Content) -> io::Result<Option<usize>> {
    let zero = |id: &PageId| *id == PageId::ZERO;
    let (mut first, mut differed) = (0, None);
    for alike in content.table.chunk_by(|one, next| zero(one) == zero(next)) {
        let blocks = first..first + alike.len();
        first = blocks.end;
        if alike.first().is_some_and(zero) {
            let mut rest = blocks.clone();
            while let Some(mut held) = memory.held(&rest)? {
                rest.start = held.end;
                let other = held.find(|block| !memory.is(*block, content.page(PageId::ZERO)));
                differed = differed.or(other);
            }
            if rest.start > blocks.start {
                memory.clear(&blocks)?;
            }
            continue;
        }
        for (block, id) in blocks.zip(alike) {
            let page = content.page(*id);
            if !memory.is(block, page) {
                memory.put(block, page);
                differed = differed.or(Some(block));
            }
        }
    }
    Ok(differed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::BLOCK;
    use crate::{Image, Tape};

    #[test]
    fn a_write_that_nobody_told_of_is_noticed() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let mut tape = Tape::new(Image::empty(64 * BLOCK as u64));
        tape.write(8 * BLOCK as u64, &[8; BLOCK]);
        let log = Arc::new(tape.into_log());
        let state: State = "1:prefix".parse().unwrap();
        for block in [8, 9] {
            let mut replayer = Replayer::new(Arc::clone(&log), "test").unwrap();
            if replayer.writes.is_none() {
                eprintln!("SKIPPED: needs tracefs");
                return;
            }
            replayer.present(&state).unwrap();
            replayer.memory.put(block, &[1; BLOCK]);
            let noticed = (0..EVERY).find_map(|_| replayer.present(&state).err());
            let noticed = noticed.unwrap().to_string();
            assert!(noticed.contains(&format!("block {block} ")), "{noticed}");
            for _ in 0..=EVERY {
                replayer.present(&state).unwrap();
            }
            replayer.writes = None;
            replayer.memory.put(block, &[1; BLOCK]);
            replayer.present(&state).unwrap();
            assert!(replayer.memory.is(8, &[8; BLOCK]));
            assert!(replayer.memory.is(9, &[0; BLOCK]));
        }
    }
}
