//! No bytes make it panic, and none that were not signed are accepted.

use std::path::Path;

use op_dbus_trust::{Keyring, inspect};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::gpg::{ED25519, MESSAGE, NISTP256, RSA3072, keyring};

/// One change to a file: bytes put in the place of others.
type Splice = (Index, usize, Vec<u8>);

fn splices() -> impl Strategy<Value = Vec<Splice>> {
    let splice = (any::<Index>(), 0usize..40, vec(any::<u8>(), 0..40));
    vec(splice, 1..4)
}

fn spliced(bytes: &[u8], splices: &[Splice]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for (at, length, new) in splices {
        let start = at.index(changed.len() + 1);
        let end = changed.len().min(start + length);
        changed.splice(start..end, new.iter().copied());
    }
    changed
}

/// Both forms of a file, as many parsers see only one.
fn forms(armored: &[u8]) -> [Vec<u8>; 2] {
    let mut binary = Vec::new();
    let mode = sequoia_openpgp::armor::ReaderMode::Tolerant(None);
    let mut reader = sequoia_openpgp::armor::Reader::from_bytes(armored, mode);
    std::io::Read::read_to_end(&mut reader, &mut binary).unwrap();
    [armored.to_vec(), binary]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_signature(mut bytes in vec(any::<u8>(), 0..400), tag in any::<bool>()) {
        if let (true, Some(first)) = (tag, bytes.first_mut()) {
            // A signature packet, of the old format.
            *first = 0x88;
        }
        let _ = inspect(&bytes);
        prop_assert!(keyring(&ED25519.certificate).verify(MESSAGE, &bytes).is_err());
    }

    #[test]
    fn any_bytes_as_certificate(mut bytes in vec(any::<u8>(), 0..400), tag in any::<bool>()) {
        if let (true, Some(first)) = (tag, bytes.first_mut()) {
            *first = 0x98;
        }
        let _ = Keyring::from_bytes(&bytes, Path::new("a.asc"));
    }

    #[test]
    fn a_changed_signature(splices in splices(), form in 0usize..2, which in 0usize..3) {
        let plain = [&ED25519, &RSA3072, &NISTP256][which];
        let changed = spliced(&forms(&plain.signature)[form], &splices);
        let _ = inspect(&changed);
        if let Ok(signer) = keyring(&plain.certificate).verify(MESSAGE, &changed) {
            prop_assert_eq!(&signer.fingerprint, &plain.fingerprint);
        }
        prop_assert!(keyring(&plain.certificate).verify(b"other", &changed).is_err());
    }

    #[test]
    fn a_changed_certificate(splices in splices(), form in 0usize..2, which in 0usize..3) {
        let plain = [&ED25519, &RSA3072, &NISTP256][which];
        let changed = spliced(&forms(&plain.certificate)[form], &splices);
        if let Ok(ring) = Keyring::from_bytes(&changed, Path::new("a.asc")) {
            let _ = ring.verify(MESSAGE, &plain.signature);
            prop_assert!(ring.verify(b"other", &plain.signature).is_err());
        }
    }
}
