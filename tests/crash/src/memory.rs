//! A sparse file in memory, whose content is within reach of this process without
//! a system call for every block.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::ptr;

use rustix::fs::{FallocateFlags, MemfdFlags, SeekFrom};
use rustix::mm::{MapFlags, ProtFlags};

use crate::content::{BLOCK, Page};

/// The file, of whole blocks, and where it is mapped.
///
/// Others write to it through the file, the loop driver above all. So no reference
/// to its content leaves this module, and what is compared or copied is meant to
/// stand still: nobody may have the device open for more than its existence.
#[derive(Debug)]
pub(crate) struct Memory {
    file: File,
    mapped: *mut c_void,
    blocks: usize,
}

// SAFETY: the mapping belongs to this value alone, wherever it is moved to.
unsafe impl Send for Memory {}

impl Memory {
    /// A file without any content. The name is what `losetup` shows of it.
    pub(crate) fn new(blocks: usize, name: &str) -> io::Result<Self> {
        let file: File = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?.into();
        let length = blocks
            .checked_mul(BLOCK)
            .ok_or(io::ErrorKind::InvalidInput)?;
        file.set_len(length as u64)?;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, where nothing is, of a file that stays as long as
        // it is: nobody makes it shorter.
        let mapped = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                length.max(1),
                rights,
                MapFlags::SHARED,
                file.as_fd(),
                0,
            )
        }?;
        Ok(Self {
            file,
            mapped,
            blocks,
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The first of these blocks that take memory; all others are zeros.
    pub(crate) fn held(&self, within: &Range<usize>) -> io::Result<Option<Range<usize>>> {
        let start = (within.start * BLOCK) as u64;
        let start = match rustix::fs::seek(&self.file, SeekFrom::Data(start)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            Err(why) => return Err(why.into()),
        };
        let block = |offset: u64| usize::try_from(offset.div_ceil(BLOCK as u64));
        let first = block(start).map_err(io::Error::other)?;
        if first >= within.end {
            return Ok(None);
        }
        let end = rustix::fs::seek(&self.file, SeekFrom::Hole(start))?;
        let end = block(end).map_err(io::Error::other)?;
        Ok(Some(first..end.min(within.end)))
    }

    fn at(&self, block: usize) -> *mut Page {
        assert!(block < self.blocks, "block {block} of {}", self.blocks);
        self.mapped.cast::<Page>().wrapping_add(block)
    }

    /// What a block holds.
    pub(crate) fn block(&self, block: usize) -> Page {
        // SAFETY: within the mapping. Should somebody write to it meanwhile, any
        // bytes are a page.
        unsafe { ptr::read_volatile(self.at(block)) }
    }

    /// Whether a block holds this.
    pub(crate) fn is(&self, block: usize, page: &Page) -> bool {
        // SAFETY: within the mapping, and by the rule of this type nobody writes to
        // it while this reference exists.
        unsafe { &*self.at(block) == page }
    }

    /// Puts a page at a block.
    pub(crate) fn put(&mut self, block: usize, page: &Page) {
        // SAFETY: within the mapping, which nothing in this process refers to; a
        // page is somewhere else.
        unsafe { ptr::copy_nonoverlapping(page, self.at(block), 1) }
    }

    /// Makes these blocks zeros, and gives their memory back.
    pub(crate) fn clear(&mut self, blocks: &Range<usize>) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (start, length) = (blocks.start * BLOCK, blocks.len() * BLOCK);
        rustix::fs::fallocate(&self.file, flags, start as u64, length as u64)?;
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.mapped, (self.blocks * BLOCK).max(1)) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn what_the_file_holds_is_what_is_seen() {
        let mut memory = Memory::new(100, "test").unwrap();
        let held = |memory: &Memory, within| memory.held(&within).unwrap();
        assert_eq!(held(&memory, 0..100), None);
        memory.put(7, &[7; BLOCK]);
        memory.put(8, &[8; BLOCK]);
        let mut page = [0; BLOCK];
        let offset = 8 * BLOCK as u64;
        memory.file().read_exact_at(&mut page, offset).unwrap();
        assert_eq!(page, [8; BLOCK]);
        memory.file().write_all_at(&[1; 3], offset + 4093).unwrap();
        page[4093..].fill(1);
        assert!(memory.is(8, &page));
        assert!(!memory.is(8, &[8; BLOCK]));
        assert_eq!(memory.block(8), page);
        memory.put(99, &page);
        assert_eq!(held(&memory, 0..100), Some(7..9));
        assert_eq!(held(&memory, 8..9), Some(8..9));
        assert_eq!(held(&memory, 9..99), None);
        assert_eq!(held(&memory, 9..100), Some(99..100));
        memory.clear(&(8..100)).unwrap();
        assert_eq!(held(&memory, 0..100), Some(7..8));
        assert_eq!(held(&memory, 8..100), None);
        assert_eq!(memory.block(99), [0; BLOCK]);
    }
}
