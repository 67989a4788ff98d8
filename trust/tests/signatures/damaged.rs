//! Every byte of a message, every bit of a signature.

use op_dbus_trust::{Keyring, Signer, TrustError};
use sequoia_openpgp::Packet;
use sequoia_openpgp::PacketPile;
use sequoia_openpgp::packet::Signature;
use sequoia_openpgp::parse::Parse as _;

use crate::gpg::{ED25519, MESSAGE, NISTP256, Plain, keyring, refused};

#[test]
fn a_message_changed_anywhere() {
    let ring = keyring(&ED25519.certificate);
    let check = |message: &[u8]| {
        let result = ring.verify(message, &ED25519.signature);
        refused!(result, TrustError::BadSignature { .. });
    };
    for index in 0..MESSAGE.len() {
        let mut changed = MESSAGE.to_vec();
        for flip in [0x01, 0x20, 0x80] {
            changed[index] = MESSAGE[index] ^ flip;
            check(&changed);
        }
        // One byte less, one more, there.
        changed.remove(index);
        check(&changed);
        changed.splice(index..index, [MESSAGE[index], b' ']);
        check(&changed);
    }
    check(b"");
    check(&[MESSAGE, b"\n"].concat());
    check(&[MESSAGE, b"\0"].concat());
    check(&[MESSAGE, MESSAGE].concat());
    let dos = String::from_utf8_lossy(MESSAGE).replace('\n', "\r\n");
    check(dos.as_bytes());
}

fn only_signature(bytes: &[u8]) -> Signature {
    let pile = PacketPile::from_bytes(bytes).unwrap();
    let mut packets = pile.into_children();
    let (Some(Packet::Signature(signature)), None) = (packets.next(), packets.next()) else {
        panic!("one signature");
    };
    signature
}

/// A changed file may only be accepted if nothing of what the signature covers
/// was changed. What it does not cover: the issuer that helps to find the key,
/// the two bytes that help to find errors early, and how lengths are written.
#[track_caller]
fn harmless(changed: &[u8], whole: &Signature, signer: &Signer, expected: &Signer) {
    assert_eq!(signer, expected);
    let changed = only_signature(changed);
    assert_eq!(changed.version(), whole.version());
    assert_eq!(changed.typ(), whole.typ());
    assert_eq!(changed.pk_algo(), whole.pk_algo());
    assert_eq!(changed.hash_algo(), whole.hash_algo());
    assert_eq!(changed.hashed_area(), whole.hashed_area());
    assert_eq!(changed.mpis(), whole.mpis());
}

#[track_caller]
fn every_flip(ring: &Keyring, bytes: &[u8], flips: &[u8]) -> usize {
    let expected = ring.verify(MESSAGE, bytes).unwrap();
    let whole = only_signature(bytes);
    let mut taken = 0;
    for index in 0..bytes.len() {
        for flip in flips {
            let mut changed = bytes.to_vec();
            changed[index] ^= flip;
            if let Ok(signer) = ring.verify(MESSAGE, &changed) {
                harmless(&changed, &whole, &signer, &expected);
                taken += 1;
            }
        }
    }
    taken
}

fn binary(plain: &Plain) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mode = sequoia_openpgp::armor::ReaderMode::Tolerant(None);
    let mut reader = sequoia_openpgp::armor::Reader::from_bytes(&plain.signature, mode);
    std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
    bytes
}

#[test]
fn every_bit_of_a_signature() {
    let bits: Vec<u8> = (0..8).map(|bit| 1 << bit).collect();
    for plain in [&*ED25519, &*NISTP256] {
        let bytes = binary(plain);
        let taken = every_flip(&keyring(&plain.certificate), &bytes, &bits);
        // Two bytes of digest, eight of the issuer's key id beside its
        // fingerprint, and the bytes that frame these.
        assert!(taken < 13 * 8, "{taken} of {} bits", bytes.len() * 8);
    }
}

#[test]
fn every_letter_of_an_armored_signature() {
    let flips = [0x01, 0x20, 0x80];
    every_flip(&keyring(&ED25519.certificate), &ED25519.signature, &flips);
}

#[test]
fn a_signature_cut_short_anywhere() {
    let ring = keyring(&ED25519.certificate);
    let armored = &ED25519.signature;
    // The newest line end at the end is no loss.
    for length in 0..armored.len() - 1 {
        let result = ring.verify(MESSAGE, &armored[..length]);
        refused!(result, TrustError::Malformed { .. });
    }
    let bytes = binary(&ED25519);
    for length in 0..bytes.len() {
        ring.verify(MESSAGE, &bytes[..length]).unwrap_err();
    }
    for more in [&b"x"[..], b"\0", &bytes[..10]] {
        ring.verify(MESSAGE, &[&bytes, more].concat()).unwrap_err();
    }
}

#[test]
fn line_ends_of_another_system() {
    let dos = String::from_utf8_lossy(&ED25519.signature).replace('\n', "\r\n");
    let ring = keyring(&ED25519.certificate);
    ring.verify(MESSAGE, dos.as_bytes()).unwrap();
}
