//! Decompresses extents for file systems that do not take them as they are.

mod lzo;
#[cfg(test)]
mod tests;

use op_dbus_btrfs::Encoded;
use zstd::stream::raw::{DParameter, InBuffer, Operation as _, OutBuffer};

use crate::policy::ENCODED_MAX;

/// Longest extent, decompressed, in bytes.
const LONGEST: usize = 128 * 1024;
const _: () = assert!(LONGEST as u64 == ENCODED_MAX);
/// Largest window a compressed extent uses, as a power of two (`uapi/linux/btrfs.h`).
const WINDOW_LOG: u32 = 17;

// BTRFS_ENCODED_IO_COMPRESSION_* of `uapi/linux/btrfs.h`.
const ZLIB: u32 = 1;
const ZSTD: u32 = 2;
/// LZO with 4 KiB sectors; the numbers after it stand for 8 to 64 KiB.
const LZO_4K: u32 = 3;
const LZO_64K: u32 = 7;

/// Why an extent cannot be decompressed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("unknown compression {0}")]
    Unknown(u32),
    #[error("zlib: {0}")]
    Zlib(String),
    #[error("zstd: {0}")]
    Zstd(std::io::Error),
    #[error("lzo: {0}")]
    Lzo(&'static str),
    #[error("it holds nothing")]
    Empty,
    #[error("it holds more than it should")]
    Long,
}

/// Decompresses extents into one buffer of 128 KiB.
pub(crate) struct Decoder {
    buffer: Box<[u8]>,
    zstd: Option<zstd::stream::raw::Decoder<'static>>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            buffer: Box::default(),
            zstd: None,
        }
    }

    /// The part of an extent's content that belongs into the file. What the
    /// compressed data leaves out at the end is zeroes, as for the kernel.
    pub(crate) fn decode(&mut self, extent: &Encoded, data: &[u8]) -> Result<&[u8], DecodeError> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; LONGEST].into_boxed_slice();
        }
        let filled = match extent.compression {
            ZLIB => self.zlib(data)?,
            ZSTD => self.zstd(data)?,
            lzo @ LZO_4K..=LZO_64K => lzo::extent(data, 4096 << (lzo - LZO_4K), &mut self.buffer)
                .map_err(DecodeError::Lzo)?,
            unknown => return Err(DecodeError::Unknown(unknown)),
        };
        if filled == 0 {
            return Err(DecodeError::Empty);
        }
        if filled as u64 > extent.unencoded_len {
            return Err(DecodeError::Long);
        }
        if let Some(rest) = self.buffer.get_mut(filled..) {
            rest.fill(0);
        }
        let index = |number: u64| usize::try_from(number).map_err(|_| DecodeError::Long);
        let start = index(extent.unencoded_offset)?;
        let end = index(extent.unencoded_offset.saturating_add(extent.len))?;
        self.buffer.get(start..end).ok_or(DecodeError::Long)
    }

    /// One zlib stream; on disk it is padded to a sector, so what follows it
    /// means nothing.
    fn zlib(&mut self, data: &[u8]) -> Result<usize, DecodeError> {
        let data = std::iter::once(data);
        miniz_oxide::inflate::decompress_slice_iter_to_slice(&mut self.buffer, data, true, false)
            .map_err(|why| DecodeError::Zlib(format!("{why:?}")))
    }

    /// One zstd frame, padded likewise.
    fn zstd(&mut self, data: &[u8]) -> Result<usize, DecodeError> {
        let decoder = match &mut self.zstd {
            Some(decoder) => decoder,
            empty => {
                let mut decoder = zstd::stream::raw::Decoder::new().map_err(DecodeError::Zstd)?;
                decoder
                    .set_parameter(DParameter::WindowLogMax(WINDOW_LOG))
                    .map_err(DecodeError::Zstd)?;
                empty.insert(decoder)
            }
        };
        decoder.reinit().map_err(DecodeError::Zstd)?;
        let mut input = InBuffer::around(data);
        let mut output = OutBuffer::around(&mut *self.buffer);
        loop {
            let (before, room) = (input.pos(), output.pos());
            let left = decoder
                .run(&mut input, &mut output)
                .map_err(DecodeError::Zstd)?;
            if left == 0 {
                return Ok(output.pos());
            }
            if input.pos() == before && output.pos() == room {
                let why = std::io::ErrorKind::UnexpectedEof;
                return Err(DecodeError::Zstd(why.into()));
            }
        }
    }
}
