//! Manifests of any bytes: what is accepted is written back the same, and what
//! is refused is refused in one printable line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use op_dbus_release::manifest::{MAX_LEN, Manifest};

fuzz_target!(|data: &[u8]| {
    let manifest = match Manifest::parse(data) {
        Ok(manifest) => manifest,
        Err(why) => {
            let text = why.to_string();
            assert!(!text.chars().any(char::is_control), "{text:?}");
            return;
        }
    };
    let bytes = manifest.to_bytes();
    if bytes.len() <= MAX_LEN {
        assert_eq!(Manifest::parse(&bytes).as_ref(), Ok(&manifest));
    }
    manifest.check().expect("accepted once");
    for stream in &manifest.streams {
        assert_eq!(manifest.stream_by_file(&stream.file), Some(stream));
    }
    let _ = manifest.stream_by_first_chunk(data);
    let _ = manifest.allow.permits(&[]);
});
