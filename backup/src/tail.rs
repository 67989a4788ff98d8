//! The last bytes of the file: a digest over all the others, in a frame that
//! zstd(1) skips.

use std::fmt;
use std::io::{self, BufRead, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::error::{BackupError, Result};

/// SHA-256 of the file without these 32 bytes, which are its last.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A skippable frame's magic number and length (RFC 8878, 3.1.2), and a label.
const LABEL: &[u8; 24] = b"\x5d\x2a\x4d\x18\x30\x00\x00\x00op-dbus-backup-1";
/// Length of the whole frame.
const TAIL: usize = LABEL.len() + 32;
/// How much is read at a time.
const BUFFER: usize = 64 << 10;

/// Writes, and hashes what it writes.
#[derive(Debug)]
pub(crate) struct Hashed<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Hashed<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
        }
    }

    /// Ends the file.
    pub(crate) fn seal(mut self) -> io::Result<(W, Digest)> {
        self.write_all(LABEL)?;
        let digest = Digest(self.hash.finalize().into());
        self.inner.write_all(&digest.0)?;
        self.inner.flush()?;
        Ok((self.inner, digest))
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads all but the tail, and hashes what it gives out.
pub(crate) struct Held<R> {
    inner: R,
    buffer: Vec<u8>,
    at: usize,
    hash: Sha256,
    is_at_end: bool,
    /// What the medium failed with, as opposed to what is wrong with the bytes.
    failure: Option<io::ErrorKind>,
}

impl<R: Read> Held<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            buffer: Vec::with_capacity(BUFFER + TAIL),
            at: 0,
            hash: Sha256::new(),
            is_at_end: false,
            failure: None,
        }
    }

    /// Whether reading itself failed.
    pub(crate) fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Bytes that may be given out.
    fn ready(&self) -> usize {
        self.buffer
            .len()
            .saturating_sub(TAIL)
            .saturating_sub(self.at)
    }

    /// Reads until something may be given out, or nothing more comes.
    fn fill(&mut self) -> io::Result<()> {
        while self.ready() == 0 && !self.is_at_end {
            self.buffer.drain(..self.at);
            self.at = 0;
            let room = u64::try_from(BUFFER + TAIL - self.buffer.len()).unwrap_or(0);
            match (&mut self.inner).take(room).read_to_end(&mut self.buffer) {
                Ok(0) => self.is_at_end = true,
                Ok(_) => {}
                Err(why) => {
                    self.failure = Some(why.kind());
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// That nothing but the tail is left, and that it is right.
    pub(crate) fn finish(mut self) -> Result<Digest> {
        self.fill()?;
        if self.ready() > 0 {
            return Err(BackupError::damaged("there is something after its end"));
        }
        let tail = self.buffer.get(self.at..).unwrap_or_default();
        let Some(found) = tail.strip_prefix(LABEL.as_slice()) else {
            return Err(BackupError::damaged("it has no digest at its end"));
        };
        self.hash.update(LABEL);
        let digest = Digest(self.hash.finalize().into());
        if found != digest.0 {
            return Err(BackupError::damaged(
                "it is not what was written: its digest is another",
            ));
        }
        Ok(digest)
    }
}

impl<R: Read> Read for Held<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Held<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.fill()?;
        let ready = self.ready();
        let bytes = self.buffer.get(self.at..self.at + ready);
        Ok(bytes.unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.ready());
        let bytes = self.buffer.get(self.at..self.at + count);
        self.hash.update(bytes.unwrap_or_default());
        self.at += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(content: &[u8]) -> (Vec<u8>, Digest) {
        let mut writer = Hashed::new(Vec::new());
        writer.write_all(content).unwrap();
        writer.seal().unwrap()
    }

    #[test]
    fn all_but_the_tail_is_given_out_and_every_bit_counts() {
        for length in [0, 1, TAIL, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER] {
            let content = vec![7; length];
            let (bytes, digest) = sealed(&content);
            assert_eq!(bytes.len(), length + TAIL);
            let mut held = Held::new(&bytes[..]);
            let mut found = Vec::new();
            held.read_to_end(&mut found).unwrap();
            assert!(found == content);
            assert_eq!(held.finish().unwrap(), digest);
        }
        let (bytes, _) = sealed(b"content");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let mut held = Held::new(&changed[..]);
            io::copy(&mut held, &mut io::sink()).unwrap();
            assert!(held.finish().is_err(), "{bit}");
        }
        for length in 0..bytes.len() {
            let mut held = Held::new(&bytes[..length]);
            io::copy(&mut held, &mut io::sink()).unwrap();
            assert!(held.finish().is_err(), "{length}");
        }
    }

    #[test]
    fn what_is_not_read_is_something_after_the_end() {
        let (bytes, _) = sealed(b"content");
        assert!(Held::new(&bytes[..]).finish().is_err());
    }
}
