//! Extents of files, moved without copying or decompressing them.

use std::io;
use std::os::fd::AsFd;

use crate::sys;

/// Where compressed data belongs, as `BTRFS_IOC_ENCODED_WRITE` takes it. All
/// numbers are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// Where in the file.
    pub offset: u64,
    /// How much of the file it covers.
    pub len: u64,
    /// Length of the data once decompressed.
    pub unencoded_len: u64,
    /// Where in the decompressed data the file's part begins.
    pub unencoded_offset: u64,
    /// `BTRFS_ENCODED_IO_COMPRESSION_*`.
    pub compression: u32,
}

/// Writes data that is compressed already, as an extent of its own. The kernel
/// does not look into the data: what cannot be decompressed fails when it is
/// read. Kernel 5.18 or later (`ENOTTY` before); needs `CAP_SYS_ADMIN`.
pub fn encoded_write(file: impl AsFd, extent: &Encoded, data: &[u8]) -> io::Result<()> {
    let taken = sys::encoded_write(file.as_fd(), extent, data)?;
    // An extent is written whole or not at all.
    if taken != data.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Lets a range of `target` share the extents of a range of `source`.
pub fn clone_range(
    source: impl AsFd,
    from: u64,
    length: u64,
    target: impl AsFd,
    to: u64,
) -> io::Result<()> {
    sys::clone_range(source.as_fd(), from, length, target.as_fd(), to)
}

/// `FIEMAP_EXTENT_LAST`: there are no more.
const LAST: u32 = 0x1;
/// `FIEMAP_EXTENT_DELALLOC`: not written yet.
const DELALLOC: u32 = 0x4;
/// `FIEMAP_EXTENT_DATA_INLINE`: lies in metadata.
const INLINE: u32 = 0x200;
/// `FIEMAP_EXTENT_SHARED`: something else refers to it as well.
const SHARED: u32 = 0x2000;

/// Where a part of a file's content lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Its place in the file system's own numbering of its space.
    pub start: u64,
    /// Its length in bytes; of compressed data, as it is read.
    pub length: u64,
    /// Whether something else refers to it as well, within this file or not. Btrfs
    /// keeps an extent whole as long as any part of it is in use, and so does this.
    pub shared: bool,
}

/// The extents of a file, in order, without what is not written yet and what lies
/// in metadata.
pub fn extents(file: impl AsFd) -> io::Result<Vec<Extent>> {
    let mut found = Vec::new();
    let mut start = 0;
    loop {
        let extents = sys::fiemap(file.as_fd(), start)?;
        let placed = extents
            .iter()
            .filter(|extent| extent.flags & (DELALLOC | INLINE) == 0);
        found.extend(placed.map(|extent| Extent {
            start: extent.physical,
            length: extent.length,
            shared: extent.flags & SHARED != 0,
        }));
        let Some(last) = extents.last() else {
            return Ok(found);
        };
        let next = last.logical.saturating_add(last.length);
        if last.flags & LAST != 0 || next <= start || next == u64::MAX {
            return Ok(found);
        }
        start = next;
    }
}

/// Bytes of a file that lie in extents nothing else refers to: what is freed at
/// least when it alone is deleted.
pub fn unshared_bytes(file: impl AsFd) -> io::Result<u64> {
    let own = extents(file)?.into_iter().filter(|extent| !extent.shared);
    Ok(own.fold(0, |sum, extent| sum.saturating_add(extent.length)))
}
