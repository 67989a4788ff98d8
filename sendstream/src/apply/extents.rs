//! Content that is not simply written: shared, compressed, allocated, punched.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use op_dbus_btrfs::Encoded;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::decode::Decoder;
use super::file::{open_file, write_all};
use super::tree::Tree;
use crate::attrs::Parsed;
use crate::error::{Problem, Shown};
use crate::wire::Attr;

/// The file cloned from last, kept open: a file is cloned in many pieces.
#[derive(Debug, Default)]
pub(crate) struct CloneSource(Option<(bool, Vec<u8>, Rc<OwnedFd>)>);

impl CloneSource {
    /// Opens a file of the subvolume itself (`own`) or of the parent.
    pub(crate) fn open(
        &mut self,
        own: bool,
        path: &[u8],
        tree: &mut Tree,
    ) -> io::Result<Rc<OwnedFd>> {
        if let Some((_, _, fd)) = self.0.as_ref().filter(|(o, p, _)| *o == own && p == path) {
            return Ok(Rc::clone(fd));
        }
        let flags = OFlags::RDONLY | OFlags::NOATIME;
        let fd = Rc::new(open_file(&tree.place(path)?, flags)?);
        self.0 = Some((own, path.to_owned(), Rc::clone(&fd)));
        Ok(fd)
    }

    /// Its path may stand for another file from now on.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

/// Writes compressed extents, as they are if the kernel takes them. It would
/// take anything and fail at the first read, so each is decompressed in any case
/// before the kernel sees it.
#[derive(Debug)]
pub(crate) struct EncodedWriter {
    decoder: Decoder,
    direct: bool,
}

impl EncodedWriter {
    /// `direct`: whether to offer the kernel compressed data at all.
    pub(crate) fn new(direct: bool) -> Self {
        Self {
            decoder: Decoder::new(),
            direct,
        }
    }

    pub(crate) fn write(
        &mut self,
        fd: &OwnedFd,
        path: &[u8],
        parsed: &Parsed<'_>,
    ) -> Result<(), Problem> {
        let extent = Encoded {
            offset: parsed.u64(Attr::FileOffset)?,
            len: parsed.u64(Attr::UnencodedFileLen)?,
            unencoded_len: parsed.u64(Attr::UnencodedLen)?,
            unencoded_offset: parsed.u64(Attr::UnencodedOffset)?,
            compression: parsed.u32(Attr::Compression)?,
        };
        let data = parsed.bytes(Attr::Data)?;
        let failed = |source| Problem::Apply {
            operation: "write compressed",
            path: Shown::new(path),
            source,
        };
        let content = self
            .decoder
            .decode(&extent, data)
            .map_err(|why| Problem::Decode(Shown::new(path), why.to_string()))?;
        if self.direct {
            let why = match op_dbus_btrfs::encoded_write(fd, &extent, data) {
                Ok(()) => return Ok(()),
                Err(why) => why,
            };
            // An old kernel, an extent it does not take in this place or with
            // this block size, or no contiguous room: as btrfs receive does.
            match why.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOTTY) => self.direct = false,
                Some(Errno::INVAL | Errno::NOSPC) => {}
                _ => return Err(failed(why)),
            }
        }
        write_all(fd, extent.offset, content).map_err(failed)
    }
}

/// `FALLOCATE`, in whatever mode: the kernel knows which ones it has.
pub(crate) fn allocate(fd: &OwnedFd, parsed: &Parsed<'_>) -> Result<io::Result<()>, Problem> {
    let mode = FallocateFlags::from_bits_retain(parsed.u32(Attr::FallocateMode)?);
    let (offset, length) = (parsed.u64(Attr::FileOffset)?, parsed.u64(Attr::Size)?);
    Ok(rustix::fs::fallocate(fd, mode, offset, length).map_err(io::Error::from))
}
