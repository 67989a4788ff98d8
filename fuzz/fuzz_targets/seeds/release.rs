//! Manifests and the files they describe.

use std::io;

use op_dbus_bootstate::{Digest, Uuid};
use op_dbus_release::chunks::ChunkHasher;
use op_dbus_release::manifest::{Allow, CHUNK_SIZES, Compression, Manifest, Parent, Stream, Tree};

use crate::{Corpus, build};

fn entry(file: &str, bytes: &[u8], parent: Option<Parent>) -> Stream {
    let mut hasher = ChunkHasher::new(*CHUNK_SIZES.start());
    hasher.update(bytes);
    let written = hasher.finish();
    Stream {
        file: file.to_owned(),
        size: written.size,
        sha256: written.sha256,
        chunks: written.chunks,
        compression: Compression::None,
        stream_bytes: written.size,
        content_bytes: 40_000,
        uuid: Uuid(build::UUID),
        parent,
    }
}

/// One with everything in it, and the least there can be.
pub(crate) fn manifests(corpus: &Corpus) -> io::Result<()> {
    let version = |text: &str| text.parse().map_err(|_| io::ErrorKind::InvalidData);
    let parent = Parent {
        version: version("v1.0.0")?,
        uuid: Uuid(build::PARENT),
        digest: Digest([7; 32]),
    };
    let full = entry("v1.1.0.btrfs", &build::rich(1).bytes, None);
    let step = entry("v1.1.0.from-v1.0.0.btrfs", &[1; 200_000], Some(parent));
    let mut manifest = Manifest {
        schema: 1,
        product: "op-dbus".to_owned(),
        version: version("v1.1.0")?,
        epoch: 3,
        created: "2026-11-23T01:22:00.5+01:00".to_owned(),
        tree: Tree {
            digest: Digest([9; 32]),
            bytes: 40_000,
            entries: 12,
        },
        allow: Allow {
            devices: vec!["dev/null".to_owned()],
            setuid: vec!["bin/mount".to_owned(), "bin/su".to_owned()],
            capabilities: vec!["bin/ping".to_owned()],
        },
        chunk_size: *CHUNK_SIZES.start(),
        streams: vec![full, step],
    };
    corpus.add("manifest", "rich", &manifest.to_bytes())?;
    manifest.allow = Allow::default();
    manifest.streams.truncate(1);
    corpus.add("manifest", "plain", &manifest.to_bytes())?;
    let compact: String = String::from_utf8_lossy(&manifest.to_bytes())
        .lines()
        .map(str::trim)
        .collect();
    corpus.add("manifest", "compact", compact.as_bytes())
}

/// Compressed extents behind their compression and an offset; see the target.
pub(crate) fn extents(corpus: &Corpus) -> io::Result<()> {
    let text: Vec<u8> = (0..3000_u32)
        .flat_map(|i| format!("{} ", i % 301).into_bytes())
        .collect();
    let extent = &text[..8 << 10];
    let zlib = miniz_oxide::deflate::compress_to_vec_zlib(extent, 6);
    // A zstd frame as the kernel makes it: no content size, a small window.
    let zstd = zstd::bulk::compress(extent, 3)?;
    // LZO1X by hand: a run of literals, a match of them, the end.
    let mut lzo = vec![17 + 7];
    lzo.extend(b"op-dbus");
    lzo.extend([0x20 | 20, 6 << 2, 0, 0x11, 0, 0]);
    let mut segment = Vec::new();
    let length = |length: usize| u32::try_from(length).unwrap_or(0).to_le_bytes();
    segment.extend(length(8 + lzo.len()));
    segment.extend(length(lzo.len()));
    segment.extend(&lzo);
    for (name, kind, data) in [("zlib", 1, &zlib), ("zstd", 2, &zstd), ("lzo", 3, &segment)] {
        for skip in [0, 8] {
            let seed = [&[kind, skip][..], data].concat();
            corpus.add("decode", &format!("{name}-{skip}"), &seed)?;
        }
    }
    Ok(())
}

/// Files behind the six bytes that say what is wrong with them; see the target.
pub(crate) fn chunks(corpus: &Corpus) -> io::Result<()> {
    let stream = build::rich(1).bytes;
    let noise: Vec<u8> = (0..70_000_u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[2])
        .collect();
    let mut frames = zstd::bulk::compress(&stream, 3)?;
    frames.extend(zstd::bulk::compress(&noise, 1)?);
    let files = [
        ("frame", 0, stream.len(), zstd::bulk::compress(&stream, 19)?),
        ("frames", 0, stream.len() + noise.len(), frames),
        ("plain", 1, 0, noise.clone()),
        ("small", 1, 0, stream[..500].to_vec()),
    ];
    for (name, flags, length, file) in files {
        let length = u32::try_from(length).unwrap_or(0);
        for wrong in 0..6 {
            let mut seed = vec![flags | wrong << 1, 1];
            seed.extend(length.to_le_bytes());
            seed.extend(&file);
            corpus.add("chunks", &format!("{name}-{wrong}"), &seed)?;
        }
    }
    Ok(())
}
