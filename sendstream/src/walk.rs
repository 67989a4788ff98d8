//! Framing: the stream's header, and one checked command after the other.

use std::io::{self, Read};

use crate::attrs::Parsed;
use crate::error::{Problem, StreamError};
use crate::wire::{
    COMMAND_HEADER, COMMAND_MAX_V1, COMMAND_MAX_V2, Command, MAGIC, STREAM_HEADER, VERSIONS,
    command_crc,
};

/// Reads a stream command by command. Its one buffer is as large as the longest
/// command the stream's version allows, whatever a header claims.
#[derive(Debug)]
pub struct Walker<R> {
    source: R,
    version: u32,
    header: [u8; STREAM_HEADER],
    buffer: Vec<u8>,
    filled: usize,
    offset: u64,
    command: u64,
}

/// A command as it was read.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Taken apart.
    pub parsed: Parsed<'a>,
    /// As it stands in the stream, header included.
    pub raw: &'a [u8],
}

/// Fills the buffer, or says how much there was.
fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match source.read(room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn read_exactly(source: &mut impl Read, buffer: &mut [u8]) -> Result<(), Problem> {
    match read_full(source, buffer) {
        Ok(count) if count == buffer.len() => Ok(()),
        Ok(_) => Err(Problem::Truncated),
        Err(error) => Err(Problem::Read(error)),
    }
}

impl<R: Read> Walker<R> {
    /// Reads and checks the stream's header.
    pub fn new(mut source: R) -> Result<Self, StreamError> {
        let at_start = |problem| StreamError {
            offset: 0,
            command: 0,
            problem,
        };
        let mut header = [0; STREAM_HEADER];
        match read_exactly(&mut source, &mut header) {
            // A file that is shorter than a header is simply something else.
            Err(Problem::Truncated) if !header.starts_with(&MAGIC) => {
                return Err(at_start(Problem::Magic));
            }
            result => result.map_err(at_start)?,
        }
        let (Some((magic, _)), Some(version)) = (header.split_first_chunk(), header.last_chunk())
        else {
            return Err(at_start(Problem::Magic));
        };
        if *magic != MAGIC {
            return Err(at_start(Problem::Magic));
        }
        let version = u32::from_le_bytes(*version);
        if !VERSIONS.contains(&version) {
            return Err(at_start(Problem::Version(version)));
        }
        let longest = if version < 2 {
            COMMAND_MAX_V1
        } else {
            COMMAND_MAX_V2
        };
        Ok(Self {
            source,
            version,
            header,
            buffer: vec![0; longest],
            filled: 0,
            offset: STREAM_HEADER as u64,
            command: 0,
        })
    }

    /// The stream's version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The stream's header, as read.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Bytes read so far, of whole commands.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Commands read so far.
    pub fn commands(&self) -> u64 {
        self.command
    }

    /// The command read last, as it stands in the stream.
    pub fn last_raw(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    /// An error about the command read last.
    pub fn error(&self, problem: Problem, raw_length: usize) -> StreamError {
        StreamError {
            offset: self.offset.saturating_sub(raw_length as u64),
            command: self.command,
            problem,
        }
    }

    /// Reads the next command: bounded, checksum verified, attributes taken apart.
    pub fn next_frame(&mut self) -> Result<Frame<'_>, StreamError> {
        self.command += 1;
        let (offset, command) = (self.offset, self.command);
        let fail = |problem| StreamError {
            offset,
            command,
            problem,
        };
        let length = self.read_command().map_err(fail)?;
        self.filled = length;
        self.offset += length as u64;
        let raw = self
            .buffer
            .get(..length)
            .ok_or_else(|| fail(Problem::Truncated))?;
        let parsed = parse(raw, self.version).map_err(fail)?;
        Ok(Frame { parsed, raw })
    }

    /// Reads one command into the buffer and returns its length, header included.
    fn read_command(&mut self) -> Result<usize, Problem> {
        let (header, room) = self
            .buffer
            .split_at_mut_checked(COMMAND_HEADER)
            .ok_or(Problem::Truncated)?;
        read_exactly(&mut self.source, header)?;
        let length = header
            .first_chunk()
            .map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let too_long = Problem::TooLong(u64::from(length));
        let body = usize::try_from(length)
            .ok()
            .and_then(|length| room.get_mut(..length))
            .ok_or(too_long)?;
        read_exactly(&mut self.source, body)?;
        Ok(COMMAND_HEADER + body.len())
    }

    /// Whether nothing more follows.
    pub fn at_end(&mut self) -> Result<bool, StreamError> {
        match read_full(&mut self.source, &mut [0]) {
            Ok(count) => Ok(count == 0),
            Err(error) => Err(StreamError {
                offset: self.offset,
                command: self.command,
                problem: Problem::Read(error),
            }),
        }
    }
}

fn parse(raw: &[u8], version: u32) -> Result<Parsed<'_>, Problem> {
    let (header, body) = raw
        .split_first_chunk::<COMMAND_HEADER>()
        .ok_or(Problem::Truncated)?;
    let &[_, _, _, _, low, high, ref crc @ ..] = header;
    if command_crc(*header, body) != u32::from_le_bytes(*crc) {
        return Err(Problem::Crc);
    }
    let number = u16::from_le_bytes([low, high]);
    let command = Command::from_number(number, version).ok_or(Problem::UnknownCommand(number))?;
    Parsed::new(command, version, body)
}
