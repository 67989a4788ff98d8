//! Writing a backup, from its first byte to its last.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};
use zstd::stream::write::Encoder;

use crate::error::{BackupError, Result};
use crate::name::{self, INFO, Kind, SUMS};
use crate::tail::{Digest, Hashed};
use crate::{PIECE, ustar};

/// Compression level. Higher ones take many times as long for little.
const LEVEL: i32 = 3;
/// Filler of blocks.
const ZEROS: [u8; ustar::BLOCK * 2] = [0; ustar::BLOCK * 2];

/// Writes a backup: members in ascending order of their names.
pub struct Writer<W: Write> {
    out: Encoder<'static, Hashed<W>>,
    last: String,
    sums: String,
}

/// Writes one stream, in pieces.
pub struct StreamWriter<'w, W: Write> {
    writer: &'w mut Writer<W>,
    stream: String,
    number: u32,
    piece: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a backup.
    pub fn new(out: W) -> Result<Self> {
        let mut out = Encoder::new(Hashed::new(out), LEVEL)?;
        out.include_checksum(true)?;
        Ok(Self {
            out,
            last: String::new(),
            sums: String::new(),
        })
    }

    /// A member.
    pub fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.copy(name, content.len() as u64, content)
    }

    /// A member of so many bytes, read from somewhere.
    pub fn copy(&mut self, name: &str, size: u64, content: impl Read) -> Result<()> {
        match name::kind(name) {
            Ok(Kind::File) if self.last.is_empty() == (name == INFO) => {}
            _ => return Err(BackupError::Unwritable(format!("member {name:?}"))),
        }
        self.member(name, size, content)
    }

    /// Begins a stream.
    pub fn stream(&mut self, name: &str) -> Result<StreamWriter<'_, W>> {
        match name::kind(&name::piece(name, 0)) {
            Ok(Kind::Piece(..)) if !self.last.is_empty() => Ok(StreamWriter {
                writer: self,
                stream: name.to_owned(),
                number: 0,
                piece: Vec::with_capacity(PIECE),
            }),
            _ => Err(BackupError::Unwritable(format!("stream {name:?}"))),
        }
    }

    /// Sums and digest. Nothing is durable yet.
    pub fn finish(mut self) -> Result<(W, Digest)> {
        let sums = std::mem::take(&mut self.sums);
        // Whatever its name is, it comes last.
        self.last.clear();
        self.member(SUMS, sums.len() as u64, sums.as_bytes())?;
        self.out.write_all(&ZEROS)?;
        Ok(self.out.finish()?.seal()?)
    }

    fn member(&mut self, name: &str, size: u64, content: impl Read) -> Result<()> {
        if !name::follows(name, &self.last) || size > ustar::SIZE_MAX {
            return Err(BackupError::Unwritable(format!(
                "member {name:?} of {size} bytes"
            )));
        }
        self.out.write_all(&ustar::header(name, size))?;
        let mut hashed = HashedRead {
            inner: content.take(size),
            hash: Sha256::new(),
        };
        let copied = io::copy(&mut hashed, &mut self.out)?;
        if copied != size {
            return Err(BackupError::Unwritable(format!(
                "{name} became shorter while it was read"
            )));
        }
        let padding = usize::try_from(ustar::padding(size)).unwrap_or(0);
        self.out
            .write_all(ZEROS.get(..padding).unwrap_or_default())?;
        // Writing to a string can't fail.
        let _ = writeln!(
            self.sums,
            "{}  {name}",
            Digest(hashed.hash.finalize().into())
        );
        name.clone_into(&mut self.last);
        Ok(())
    }
}

impl<W: Write> StreamWriter<'_, W> {
    /// Ends the stream.
    pub fn finish(mut self) -> Result<()> {
        // A stream of whole pieces ends with them; an empty one is one empty piece.
        if self.piece.is_empty() && self.number > 0 {
            return Ok(());
        }
        self.put()
    }

    fn put(&mut self) -> Result<()> {
        let name = name::piece(&self.stream, self.number);
        if !matches!(name::kind(&name), Ok(Kind::Piece(..))) {
            return Err(BackupError::Unwritable(format!(
                "{}: too long",
                self.stream
            )));
        }
        self.writer
            .member(&name, self.piece.len() as u64, self.piece.as_slice())?;
        self.piece.clear();
        self.number = self.number.saturating_add(1);
        Ok(())
    }
}

impl<W: Write> Write for StreamWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE.saturating_sub(self.piece.len());
        let part = bytes.get(..bytes.len().min(room)).unwrap_or_default();
        self.piece.extend_from_slice(part);
        if self.piece.len() == PIECE {
            self.put().map_err(|why| match why {
                BackupError::Io(why) => why,
                why => io::Error::other(why),
            })?;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes what is read.
struct HashedRead<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for HashedRead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
