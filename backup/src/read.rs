//! Reading a backup that anyone may have written.

use std::fmt::Write as _;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};
use zstd::stream::read::Decoder;

use crate::error::{BackupError, Result};
use crate::name::{self, INFO, Kind};
use crate::tail::{Digest, Held};
use crate::{PIECE, WINDOW_LOG_MAX, ustar};

/// A member of a backup, its pieces taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file, and its length in bytes.
    File(String, u64),
    /// A stream; its length shows when it has been read.
    Stream(String),
}

/// Reads a backup from its first byte to its last, in bounded memory.
///
/// Nothing it gives out is to be believed before [`Reader::finish`].
pub struct Reader<R: Read> {
    source: Decoder<'static, Held<R>>,
    /// Bytes left of the member that is open, and those that fill its last block.
    left: u64,
    padding: u64,
    /// Its length.
    size: u64,
    hash: Sha256,
    /// The member that is open, or was last.
    last: String,
    /// Whether its sum is still to be taken.
    is_open: bool,
    /// Whether what is open is a piece that another may follow.
    stream: Option<(String, u32)>,
    /// A header that was read ahead, to see whether it is another piece's.
    ahead: Option<(String, u64, Kind)>,
    /// SHA-256 of what the sums ought to be, and their length.
    sums: Sha256,
    sums_length: u64,
    is_at_end: bool,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    pub fn new(source: R) -> Result<Self> {
        let mut source = Decoder::with_buffer(Held::new(source))?.single_frame();
        source.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Self {
            source,
            left: 0,
            padding: 0,
            size: 0,
            hash: Sha256::new(),
            last: String::new(),
            is_open: false,
            stream: None,
            ahead: None,
            sums: Sha256::new(),
            sums_length: 0,
            is_at_end: false,
        })
    }

    /// The next entry; what was not read of the one before is passed over. None
    /// once the sums were found right.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        io::copy(&mut self.content(), &mut io::sink()).map_err(|why| self.failed(&why))?;
        let Some((name, size, kind)) = self.header()? else {
            return Ok(None);
        };
        match kind {
            Kind::Sums => {
                self.check_sums(size)?;
                Ok(None)
            }
            Kind::File => {
                self.begin(&name, size)?;
                Ok(Some(Entry::File(name, size)))
            }
            Kind::Piece(stream, 0) => {
                self.begin(&name, size)?;
                self.stream = Some((stream.clone(), 0));
                Ok(Some(Entry::Stream(stream)))
            }
            Kind::Piece(..) => Err(BackupError::damaged(format!(
                "member {name}: the pieces before it are missing"
            ))),
        }
    }

    /// The content of the entry.
    pub fn content(&mut self) -> Content<'_, R> {
        Content { reader: self }
    }

    /// The content of the entry, of at most so many bytes.
    pub fn bounded(&mut self, max: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        let read = self.content().take(limit).read_to_end(&mut bytes);
        read.map_err(|why| self.failed(&why))?;
        if bytes.len() > max {
            return Err(BackupError::damaged(format!(
                "member {}: longer than {max} bytes",
                self.last
            )));
        }
        Ok(bytes)
    }

    /// That the file ends where it should, and that its digest is right.
    pub fn finish(mut self) -> Result<Digest> {
        if !self.is_at_end {
            return Err(BackupError::damaged("it was not read to its end"));
        }
        let mut more = [0];
        let count = self.source.read(&mut more);
        if count.map_err(|why| self.failed(&why))? > 0 {
            return Err(BackupError::damaged("there is something after its sums"));
        }
        self.source.finish().finish()
    }

    /// An error of reading: the medium's, or that of what is wrong with the bytes.
    pub fn failed(&self, why: &io::Error) -> BackupError {
        if let Some(own) = why
            .get_ref()
            .and_then(|own| own.downcast_ref::<BackupError>())
        {
            return match own {
                BackupError::Io(why) => BackupError::Io(same(why)),
                BackupError::Foreign(why) => BackupError::Foreign(why.clone()),
                why => BackupError::damaged(why.to_string()),
            };
        }
        if self.source.get_ref().failed() {
            return BackupError::Io(same(why));
        }
        match (self.last.as_str(), why.kind()) {
            ("", io::ErrorKind::UnexpectedEof) => {
                BackupError::damaged("it is cut off before its first member")
            }
            ("", _) => BackupError::Foreign(format!("is no backup of op-dbus-stage ({why})")),
            (last, io::ErrorKind::UnexpectedEof) => {
                BackupError::damaged(format!("it is cut off, in or after {last}"))
            }
            (last, _) => BackupError::damaged(format!("{why}, in or after {last}")),
        }
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<()> {
        let read = self.source.read_exact(buffer);
        read.map_err(|why| self.failed(&why))
    }

    /// The next header, in its place.
    fn header(&mut self) -> Result<Option<(String, u64, Kind)>> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        if self.is_at_end {
            return Ok(None);
        }
        let mut block = [0; ustar::BLOCK];
        self.exactly(&mut block)?;
        let found = ustar::parse(&block);
        let found = match found {
            Err(_) if self.last.is_empty() => {
                return Err(BackupError::Foreign(
                    "is no backup of op-dbus-stage".to_owned(),
                ));
            }
            found => found?,
        };
        let Some((name, size)) = found else {
            return Err(BackupError::damaged("it ends without its sums"));
        };
        let kind = name::kind(&name)?;
        if self.last.is_empty() != (name == INFO) {
            return Err(BackupError::Foreign(format!(
                "is no backup of op-dbus-stage: {INFO} is not its first member"
            )));
        }
        if kind != Kind::Sums && !name::follows(&name, &self.last) {
            return Err(BackupError::damaged(format!(
                "member {name} comes after {}",
                self.last
            )));
        }
        Ok(Some((name, size, kind)))
    }

    /// Opens a member.
    fn begin(&mut self, name: &str, size: u64) -> Result<()> {
        let is_piece = matches!(name::kind(name)?, Kind::Piece(..));
        if is_piece && size > PIECE as u64 {
            return Err(BackupError::damaged(format!("member {name}: too long")));
        }
        self.left = size;
        self.size = size;
        self.padding = ustar::padding(size);
        self.hash = Sha256::new();
        name.clone_into(&mut self.last);
        self.is_open = true;
        self.stream = None;
        Ok(())
    }

    /// Ends the member that is open: its padding, and its line of the sums.
    fn end(&mut self) -> Result<()> {
        let mut block = [0; ustar::BLOCK];
        let padding = usize::try_from(self.padding).unwrap_or(0);
        let room = block.get_mut(..padding).unwrap_or_default();
        let read = self.source.read_exact(room);
        read.map_err(|why| self.failed(&why))?;
        if block.iter().any(|&byte| byte != 0) {
            return Err(BackupError::damaged(format!(
                "member {}: something is behind its end",
                self.last
            )));
        }
        let sum = Digest(std::mem::take(&mut self.hash).finalize().into());
        let mut line = String::new();
        // Writing to a string can't fail.
        let _ = writeln!(line, "{sum}  {}", self.last);
        self.sums.update(line.as_bytes());
        self.sums_length = self.sums_length.saturating_add(line.len() as u64);
        self.is_open = false;
        Ok(())
    }

    /// Whether another piece of the stream follows; it is open then.
    fn next_piece(&mut self) -> Result<bool> {
        let Some((stream, number)) = self.stream.take() else {
            return Ok(false);
        };
        let Some((name, size, kind)) = self.header()? else {
            return Ok(false);
        };
        if let Kind::Piece(other, found) = &kind {
            if *other == stream {
                // All pieces but the last are whole, and an empty one is a stream's only one.
                let expected = number.saturating_add(1);
                if *found != expected || self.size != PIECE as u64 || size == 0 {
                    return Err(BackupError::damaged(format!(
                        "member {name}: does not follow the piece before it"
                    )));
                }
                self.begin(&name, size)?;
                self.stream = Some((stream, expected));
                return Ok(true);
            }
        }
        self.ahead = Some((name, size, kind));
        Ok(false)
    }

    /// The sums: exactly those of the members before.
    fn check_sums(&mut self, size: u64) -> Result<()> {
        let wrong = || BackupError::damaged("its sums are not those of its members");
        if size != self.sums_length {
            return Err(wrong());
        }
        let expected = std::mem::take(&mut self.sums).finalize();
        let mut hash = Sha256::new();
        let mut left = size;
        let mut buffer = [0; ustar::BLOCK];
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(buffer.len());
            let part = buffer.len().min(room);
            let part = buffer.get_mut(..part).unwrap_or_default();
            let read = self.source.read_exact(part);
            read.map_err(|why| self.failed(&why))?;
            hash.update(&*part);
            left = left.saturating_sub(part.len() as u64);
        }
        if hash.finalize() != expected {
            return Err(wrong());
        }
        let rest = ustar::padding(size).saturating_add(2 * ustar::BLOCK as u64);
        let mut rest = vec![0; usize::try_from(rest).unwrap_or(0)];
        self.exactly(&mut rest)?;
        if rest.iter().any(|&byte| byte != 0) {
            return Err(BackupError::damaged("there is something after its sums"));
        }
        self.is_at_end = true;
        Ok(())
    }
}

/// The same error once more: errors can't be copied.
fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// The content of one entry.
pub struct Content<'r, R: Read> {
    reader: &'r mut Reader<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *self.reader;
        loop {
            if !reader.is_open || buffer.is_empty() {
                return Ok(0);
            }
            if reader.left == 0 {
                reader.end().map_err(io::Error::other)?;
                if reader.next_piece().map_err(io::Error::other)? {
                    continue;
                }
                return Ok(0);
            }
            let room = usize::try_from(reader.left).unwrap_or(buffer.len());
            let room = buffer.len().min(room);
            let part = buffer.get_mut(..room).unwrap_or_default();
            let count = match reader.source.read(part) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            reader.hash.update(part.get(..count).unwrap_or_default());
            reader.left = reader.left.saturating_sub(count as u64);
            return Ok(count);
        }
    }
}
