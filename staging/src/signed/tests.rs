//! Every bit and every length of a signed manifest, on the way a device takes it.
//!
//! `tests/signed` has a manifest, its signature as gpg makes it, and the
//! certificate; the key is gone, so they are what they are for ever.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use super::*;

const MANIFEST: &[u8] = include_bytes!("../../tests/signed/v1.1.0.json");
const SIGNATURE: &[u8] = include_bytes!("../../tests/signed/v1.1.0.json.asc");
const KEY: &[u8] = include_bytes!("../../tests/signed/key.asc");

/// A place where a release lies, and who may sign it.
struct Place {
    keyring: Keyring,
    manifest: PathBuf,
    _dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        fs::create_dir(&keys).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(keys.join("key.asc"), KEY).unwrap();
        fs::set_permissions(keys.join("key.asc"), fs::Permissions::from_mode(0o600)).unwrap();
        Self {
            keyring: Keyring::load(&keys).unwrap(),
            manifest: dir.path().join("v1.1.0.json"),
            _dir: dir,
        }
    }

    fn read(&self, manifest: &[u8], signature: &[u8]) -> Result<Signed> {
        fs::write(&self.manifest, manifest).unwrap();
        fs::write(signature_path(&self.manifest), signature).unwrap();
        Signed::read(&self.manifest, &self.keyring)
    }
}

/// All flips of one bit, and all beginnings.
fn damages(whole: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let flips = (0..whole.len() * 8).map(|bit| {
        let mut changed = whole.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    });
    flips.chain((0..whole.len()).map(|length| whole[..length].to_vec()))
}

/// Does something with each, on two threads.
fn each(damages: &[Vec<u8>], check: impl Fn(&Place, &[u8]) + Sync) {
    thread::scope(|scope| {
        for half in damages.chunks(damages.len().div_ceil(2)) {
            let check = &check;
            scope.spawn(move || {
                let place = Place::new();
                for damaged in half {
                    check(&place, damaged);
                }
            });
        }
    });
}

#[test]
fn every_flip_and_every_beginning_of_a_signed_manifest_is_refused() {
    let place = Place::new();
    assert_eq!(place.read(MANIFEST, SIGNATURE).unwrap().bytes, MANIFEST);
    let damages: Vec<_> = damages(MANIFEST).collect();
    assert_eq!(damages.len(), MANIFEST.len() * 9);
    each(&damages, |place, damaged| {
        let why = place.read(damaged, SIGNATURE).unwrap_err();
        assert_eq!(why.kind, Exit::Verification, "{why}");
        // Not by what it says: nothing of it was looked at.
        let signature = signature_path(&place.manifest);
        assert_eq!(why.what, signature.to_string_lossy(), "{why}");
    });
}

/// What a signature does not cover may change (the hint whose it is, the
/// comment and line ends of its armour): then nothing else has.
#[test]
fn every_flip_and_every_beginning_of_a_signature_is_refused_or_changes_nothing() {
    let place = Place::new();
    let signer = place.read(MANIFEST, SIGNATURE).unwrap().signer;
    let damages: Vec<_> = damages(SIGNATURE).collect();
    each(&damages, |place, damaged| {
        match place.read(MANIFEST, damaged) {
            Ok(taken) => {
                assert_eq!(taken.bytes, MANIFEST);
                assert_eq!(taken.signer, signer);
                // A beginning may only lack the last newline.
                assert!(damaged.len() >= SIGNATURE.len() - 1, "{}", damaged.len());
            }
            Err(why) => assert_eq!(why.kind, Exit::Verification, "{why}"),
        }
    });
}

#[test]
fn no_signature_is_a_reason_to_look_at_a_manifest() {
    let place = Place::new();
    for signature in [&b""[..], b"\0", MANIFEST, KEY] {
        let why = place.read(MANIFEST, signature).unwrap_err();
        assert_eq!(why.kind, Exit::Verification, "{why}");
    }
    fs::remove_file(signature_path(&place.manifest)).unwrap();
    let why = Signed::read(Path::new(&place.manifest), &place.keyring).unwrap_err();
    assert_eq!(why.kind, Exit::Verification, "{why}");
}
