//! The build side: what a manifest says of a stream's file.

use std::io::{self, Write};

use op_dbus_bootstate::Digest;
use sha2::{Digest as _, Sha256};

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
#[derive(Debug, Clone)]
pub struct ChunkHasher {
    chunk_size: usize,
    whole: Sha256,
    chunk: Sha256,
    /// Bytes in `chunk` so far; less than `chunk_size` between calls.
    filled: usize,
    size: u64,
    chunks: Vec<Digest>,
}

impl ChunkHasher {
    /// For chunks of this many bytes (0 counts as 1).
    pub fn new(chunk_size: u32) -> Self {
        Self {
            chunk_size: usize::try_from(chunk_size).unwrap_or(usize::MAX).max(1),
            whole: Sha256::new(),
            chunk: Sha256::new(),
            filled: 0,
            size: 0,
            chunks: Vec::new(),
        }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        self.size = self.size.saturating_add(bytes.len() as u64);
        while !bytes.is_empty() {
            let room = self.chunk_size.saturating_sub(self.filled);
            let (now, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.chunk.update(now);
            self.filled = self.filled.saturating_add(now.len());
            if self.filled >= self.chunk_size {
                self.end_chunk();
            }
            bytes = rest;
        }
    }

    fn end_chunk(&mut self) {
        self.chunks.push(Digest(self.chunk.finalize_reset().into()));
        self.filled = 0;
    }

    /// Ends the file.
    pub fn finish(mut self) -> Written {
        if self.filled > 0 {
            self.end_chunk();
        }
        Written {
            size: self.size,
            sha256: Digest(self.whole.finalize().into()),
            chunks: self.chunks,
        }
    }
}

/// Writes through to a file, and hashes what it took.
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

    /// Ends the file; flushing and syncing it stays with the caller.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sha256(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    #[test]
    fn chunks_are_cut_at_multiples_however_the_bytes_come() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for size in [1, 7, 100, 256, 999, 1000, 1001] {
            for step in [1, 13, 256, 1000] {
                let mut writer = Writer::new(Vec::new(), size);
                for part in bytes.chunks(step) {
                    writer.write_all(part).unwrap();
                }
                let (file, written) = writer.finish();
                assert_eq!(file, bytes);
                assert_eq!((written.size, written.sha256), (1000, sha256(&bytes)));
                let expected: Vec<_> = bytes.chunks(size as usize).map(sha256).collect();
                assert_eq!(
                    written.chunks, expected,
                    "chunks of {size}, in steps of {step}"
                );
            }
        }
    }

    #[test]
    fn an_empty_file_has_no_chunks() {
        let written = ChunkHasher::new(0).finish();
        assert_eq!((written.size, written.chunks), (0, Vec::new()));
        assert_eq!(written.sha256, sha256(b""));
    }

    #[test]
    fn what_a_file_did_not_take_is_not_counted() {
        /// Takes one byte at a time.
        struct Slow(Vec<u8>);
        impl Write for Slow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.extend(bytes.first());
                Ok(bytes.len().min(1))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = Writer::new(Slow(Vec::new()), 4);
        writer.write_all(b"0123456789").unwrap();
        let (file, written) = writer.finish();
        assert_eq!(file.0, b"0123456789");
        assert_eq!((written.size, written.sha256), (10, sha256(b"0123456789")));
    }
}
