//! The record as one 4 KiB block.
//!
//! ```text
//! offset  size  content
//!      0     8  magic "OPDBUSBR"
//!      8     4  format, little endian
//!     12     4  length of the payload in bytes, little endian
//!     16     n  payload: the record in postcard encoding
//!  16 + n     …  zero
//!   4092     4  CRC-32 (IEEE) of bytes 0..4092, little endian
//! ```
//!
//! The CRC covers the padding, so every bit of the block is protected. One
//! block is one file-system block: it is rewritten in place, on a full disk too.

use crate::record::Record;

/// Size of an encoded record, in bytes.
pub const BLOCK: usize = 4096;
/// Newest format this crate writes and reads.
pub const FORMAT: u32 = 1;
/// Formats this crate reads, oldest first; published in `activation.json`.
pub const FORMATS_READ: &[u32] = &[1];

const MAGIC: [u8; 8] = *b"OPDBUSBR";
const HEADER: usize = 16;
const CRC_AT: usize = BLOCK - 4;
/// Room for the payload, in bytes.
pub const PAYLOAD_MAX: usize = CRC_AT - HEADER;

/// An encoded record.
pub type Block = [u8; BLOCK];

/// Why a block is not a record this crate can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not exactly [`BLOCK`] bytes.
    #[error("{0} bytes long instead of {BLOCK}")]
    Size(usize),
    /// Only zero bytes: never written, or wiped.
    #[error("empty")]
    Blank,
    /// Does not begin with the magic.
    #[error("not a boot record")]
    Magic,
    /// The checksum does not match.
    #[error("checksum mismatch")]
    Crc,
    /// Intact, but of a format written by a newer release.
    #[error("format {0} is newer than this program reads (up to {FORMAT})")]
    NewerFormat(u32),
    /// The checksum is right and the content is not: written by a broken program.
    #[error("checksum is right but the content is not a record")]
    Payload,
    /// The record does not fit a block.
    #[error("the record needs more than {PAYLOAD_MAX} bytes")]
    TooLarge,
}

/// Encodes a record.
pub fn encode(record: &Record) -> Result<Block, CodecError> {
    let mut block = [0; BLOCK];
    let (body, crc) = block.split_at_mut(CRC_AT);
    let (header, room) = body.split_at_mut(HEADER);
    let length = postcard::to_slice(record, room)
        .map_err(|_| CodecError::TooLarge)?
        .len();
    let length = u32::try_from(length).map_err(|_| CodecError::TooLarge)?;
    for (at, byte) in header.iter_mut().zip(
        MAGIC
            .into_iter()
            .chain(FORMAT.to_le_bytes())
            .chain(length.to_le_bytes()),
    ) {
        *at = byte;
    }
    crc.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    Ok(block)
}

/// Decodes a block. Memory use is bounded by the block's size.
pub fn decode(bytes: &[u8]) -> Result<Record, CodecError> {
    let block: &Block = bytes
        .try_into()
        .map_err(|_| CodecError::Size(bytes.len()))?;
    if block.iter().all(|&byte| byte == 0) {
        return Err(CodecError::Blank);
    }
    let (body, crc) = block.split_at(CRC_AT);
    let (magic, rest) = body.split_first_chunk::<8>().ok_or(CodecError::Payload)?;
    let (format, rest) = rest.split_first_chunk::<4>().ok_or(CodecError::Payload)?;
    let (length, payload) = rest.split_first_chunk::<4>().ok_or(CodecError::Payload)?;
    if *magic != MAGIC {
        return Err(CodecError::Magic);
    }
    if crc != crc32fast::hash(body).to_le_bytes() {
        return Err(CodecError::Crc);
    }
    // Magic, checksum and format stay where they are in every future format, so
    // that an old program can tell "newer" from "broken" and keeps its hands off.
    let format = u32::from_le_bytes(*format);
    if format > FORMAT {
        return Err(CodecError::NewerFormat(format));
    }
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| CodecError::Payload)?;
    let (payload, padding) = payload
        .split_at_checked(length)
        .ok_or(CodecError::Payload)?;
    match postcard::take_from_bytes(payload) {
        Ok((record, [])) if format == FORMAT && padding.iter().all(|&byte| byte == 0) => Ok(record),
        _ => Err(CodecError::Payload),
    }
}
