//! The device side: a stream's file, checked chunk by chunk ahead of its reader.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::mem;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use op_dbus_bootstate::Digest;
use sha2::{Digest as _, Sha256};
use zstd::zstd_safe::InBuffer;

use super::ChunkError;
use super::inflate::{Inflate, Refused, Step};
use crate::manifest::{CHUNK_SIZES, Compression, Stream};

/// Buffers under way between the thread and the reader.
const BUFFERS: usize = 4;
/// Length of one that takes decompressed bytes: stays in a core's second-level cache.
const PLAIN: usize = 256 << 10;

enum Message {
    Bytes(Vec<u8>),
    End(Result<(), ChunkError>),
}

/// The send stream in a file, each chunk of which was checked before any of it
/// was used.
///
/// A thread reads a whole chunk, compares its length and SHA-256 with the
/// manifest, and only then decompresses it; so checking runs beside whatever the
/// reader does with the stream. The end of the stream is reported once the file
/// was seen to end there too, complete in every respect; anything else is an
/// error that carries a [`ChunkError`].
///
/// Memory: one chunk, 4 buffers of 256 KiB and a decompressor with a window of
/// up to 8 MiB; without compression 4 chunks. That is 17 MiB at most.
///
/// Dropping it ends the thread, as soon as the read it may be waiting in returns.
pub struct Verified {
    full: Receiver<Message>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    /// How much of `current` was read.
    at: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Failed,
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Verified {
    /// Begins to read a file that should be this stream of a manifest with this
    /// chunk size. What fails here is reported by the first read.
    pub fn new(source: impl Read + Send + 'static, stream: &Stream, chunk_size: u32) -> Self {
        let (give, full) = sync_channel(BUFFERS + 2);
        let (empty, returned) = channel();
        let refused = give.clone();
        let buffers = Buffers {
            give,
            returned,
            made: 0,
        };
        let task = Task {
            source,
            size: stream.size,
            digests: stream.chunks.clone(),
            chunk_size,
            stream_bytes: stream.stream_bytes,
            compression: stream.compression,
            buffers,
        };
        let thread = thread::Builder::new().name("chunks".to_owned());
        if let Err(why) = thread.spawn(move || task.run()) {
            // The receiver is here, and there is room: this arrives.
            let _ = refused.send(Message::End(Err(ChunkError::Begin(why))));
        }
        Self {
            full,
            empty,
            current: Vec::new(),
            at: 0,
            state: State::Open,
        }
    }

    /// Fetches bytes until there are some, or the end is reached.
    fn refill(&mut self) -> io::Result<()> {
        while self.at >= self.current.len() {
            match self.state {
                State::Open => {}
                State::Ended => return Ok(()),
                State::Failed => return Err(io::Error::other("reading it has failed before")),
            }
            match self.full.recv() {
                Ok(Message::Bytes(bytes)) => {
                    // A thread that has ended needs no buffers.
                    let _ = self.empty.send(mem::replace(&mut self.current, bytes));
                    self.at = 0;
                }
                Ok(Message::End(Ok(()))) => self.state = State::Ended,
                Ok(Message::End(Err(why))) => {
                    self.state = State::Failed;
                    return Err(why.into());
                }
                Err(_) => {
                    self.state = State::Failed;
                    return Err(ChunkError::Lost.into());
                }
            }
        }
        Ok(())
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Without a copy: the buffers of the thread themselves.
impl BufRead for Verified {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.refill()?;
        Ok(self.current.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.current.len());
    }
}

/// Nobody reads any more.
struct Gone;

/// Why the thread ends early.
enum Stop {
    Gone,
    Wrong(ChunkError),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<ChunkError> for Stop {
    fn from(error: ChunkError) -> Self {
        Self::Wrong(error)
    }
}

/// The thread's side of the exchange.
struct Buffers {
    give: SyncSender<Message>,
    returned: Receiver<Vec<u8>>,
    made: usize,
}

impl Buffers {
    /// An empty buffer with room for that many bytes; waits for the reader when
    /// all are under way.
    fn take(&mut self, capacity: usize) -> Result<Vec<u8>, Gone> {
        if self.made < BUFFERS {
            self.made += 1;
            return Ok(Vec::with_capacity(capacity));
        }
        loop {
            let mut buffer = self.returned.recv().map_err(|_| Gone)?;
            // The reader begins with one that was never made here.
            if buffer.capacity() >= capacity {
                buffer.clear();
                return Ok(buffer);
            }
        }
    }

    fn give(&self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.give.send(Message::Bytes(bytes)).map_err(|_| Gone)
    }
}

struct Task<R> {
    source: R,
    size: u64,
    digests: Vec<Digest>,
    chunk_size: u32,
    stream_bytes: u64,
    compression: Compression,
    buffers: Buffers,
}

impl<R: Read> Task<R> {
    fn run(mut self) {
        let result = match self.chunks() {
            Ok(()) => Ok(()),
            Err(Stop::Wrong(why)) => Err(why),
            Err(Stop::Gone) => return,
        };
        // The source is closed before its end is known.
        let Self {
            source, buffers, ..
        } = self;
        drop(source);
        let _ = buffers.give.send(Message::End(result));
    }

    fn chunks(&mut self) -> Result<(), Stop> {
        let count = self.size.div_ceil(u64::from(self.chunk_size.max(1)));
        if !CHUNK_SIZES.contains(&self.chunk_size) || count != self.digests.len() as u64 {
            return Err(Stop::Wrong(ChunkError::Entry {
                chunks: self.digests.len(),
                size: self.size,
                chunk_size: self.chunk_size,
            }));
        }
        match self.compression {
            Compression::None => self.plain(),
            Compression::Zstd => self.zstd(),
        }
    }

    /// The chunks are the stream.
    fn plain(&mut self) -> Result<(), Stop> {
        if self.size != self.stream_bytes {
            return Err(Stop::Wrong(ChunkError::TooLittle {
                found: self.size,
                stream_bytes: self.stream_bytes,
            }));
        }
        let capacity = usize::try_from(self.chunk_size).unwrap_or(0);
        for chunk in 0..self.digests.len() {
            let mut buffer = self.buffers.take(capacity)?;
            self.chunk(chunk, &mut buffer)?;
            self.buffers.give(buffer)?;
        }
        Ok(self.end()?)
    }

    fn zstd(&mut self) -> Result<(), Stop> {
        let memory = || ChunkError::Begin(io::ErrorKind::OutOfMemory.into());
        let mut inflate = Inflate::new().ok_or_else(memory)?;
        let mut chunk = Vec::with_capacity(usize::try_from(self.chunk_size).unwrap_or(0));
        let mut output = self.buffers.take(PLAIN)?;
        let mut total = 0_u64;
        for index in 0..self.digests.len() {
            chunk.clear();
            self.chunk(index, &mut chunk)?;
            let mut input = InBuffer::around(&chunk);
            loop {
                let before = output.len();
                let step = inflate.step(&mut input, &mut output);
                let step = step.map_err(|why| match why {
                    Refused::Window => ChunkError::Window { chunk: index },
                    Refused::Invalid(why) => ChunkError::Zstd { chunk: index, why },
                })?;
                total = total.saturating_add(output.len().saturating_sub(before) as u64);
                if total > self.stream_bytes {
                    return Err(Stop::Wrong(ChunkError::TooMuch {
                        chunk: index,
                        stream_bytes: self.stream_bytes,
                    }));
                }
                match step {
                    Step::Full => {
                        self.buffers.give(output)?;
                        output = self.buffers.take(PLAIN)?;
                    }
                    Step::Empty => break,
                }
            }
        }
        self.end()?;
        if !inflate.is_whole() {
            return Err(Stop::Wrong(ChunkError::Unfinished));
        }
        if total != self.stream_bytes {
            return Err(Stop::Wrong(ChunkError::TooLittle {
                found: total,
                stream_bytes: self.stream_bytes,
            }));
        }
        Ok(self.buffers.give(output)?)
    }

    /// Reads one chunk into an empty buffer, and leaves it there only if it is
    /// the one in the manifest.
    fn chunk(&mut self, chunk: usize, buffer: &mut Vec<u8>) -> Result<(), ChunkError> {
        let chunk_size = u64::from(self.chunk_size);
        let offset = chunk_size.saturating_mul(chunk as u64);
        let expected = self.size.saturating_sub(offset).min(chunk_size);
        let read = self.source.by_ref().take(expected).read_to_end(buffer);
        let length = read.map_err(|why| ChunkError::Read { chunk, why })?;
        if length as u64 != expected {
            return Err(ChunkError::Short {
                chunk,
                found: offset.saturating_add(length as u64),
                size: self.size,
            });
        }
        let digest = Digest(Sha256::digest(&buffer).into());
        if self.digests.get(chunk) != Some(&digest) {
            return Err(ChunkError::Altered {
                chunk,
                offset,
                length,
            });
        }
        Ok(())
    }

    /// After the last chunk there is nothing.
    fn end(&mut self) -> Result<(), ChunkError> {
        let chunk = self.digests.len();
        let mut rest = Vec::new();
        let read = self.source.by_ref().take(1).read_to_end(&mut rest);
        match read.map_err(|why| ChunkError::Read { chunk, why })? {
            0 => Ok(()),
            _ => Err(ChunkError::Long { size: self.size }),
        }
    }
}
