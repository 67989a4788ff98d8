//! Decompression of extents: a byte for the compression, then the data. What
//! comes out has the length that was asked for, whatever came in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use op_dbus_sendstream::fuzzing::{Encoded, decode};

const EXTENT: u64 = 128 << 10;

fuzz_target!(|data: &[u8]| {
    let Some((&[kind, skip], data)) = data.split_first_chunk() else {
        return;
    };
    let unencoded_offset = u64::from(skip) * 512;
    let extent = Encoded {
        offset: 0,
        len: EXTENT - unencoded_offset,
        unencoded_len: EXTENT,
        unencoded_offset,
        compression: u32::from(kind & 15),
    };
    let content = decode(&extent, data);
    if let Some(content) = &content {
        assert_eq!(content.len() as u64, extent.len);
    }
    // The same part of the whole, however it is asked for.
    let whole = decode(
        &Encoded {
            len: EXTENT,
            unencoded_offset: 0,
            ..extent
        },
        data,
    );
    let part = whole.map(|whole| whole[usize::from(skip) * 512..].to_vec());
    assert_eq!(content, part);
});
