//! Against data made by the kernel (LZO) and by other programs' encoders.

use super::*;

/// What `extent.lzo` holds: a file of one extent, sent with `--compressed-data`
/// from a file system mounted with `compress-force=lzo` (Linux 6.18).
fn text() -> Vec<u8> {
    let lines = (0..400).map(|i| format!("line {} of some text, {}\n", i % 70, i * i % 1000));
    lines.collect::<String>().into_bytes()
}

fn extent(compression: u32, len: usize) -> Encoded {
    Encoded {
        offset: 0,
        len: len as u64,
        unencoded_len: LONGEST as u64,
        unencoded_offset: 0,
        compression,
    }
}

/// The sender pads an extent to a sector.
fn padded(mut data: Vec<u8>) -> Vec<u8> {
    data.resize(data.len().next_multiple_of(4096), 0);
    data
}

fn zlib(data: &[u8]) -> Vec<u8> {
    padded(miniz_oxide::deflate::compress_to_vec_zlib(data, 3))
}

fn zstd(data: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(WINDOW_LOG).unwrap();
    std::io::Write::write_all(&mut encoder, data).unwrap();
    padded(encoder.finish().unwrap())
}

#[test]
fn every_compression_gives_the_content_back() {
    let text = text();
    let mut decoder = Decoder::new();
    let lzo = include_bytes!("extent.lzo").to_vec();
    for _ in 0..2 {
        for (compression, data) in [
            (ZLIB, zlib(&text)),
            (ZSTD, zstd(&text)),
            (LZO_4K, lzo.clone()),
        ] {
            let found = decoder
                .decode(&extent(compression, text.len()), &data)
                .unwrap();
            assert_eq!(found, text, "{compression}");
        }
    }
}

#[test]
fn a_part_of_an_extent_and_what_it_leaves_out() {
    let mut decoder = Decoder::new();
    // Something else has been in the buffer before.
    let full = vec![7; LONGEST];
    let found = decoder
        .decode(&extent(ZSTD, LONGEST), &zstd(&full))
        .unwrap();
    assert_eq!(found, full);
    for (compression, data) in [(ZLIB, zlib(b"0123456789")), (ZSTD, zstd(b"0123456789"))] {
        let part = Encoded {
            unencoded_offset: 4,
            ..extent(compression, 10)
        };
        assert_eq!(decoder.decode(&part, &data).unwrap(), b"456789\0\0\0\0");
    }
}

#[test]
fn more_than_an_extent_holds_is_an_error() {
    let mut decoder = Decoder::new();
    let bomb = vec![0; LONGEST + 1];
    assert!(decoder.decode(&extent(ZLIB, 10), &zlib(&bomb)).is_err());
    let beyond = Encoded {
        unencoded_offset: u64::MAX,
        ..extent(ZSTD, 10)
    };
    assert!(decoder.decode(&beyond, &zstd(b"x")).is_err());
    assert!(decoder.decode(&extent(0, 10), b"x").is_err());
    assert!(decoder.decode(&extent(8, 10), b"x").is_err());
}

#[test]
fn damaged_data_is_an_error_or_other_content_never_a_panic() {
    let text = text();
    let mut decoder = Decoder::new();
    let lzo = include_bytes!("extent.lzo");
    for (compression, good) in [
        (ZLIB, zlib(&text)),
        (ZSTD, zstd(&text)),
        (LZO_4K, lzo.to_vec()),
    ] {
        for cut in 0..64 {
            let data = &good[..cut];
            assert!(
                decoder.decode(&extent(compression, 10), data).is_err(),
                "{compression} cut to {cut}"
            );
        }
        for at in (0..good.len()).step_by(11) {
            let mut data = good.clone();
            data[at] ^= 0x55;
            let _ = decoder.decode(&extent(compression, 10), &data);
        }
    }
}

#[test]
fn lzo_by_hand() {
    let mut out = [0; 64];
    // Three literals, a match of the last byte, the end.
    let stream = [20, b'a', b'b', b'c', 0x2a, 0, 0, 0x11, 0, 0];
    let data = |stream: &[u8]| {
        let total = u32::try_from(8 + stream.len()).unwrap().to_le_bytes();
        let segment = u32::try_from(stream.len()).unwrap().to_le_bytes();
        [&total[..], &segment, stream].concat()
    };
    let length = lzo::extent(&data(&stream), 4096, &mut out).unwrap();
    assert_eq!(&out[..length], b"abccccccccccccc");
    // A distance beyond what there is.
    let far = [20, b'a', b'b', b'c', 0x2a, 0xff, 0, 0x11, 0, 0];
    assert!(lzo::extent(&data(&far), 4096, &mut out).is_err());
    // More than a sector.
    let long = [20, b'a', b'b', b'c', 0x20, 0, 0, 0, 200, 0, 0, 0x11, 0, 0];
    assert!(lzo::extent(&data(&long), 4096, &mut out).is_err());
}
