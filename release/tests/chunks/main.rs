//! What a reader gets of a stream's file, and when it gets nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::{self, BufRead as _, Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use op_dbus_release::chunks::{ChunkError, Verified};
use op_dbus_release::manifest::{Compression, Stream};
use proptest::prelude::*;

mod make;
use make::{CHUNK, entry, file, noise, open, zstd};

const BOTH: [Compression; 2] = [Compression::None, Compression::Zstd];
const CHUNK_LEN: usize = CHUNK as usize;

/// What came before the error, and the error.
#[track_caller]
fn refused(mut reader: Verified) -> (Vec<u8>, ChunkError) {
    let mut got = Vec::new();
    let error = reader.read_to_end(&mut got).unwrap_err();
    assert!(ChunkError::of(&error).is_some(), "{error}");
    assert!(reader.read(&mut [0]).is_err(), "an error is not an end");
    let inner = error.into_inner().unwrap();
    (got, *inner.downcast().unwrap())
}

#[test]
fn a_file_as_described_is_read_to_its_end() {
    let stream = noise(5 * CHUNK_LEN + 1);
    for compression in BOTH {
        for length in [
            1,
            1000,
            CHUNK_LEN - 1,
            CHUNK_LEN,
            CHUNK_LEN + 1,
            stream.len(),
        ] {
            let stream = &stream[..length];
            let (file, entry) = file(stream, compression);
            let mut got = Vec::new();
            let mut reader = open(&file, &entry);
            reader.read_to_end(&mut got).unwrap();
            assert!(got == stream, "{length} bytes, {compression:?}");
            assert_eq!(reader.read(&mut [0]).unwrap(), 0);
            // Without copies.
            let mut reader = open(&file, &entry);
            let mut got = Vec::new();
            loop {
                let bytes = reader.fill_buf().unwrap();
                if bytes.is_empty() {
                    break;
                }
                let some = bytes.len().min(77_777);
                got.extend_from_slice(&bytes[..some]);
                reader.consume(some);
            }
            assert!(got == stream, "{length} bytes, {compression:?}");
        }
    }
}

#[test]
fn however_the_source_reads() {
    /// A few bytes at a time, and interrupted in between.
    struct Slow(io::Cursor<Vec<u8>>, bool);
    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let some = buffer.len().min(1009);
            self.0.read(&mut buffer[..some])
        }
    }
    let stream = noise(3 * CHUNK_LEN);
    for compression in BOTH {
        let (file, entry) = file(&stream, compression);
        let mut reader = Verified::new(Slow(io::Cursor::new(file), false), &entry, CHUNK);
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert!(got == stream, "{compression:?}");
    }
}

#[test]
fn nothing_of_an_altered_chunk_reaches_the_reader() {
    let stream = noise(6 * CHUNK_LEN + 100);
    for compression in BOTH {
        let (file, entry) = file(&stream, compression);
        for chunk in 0..entry.chunks.len() {
            let start = chunk * CHUNK_LEN;
            let end = file.len().min(start + CHUNK_LEN);
            for at in [start, usize::midpoint(start, end), end - 1] {
                let mut altered = file.clone();
                altered[at] ^= 1;
                let (got, error) = refused(open(&altered, &entry));
                let named = matches!(
                    error,
                    ChunkError::Altered { chunk: index, offset, length }
                    if (index, offset, length) == (chunk, start as u64, end - start)
                );
                assert!(named, "chunk {chunk}: {error}");
                // What the chunks before it hold, and not a byte more.
                let most = match compression {
                    Compression::None => start,
                    Compression::Zstd => decompressed(&file[..start]).len(),
                };
                assert!(got.len() <= most, "chunk {chunk}: {} > {most}", got.len());
                assert!(stream.starts_with(&got), "chunk {chunk}");
            }
        }
    }
}

/// All that can be had of the beginning of a file.
fn decompressed(file: &[u8]) -> Vec<u8> {
    let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).unwrap();
    decoder.write_all(file).unwrap();
    decoder.flush().unwrap();
    decoder.into_inner()
}

#[test]
fn chunks_in_another_order_are_refused() {
    let stream = noise(4 * CHUNK_LEN);
    let (mut file, entry) = file(&stream, Compression::None);
    let (first, second) = file.split_at_mut(2 * CHUNK_LEN);
    first[CHUNK_LEN..].swap_with_slice(&mut second[..CHUNK_LEN]);
    let (got, error) = refused(open(&file, &entry));
    assert!(
        matches!(error, ChunkError::Altered { chunk: 1, .. }),
        "{error}"
    );
    assert!(got == stream[..CHUNK_LEN]);
}

#[test]
fn a_file_that_is_too_short_or_too_long_is_refused() {
    let stream = noise(4 * CHUNK_LEN + 100);
    for compression in BOTH {
        let (file, entry) = file(&stream, compression);
        let whole = file.len();
        for length in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, whole - 1] {
            let (_, error) = refused(open(&file[..length], &entry));
            let named = matches!(
                error,
                ChunkError::Short { chunk, found, size }
                if chunk == length / CHUNK_LEN && found == length as u64 && size == whole as u64
            );
            assert!(named, "{length}: {error}");
        }
        for more in [1, CHUNK_LEN] {
            let file = [&file[..], &file[..more]].concat();
            let (_, error) = refused(open(&file, &entry));
            assert!(matches!(error, ChunkError::Long { .. }), "{error}");
        }
    }
}

#[test]
fn no_more_and_no_less_than_the_manifest_says_comes_out() {
    let bomb = vec![0; 16 << 20];
    let file = zstd(&bomb);
    assert!(file.len() < 4096);
    for less in [1, bomb.len() / 2, bomb.len() - 1] {
        let declared = bomb.len() - less;
        let (got, error) = refused(open(&file, &entry(&file, declared, Compression::Zstd)));
        assert!(
            matches!(error, ChunkError::TooMuch { chunk: 0, .. }),
            "{error}"
        );
        assert!(got.len() <= declared);
    }
    let declared = entry(&file, bomb.len() + 1, Compression::Zstd);
    let (_, error) = refused(open(&file, &declared));
    assert!(matches!(error, ChunkError::TooLittle { .. }), "{error}");
    // Not compressed: the manifest contradicts itself.
    let (_, error) = refused(open(&file, &entry(&file, 1, Compression::None)));
    assert!(matches!(error, ChunkError::TooLittle { .. }), "{error}");
}

#[test]
fn several_frames_are_one_stream() {
    let stream = noise(3 * CHUNK_LEN);
    let (one, two) = stream.split_at(CHUNK_LEN);
    // A skippable frame holds nothing (RFC 8878, 3.1.2).
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let file = [&zstd(one)[..], &skippable, &zstd(b""), &zstd(two)].concat();
    let mut got = Vec::new();
    let mut reader = open(&file, &entry(&file, stream.len(), Compression::Zstd));
    reader.read_to_end(&mut got).unwrap();
    assert!(got == stream);
    let (_, error) = refused(open(&file, &entry(&file, one.len(), Compression::Zstd)));
    assert!(matches!(error, ChunkError::TooMuch { .. }), "{error}");
}

#[test]
fn what_follows_a_frame_must_be_one() {
    let stream = noise(2 * CHUNK_LEN);
    let whole = zstd(&stream);
    let open_as_is = |file: &[u8]| open(file, &entry(file, stream.len(), Compression::Zstd));
    for garbage in [&b"\0"[..], b"more", &[0; 100]] {
        let file = [&whole[..], garbage].concat();
        let (_, error) = refused(open_as_is(&file));
        let garbage_is_named = matches!(error, ChunkError::Zstd { .. } | ChunkError::Unfinished);
        assert!(garbage_is_named, "{error}");
    }
    for cut in [1, 3, whole.len() / 2, whole.len() - 1] {
        let (_, error) = refused(open_as_is(&whole[..whole.len() - cut]));
        assert!(matches!(error, ChunkError::Unfinished), "{cut}: {error}");
    }
    let (_, error) = refused(open_as_is(&stream));
    assert!(
        matches!(error, ChunkError::Zstd { chunk: 0, .. }),
        "{error}"
    );
}

#[test]
fn a_window_above_the_limit_is_refused() {
    let stream = vec![b'x'; 1000];
    for (log, fine) in [(10, true), (23, true), (24, false), (27, false)] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        // Written in two steps, so that the frame does not know its size.
        encoder.write_all(&stream[..1]).unwrap();
        encoder.flush().unwrap();
        encoder.write_all(&stream[1..]).unwrap();
        let file = encoder.finish().unwrap();
        let mut reader = open(&file, &entry(&file, stream.len(), Compression::Zstd));
        if fine {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            assert_eq!(got, stream, "window log {log}");
        } else {
            let (got, error) = refused(reader);
            assert!(matches!(error, ChunkError::Window { chunk: 0 }), "{error}");
            assert!(error.to_string().contains("above 8 MiB"), "{error}");
            assert_eq!(got, b"");
        }
    }
}

#[test]
fn an_error_of_the_source_comes_with_its_kind_and_chunk() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::TimedOut, "cable"))
        }
    }
    let stream = noise(3 * CHUNK_LEN);
    for compression in BOTH {
        let (file, entry) = file(&stream, compression);
        for chunk in 0..=entry.chunks.len() {
            let good = file[..file.len().min(chunk * CHUNK_LEN)].to_vec();
            let source = io::Cursor::new(good).chain(Fails);
            let mut reader = Verified::new(source, &entry, CHUNK);
            let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let typed = ChunkError::of(&error).unwrap();
            let named = matches!(typed, ChunkError::Read { chunk: index, .. } if *index == chunk);
            assert!(named, "{error}");
        }
    }
}

/// A source that says when it is closed.
struct Watched<R>(R, Arc<AtomicBool>);

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R> Drop for Watched<R> {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Release);
    }
}

#[test]
fn dropping_the_reader_ends_the_thread() {
    let stream = noise(40 * CHUNK_LEN);
    for compression in BOTH {
        let (file, entry) = file(&stream, compression);
        for read in [0, 1, 10 * CHUNK_LEN] {
            let closed = Arc::new(AtomicBool::new(false));
            let source = Watched(io::Cursor::new(file.clone()), Arc::clone(&closed));
            let mut reader = Verified::new(source, &entry, CHUNK);
            reader.read_exact(&mut vec![0; read]).unwrap();
            drop(reader);
            let began = Instant::now();
            while !closed.load(Ordering::Acquire) {
                assert!(began.elapsed() < Duration::from_secs(20), "still open");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Whoever reads the end of the stream may rely on the source being closed.
#[test]
fn the_source_is_closed_before_the_end() {
    let (file, entry) = file(&noise(2 * CHUNK_LEN), Compression::Zstd);
    let closed = Arc::new(AtomicBool::new(false));
    let source = Watched(io::Cursor::new(file), Arc::clone(&closed));
    let mut reader = Verified::new(source, &entry, CHUNK);
    reader.read_to_end(&mut Vec::new()).unwrap();
    assert!(closed.load(Ordering::Acquire));
}

#[test]
fn an_entry_that_makes_no_sense_is_refused() {
    type Change = fn(&mut Stream) -> u32;
    let (file, good) = file(&noise(3 * CHUNK_LEN), Compression::None);
    let changes: [Change; 6] = [
        |_| 0,
        |_| CHUNK / 2,
        |_| u32::MAX,
        |entry| {
            entry.chunks.pop();
            CHUNK
        },
        |entry| {
            entry.size = u64::MAX;
            CHUNK
        },
        |entry| {
            entry.size += u64::from(CHUNK);
            CHUNK
        },
    ];
    for change in changes {
        let mut entry = good.clone();
        let chunk_size = change(&mut entry);
        let reader = Verified::new(io::Cursor::new(file.clone()), &entry, chunk_size);
        let (got, error) = refused(reader);
        assert!(matches!(error, ChunkError::Entry { .. }), "{error}");
        assert_eq!(got, b"");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Signed or not, no bytes make it panic, hang, or yield too much.
    #[test]
    fn any_bytes_end_in_an_error_or_a_stream(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200_000),
        frame in any::<bool>(),
        at in any::<prop::sample::Index>(),
        declared in 0_usize..300_000,
    ) {
        if frame {
            bytes = zstd(&bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 0x10;
        }
        for compression in BOTH {
            let mut got = Vec::new();
            let mut reader = open(&bytes, &entry(&bytes, declared, compression));
            let read = reader.read_to_end(&mut got);
            prop_assert!(got.len() <= declared);
            if read.is_ok() {
                prop_assert_eq!(got.len(), declared);
            }
        }
    }
}
