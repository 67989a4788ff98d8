//! A stream's file against what a manifest says of it. The file is right by
//! its digests, so that the decompressor sees it, or wrong in one respect.
#![no_main]

use std::io::{Cursor, Read as _};

use libfuzzer_sys::fuzz_target;
use op_dbus_bootstate::{Digest, Uuid};
use op_dbus_release::chunks::{ChunkError, ChunkHasher, Verified};
use op_dbus_release::manifest::{CHUNK_SIZES, Compression, Stream};

/// Longest stream that is asked for, in bytes.
const LONGEST: u32 = 4 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((&[flags, wrong, a, b, c, d], file)) = data.split_first_chunk() else {
        return;
    };
    let chunk_size = *CHUNK_SIZES.start();
    let mut hasher = ChunkHasher::new(chunk_size);
    hasher.update(file);
    let written = hasher.finish();
    let compression = if flags & 1 == 0 {
        Compression::Zstd
    } else {
        Compression::None
    };
    let mut stream = Stream {
        file: "v1.0.0.btrfs".to_owned(),
        size: written.size,
        sha256: written.sha256,
        chunks: written.chunks,
        compression,
        stream_bytes: match compression {
            Compression::Zstd => u64::from(u32::from_le_bytes([a, b, c, d]) % LONGEST),
            Compression::None => written.size,
        },
        content_bytes: 0,
        uuid: Uuid([1; 16]),
        parent: None,
    };
    let mut source = file.to_vec();
    // What none of may come out of: all from here on.
    let mut sound = file.len();
    match flags >> 1 & 7 {
        1 => {
            let chunks = stream.chunks.len().max(1);
            let at = usize::from(wrong) % chunks;
            if let Some(digest) = stream.chunks.get_mut(at) {
                *digest = Digest([wrong; 32]);
                sound = at * chunk_size as usize;
            }
        }
        2 => source.truncate(file.len().saturating_sub(usize::from(wrong) + 1)),
        3 => source.push(wrong),
        4 => stream.size += u64::from(wrong) + 1,
        5 => stream.chunks.truncate(usize::from(wrong)),
        _ => {}
    }
    let whole = source == file && sound == file.len() && stream.size == file.len() as u64;
    let mut found = Vec::new();
    let result = Verified::new(Cursor::new(source), &stream, chunk_size).read_to_end(&mut found);
    assert!(found.len() as u64 <= stream.stream_bytes);
    if compression == Compression::None {
        assert!(file[..sound].starts_with(&found));
    }
    match result {
        Ok(_) => {
            assert!(whole);
            assert_eq!(found.len() as u64, stream.stream_bytes);
        }
        Err(why) => {
            let why = ChunkError::of(&why).expect("every error says what is wrong");
            assert!(!why.to_string().chars().any(char::is_control));
            assert!(!matches!(why, ChunkError::Lost));
        }
    }
});
