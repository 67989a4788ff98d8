//! Compressed extents that are none, or not what they claim.

use super::{Case, Expect, v2};
use crate::build::Stream;
use crate::say::{Encoded, Say as _};

const ZLIB: u32 = 1;
const ZSTD: u32 = 2;
/// LZO in segments of 4 KiB.
const LZO: u32 = 3;
/// Largest extent there is, compressed.
const EXTENT: u64 = 128 << 10;

fn case(rule: &str, write: &Encoded<'_>, expect: Expect) -> Case {
    Case::new(rule, stream(write), expect)
}

fn stream(write: &Encoded<'_>) -> Stream {
    v2().mkfile("f").encoded("f", write).end()
}

fn whole(compression: u32, length: u64, data: &[u8]) -> Encoded<'_> {
    Encoded {
        offset: 0,
        file_length: length,
        length,
        skip: 0,
        compression,
        encryption: 0,
        data,
    }
}

/// A Zstandard frame of so many blocks of 128 KiB of one byte each.
pub(super) fn run_of(blocks: u32) -> Vec<u8> {
    // Magic; no content size, no checksum, window of 128 KiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    for block in 1..=blocks {
        // Last, type 1 (RLE), size.
        let header = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
        frame.extend(header.to_le_bytes().iter().take(3));
        frame.push(0x41);
    }
    frame
}

/// LZO as Btrfs frames it: length of all, then segments with their lengths.
fn lzo(total: u32, segments: &[(u32, &[u8])]) -> Vec<u8> {
    let mut bytes = total.to_le_bytes().to_vec();
    for (length, segment) in segments {
        bytes.extend(length.to_le_bytes());
        bytes.extend(*segment);
    }
    bytes
}

pub(super) fn cases() -> Vec<Case> {
    let good = run_of(1);
    let bomb = run_of(4000);
    let noise: Vec<u8> = (0..5000_u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[2])
        .collect();
    let huge = "beyond the limit";
    let lengths = Expect::Vet("compressed extent");
    let broken = Expect::Apply(&["compressed extent"]);
    let garbage = |rule: &str, compression, length, data: &[u8]| {
        case(rule, &whole(compression, length, data), broken)
    };
    let cut = good.get(..good.len() - 1).unwrap_or_default();
    vec![
        case(
            "encoded write at a huge offset",
            &Encoded {
                offset: 1 << 50,
                ..whole(ZSTD, EXTENT, &good)
            },
            Expect::Vet(huge),
        ),
        case(
            "encoded write whose end overflows",
            &Encoded {
                offset: u64::MAX,
                ..whole(ZSTD, EXTENT, &good)
            },
            Expect::Vet(huge),
        )
        .allowing_everything(),
        case(
            "encoded write larger than an extent",
            &whole(ZSTD, EXTENT + 1, &good),
            lengths,
        ),
        case(
            "encoded write of 1 GiB",
            &whole(ZSTD, 1 << 30, &good),
            lengths,
        ),
        case("encoded write of nothing", &whole(ZSTD, 0, &good), lengths),
        case(
            "encoded write without data",
            &whole(ZSTD, EXTENT, b""),
            lengths,
        ),
        case(
            "encoded write longer than it decodes to",
            &Encoded {
                file_length: EXTENT,
                ..whole(ZSTD, 4096, &good)
            },
            lengths,
        ),
        case(
            "encoded write from beyond its end",
            &Encoded {
                skip: EXTENT,
                ..whole(ZSTD, EXTENT, &good)
            },
            lengths,
        ),
        case(
            "encoded write whose skip overflows",
            &Encoded {
                skip: u64::MAX,
                ..whole(ZSTD, EXTENT, &good)
            },
            lengths,
        ),
        case(
            "encoded write of unknown compression",
            &whole(9, EXTENT, &good),
            Expect::Vet("compression"),
        ),
        case(
            "encoded write without compression",
            &whole(0, 4096, &[0; 4096]),
            Expect::Vet("compression"),
        ),
        case(
            "encoded write with encryption",
            &Encoded {
                encryption: 1,
                ..whole(ZSTD, EXTENT, &good)
            },
            Expect::Vet("encrypt"),
        ),
        garbage("Zstandard that is none", ZSTD, EXTENT, &noise),
        garbage("Zstandard cut short", ZSTD, EXTENT, cut),
        garbage("Zstandard that decodes to more", ZSTD, 4096, &good),
        garbage("Zstandard bomb", ZSTD, EXTENT, &bomb),
        garbage(
            "Zstandard with a huge window",
            ZSTD,
            EXTENT,
            &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 3, 0, 4, 0x41],
        ),
        garbage("Zlib that is none", ZLIB, EXTENT, &noise),
        garbage(
            "Zlib of another method",
            ZLIB,
            EXTENT,
            &[0x79, 0x01, 1, 0, 0],
        ),
        garbage("LZO that is none", LZO, EXTENT, &noise),
        garbage(
            "LZO whose total is beyond its data",
            LZO,
            4096,
            &lzo(4096, &[(4, b"\x11\0\0\0")]),
        ),
        garbage(
            "LZO whose segment is beyond its data",
            LZO,
            4096,
            &lzo(11, &[(0xffff_ff00, b"\x11\0\0")]),
        ),
        garbage(
            "LZO whose segment is empty",
            LZO,
            4096,
            &lzo(8, &[(0, b"")]),
        ),
        garbage("LZO without a segment", LZO, 4096, &lzo(4, &[])),
        garbage(
            "LZO whose total is less than its header",
            LZO,
            4096,
            &lzo(1, &[]),
        ),
        garbage(
            "LZO that reaches back before its start",
            LZO,
            4096,
            &lzo(14, &[(6, b"\x20\xff\xff\x11\0\0")]),
        ),
        garbage(
            "LZO cut within a segment header",
            LZO,
            4096,
            &lzo(6, &[])[..]
                .to_vec()
                .into_iter()
                .chain([0, 0])
                .collect::<Vec<_>>(),
        ),
    ]
}
