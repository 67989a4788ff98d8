//! Streams, their files, and what a manifest says of them.

use std::io::Write as _;

use op_dbus_bootstate::Uuid;
use op_dbus_release::chunks::{ChunkHasher, Verified};
use op_dbus_release::manifest::{Compression, Stream};

/// The smallest there is.
pub(crate) const CHUNK: u32 = 64 << 10;

/// Bytes that neither repeat nor compress away.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next)
        .flatten()
        .take(length)
        .collect();
    // Something to compress, now and then.
    for part in bytes.chunks_mut(5000) {
        let third = part.len() / 3;
        part[..third].fill(b'a');
    }
    bytes
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What a manifest says of a file.
pub(crate) fn entry(file: &[u8], stream_bytes: usize, compression: Compression) -> Stream {
    let mut hasher = ChunkHasher::new(CHUNK);
    hasher.update(file);
    let written = hasher.finish();
    Stream {
        file: "v1.0.0.btrfs.zst".to_owned(),
        size: written.size,
        sha256: written.sha256,
        chunks: written.chunks,
        compression,
        stream_bytes: stream_bytes as u64,
        content_bytes: 0,
        uuid: Uuid([1; 16]),
        parent: None,
    }
}

/// A stream's file, and what a manifest says of it.
pub(crate) fn file(stream: &[u8], compression: Compression) -> (Vec<u8>, Stream) {
    let file = match compression {
        Compression::None => stream.to_vec(),
        Compression::Zstd => zstd(stream),
    };
    let entry = entry(&file, stream.len(), compression);
    (file, entry)
}

pub(crate) fn open(file: &[u8], entry: &Stream) -> Verified {
    Verified::new(std::io::Cursor::new(file.to_vec()), entry, CHUNK)
}
