//! What can be wrong with a stream's file.

use std::io;

use super::WINDOW_LOG_MAX;

/// Why a stream's file is not the one the manifest describes. Chunks are
/// counted from 0, as in the manifest.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// The entry itself makes no sense; [`Manifest::parse`] accepts none such.
    ///
    /// [`Manifest::parse`]: crate::manifest::Manifest::parse
    #[error("the manifest has {chunks} digests for {size} bytes in chunks of {chunk_size}")]
    Entry {
        /// Digests it lists.
        chunks: usize,
        /// Length of the file it gives, in bytes.
        size: u64,
        /// Length of a chunk it gives, in bytes.
        chunk_size: u32,
    },
    /// No thread could be started to read it, or no memory is left.
    #[error("can't begin to read it: {0}")]
    Begin(io::Error),
    /// Reading failed.
    #[error("chunk {chunk} can't be read: {why}")]
    Read {
        /// The chunk that was to be read.
        chunk: usize,
        /// What the source said.
        why: io::Error,
    },
    /// The file is shorter than the manifest says.
    #[error("it ends within chunk {chunk}, after {found} of {size} bytes")]
    Short {
        /// The chunk that is not complete.
        chunk: usize,
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        size: u64,
    },
    /// A chunk has another content than the manifest says.
    #[error("chunk {chunk}, {length} bytes from {offset}, is not the one in the manifest")]
    Altered {
        /// The chunk.
        chunk: usize,
        /// Where it begins in the file, in bytes.
        offset: u64,
        /// Its length, in bytes.
        length: usize,
    },
    /// The file goes on after the last chunk.
    #[error("it goes on after the {size} bytes in the manifest")]
    Long {
        /// Bytes there should be.
        size: u64,
    },
    /// The decompressor would need a larger window than devices provide.
    #[error(
        "chunk {chunk} asks for a zstd window above {} MiB, more memory than is given to it",
        (1_u32 << WINDOW_LOG_MAX) >> 20
    )]
    Window {
        /// The chunk that asked.
        chunk: usize,
    },
    /// What is in a chunk is not zstd.
    #[error("chunk {chunk} can't be decompressed: {why}")]
    Zstd {
        /// The chunk.
        chunk: usize,
        /// What the decompressor said.
        why: &'static str,
    },
    /// The file ends within a zstd frame.
    #[error("its compressed data is not complete")]
    Unfinished,
    /// There is more in the file than the manifest says.
    #[error(
        "chunk {chunk} brings the stream within above the {stream_bytes} bytes in the manifest"
    )]
    TooMuch {
        /// The chunk that went too far.
        chunk: usize,
        /// Length of the stream by the manifest, in bytes.
        stream_bytes: u64,
    },
    /// There is less in the file than the manifest says.
    #[error("the stream within has {found} bytes; the manifest says {stream_bytes}")]
    TooLittle {
        /// Bytes there are.
        found: u64,
        /// Length of the stream by the manifest, in bytes.
        stream_bytes: u64,
    },
    /// The reading thread is gone without a word. Never seen; not taken for an end.
    #[error("reading it ended unexpectedly")]
    Lost,
}

impl ChunkError {
    /// The one an I/O error of [`Verified`](super::Verified) carries.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<ChunkError> for io::Error {
    fn from(error: ChunkError) -> Self {
        let kind = match &error {
            ChunkError::Read { why, .. } | ChunkError::Begin(why) => why.kind(),
            ChunkError::Short { .. } => io::ErrorKind::UnexpectedEof,
            ChunkError::Lost => io::ErrorKind::BrokenPipe,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
