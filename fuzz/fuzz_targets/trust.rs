//! Certificates and signatures of any bytes, told apart by a length in front.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use op_dbus_trust::{Keyring, inspect};

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first_chunk() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes(*length));
    let (certificate, signature) = rest.split_at(rest.len().min(length));
    let _ = inspect(signature);
    match Keyring::from_bytes(certificate, Path::new("certificate")) {
        Ok(keyring) => {
            let _ = keyring.verify(b"message\n", signature);
            for problem in keyring.problems() {
                printable(&problem.to_string());
            }
        }
        Err(why) => printable(&why.to_string()),
    }
});

fn printable(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
