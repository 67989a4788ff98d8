//! Parser and policy on any bytes: as they are, and with their lengths and
//! checksums mended.
#![no_main]

mod frames;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use op_dbus_sendstream::{Policy, vet, vet_into};

fuzz_target!(|data: &[u8]| {
    check(data);
    check(&frames::mended(data));
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    frames::mutate(data, size, max_size, seed)
});

/// What is handed on is a prefix of what came in, and all of it if it is accepted.
fn check(bytes: &[u8]) {
    let policy = Policy::default();
    let mut passed = 0;
    let result = vet_into(bytes, &policy, |part| {
        assert_eq!(bytes.get(passed..passed + part.len()), Some(part));
        passed += part.len();
        Ok(())
    });
    match result {
        Ok(summary) => {
            assert_eq!(passed, bytes.len());
            assert_eq!(summary.bytes, bytes.len() as u64);
            let again = vet(bytes, &policy).expect("accepted once");
            assert_eq!(summary, again);
        }
        Err(why) => {
            assert!(why.offset <= bytes.len() as u64);
            assert!(!why.to_string().chars().any(char::is_control));
        }
    }
}
