//! A product changes its release key, as docs/TRUST.md tells it to.

use std::fs;
use std::path::Path;

use op_dbus_trust::{Keyring, TrustError};

use crate::gpg::{Gpg, MESSAGE, Y2020, Y2021, Y2022, Y2023, reason, refused};

const NEXT: &[u8] = b"{\"version\": \"v2.0.0\"}\n";

#[test]
fn from_one_key_to_the_next() {
    let gpg = Gpg::new();
    let old = gpg.key(Y2020, "old", "nistp256", "sign", "never");
    let new = gpg.key(Y2022, "new", "ed25519", "sign", "never");
    let by_old = gpg.sign(Y2021, &[&old], MESSAGE);
    let by_both = gpg.sign(Y2022, &[&old, &new], NEXT);
    let by_new = gpg.sign(Y2023, &[&new], NEXT);

    let device = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(device.path().join(name), bytes).unwrap();
    let ring = || Keyring::load(device.path()).unwrap();

    // It knows the old key: a release signed by both counts, by the new one not.
    put("old.asc", &gpg.export(&old));
    assert_eq!(ring().verify(MESSAGE, &by_old).unwrap().fingerprint, old);
    assert_eq!(ring().verify(NEXT, &by_both).unwrap().fingerprint, old);
    refused!(ring().verify(NEXT, &by_new), TrustError::UnknownKey { .. });

    // It knows both: all three count.
    put("new.asc", &gpg.export(&new));
    ring().verify(MESSAGE, &by_old).unwrap();
    ring().verify(NEXT, &by_both).unwrap();
    assert_eq!(ring().verify(NEXT, &by_new).unwrap().fingerprint, new);

    // The old one retires: what it signed before still counts.
    let retired = gpg.revocation(Y2023, &old, reason::RETIRED);
    put("old-retired.asc", &retired);
    ring().verify(MESSAGE, &by_old).unwrap();
    ring().verify(NEXT, &by_both).unwrap();

    // It turns out to be stolen: only the new key's signature counts.
    let stolen = gpg.revocation(Y2023, &old, reason::COMPROMISED);
    put("old-stolen.asc", &stolen);
    refused!(ring().verify(MESSAGE, &by_old), TrustError::Revoked { .. });
    assert_eq!(ring().verify(NEXT, &by_both).unwrap().fingerprint, new);

    // Without the old certificate the old signature is a stranger's.
    for name in ["old.asc", "old-retired.asc", "old-stolen.asc"] {
        fs::remove_file(device.path().join(name)).unwrap();
    }
    refused!(
        ring().verify(MESSAGE, &by_old),
        TrustError::UnknownKey { .. }
    );
    assert_eq!(ring().verify(NEXT, &by_both).unwrap().fingerprint, new);
    assert_eq!(ring().verify(NEXT, &by_new).unwrap().fingerprint, new);
}

/// Two people, or two machines, sign apart: `cat old.asc new.asc`.
#[test]
fn signatures_joined_by_cat() {
    let (one, other) = (Gpg::new(), Gpg::new());
    let old = one.key(Y2020, "old", "ed25519", "sign", "never");
    let new = other.key(Y2020, "new", "nistp256", "sign", "never");
    let joined = [
        one.sign(Y2021, &[&old], MESSAGE),
        other.sign(Y2021, &[&new], MESSAGE),
    ]
    .concat();
    for (certificate, signer) in [(one.export(&old), old), (other.export(&new), new)] {
        let ring = Keyring::from_bytes(&certificate, Path::new("one.asc")).unwrap();
        let signed = ring.verify(MESSAGE, &joined).unwrap();
        assert_eq!(signed.fingerprint, signer);
    }
}

/// None of several counts: the error says why not, for each.
#[test]
fn every_reason_is_told() {
    let gpg = Gpg::new();
    let here = gpg.key(Y2020, "here", "ed25519", "sign", "never");
    let away = gpg.key(Y2020, "away", "ed25519", "sign", "never");
    let ring = Keyring::from_bytes(&gpg.export(&here), Path::new("one.asc")).unwrap();
    let signature = gpg.sign(Y2021, &[&here, &away], MESSAGE);
    let error = ring.verify(NEXT, &signature).unwrap_err();
    let TrustError::Several(reasons) = &error else {
        panic!("{error:?}");
    };
    assert!(matches!(reasons[0], TrustError::BadSignature { .. }));
    assert!(matches!(reasons[1], TrustError::UnknownKey { .. }));
    let text = error.to_string();
    assert!(text.contains(&here) && text.contains(&away), "{text}");
    assert!(!text.contains('\n'));
}
