//! What a device does not take, whoever signed.

use std::time::Duration;

use op_dbus_trust::{MAX_SIGNATURE, TrustError};
use sequoia_openpgp::Fingerprint;
use sequoia_openpgp::types::HashAlgorithm;

use crate::gpg::{
    ED25519, Gpg, MESSAGE, RSA3072, Y2020, Y2021, Y2022, craft, keyring, of, refused, verify, year,
};

#[test]
fn an_unknown_key() {
    let error = verify(&ED25519.certificate, &RSA3072.signature).unwrap_err();
    let TrustError::UnknownKey { keyid } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*keyid, RSA3072.fingerprint);
    assert!(error.to_string().contains(keyid), "{error}");
}

/// A signature by one key that names another as its maker.
#[test]
fn a_stranger_under_a_trusted_name() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let named = Fingerprint::from_hex(&ED25519.fingerprint).unwrap();
    let builder = of(year(2021)).set_issuer_fingerprint(named).unwrap();
    let forged = craft(&gpg.secret(&key), &key, builder);
    refused!(
        verify(&ED25519.certificate, &forged),
        TrustError::BadSignature { .. }
    );
}

#[test]
fn expired_before_signing() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "2021-06-01");
    let before = gpg.export(&key);
    let extend = ["--batch", "--quick-set-expire", &key, "2030-01-01"];
    gpg.run(Y2021, &extend, b"");
    let signature = gpg.sign(Y2022, &[&key], MESSAGE);
    refused!(verify(&before, &signature), TrustError::Expired { .. });
    // The device that got the extended certificate takes it.
    verify(&gpg.export(&key), &signature).unwrap();
}

#[test]
fn a_subkey_expired_before_signing() {
    let gpg = Gpg::new();
    let primary = gpg.key(Y2020, "a", "ed25519", "cert", "never");
    let subkey = gpg.subkey(Y2020, &primary, "ed25519", "sign", "2021-06-01");
    let before = gpg.export(&primary);
    let extend = ["--batch", "--quick-set-expire", &primary, "0", &subkey];
    gpg.run(Y2021, &extend, b"");
    let signature = gpg.sign(Y2022, &[&primary], MESSAGE);
    match verify(&before, &signature) {
        Err(TrustError::Expired { fingerprint, .. }) => assert_eq!(fingerprint, subkey),
        other => panic!("{other:?}"),
    }
    verify(&gpg.export(&primary), &signature).unwrap();
}

/// gpg replaces the self-signature when it extends a key. Both exports
/// together know both times.
#[test]
fn signed_before_the_only_self_signature_left() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "2021-06-01");
    let before = gpg.export(&key);
    let signature = gpg.sign(Y2021, &[&key], MESSAGE);
    let extend = ["--batch", "--quick-set-expire", &key, "2030-01-01"];
    gpg.run(Y2022, &extend, b"");
    let after = gpg.export(&key);
    refused!(verify(&after, &signature), TrustError::NotBound { .. });
    verify(&[before, after].concat(), &signature).unwrap();
}

#[test]
fn older_than_its_key() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2022, "a", "ed25519", "sign", "never");
    let signature = gpg.sign_with(Y2021, &[&key], &["--ignore-time-conflict"], MESSAGE);
    let result = verify(&gpg.export(&key), &signature);
    refused!(result, TrustError::OlderThanKey { .. });
}

#[test]
fn a_key_that_is_not_for_signing() {
    let gpg = Gpg::new();
    let primary = gpg.key(Y2020, "a", "rsa2048", "cert", "never");
    let encryption = gpg.subkey(Y2020, &primary, "rsa2048", "encrypt", "never");
    let secret = gpg.secret(&primary);
    let ring = keyring(&gpg.export(&primary));
    assert!(!ring.certificates()[0].can_sign);
    assert!(
        ring.problems()[0]
            .why
            .contains("no key of it is for signing")
    );
    for key in [&primary, &encryption] {
        let signature = craft(&secret, key, of(year(2021)));
        match ring.verify(MESSAGE, &signature) {
            Err(TrustError::NotASigningKey { fingerprint }) => assert_eq!(fingerprint, *key),
            other => panic!("{other:?}"),
        }
    }
}

/// Also when it says that it is from a time in which these were good enough.
#[test]
fn weak_digests() {
    let gpg = Gpg::new();
    let key = gpg.key("20050101T000000", "a", "rsa2048", "sign", "never");
    let ring = keyring(&gpg.export(&key));
    for at in ["20060101T000000", Y2021] {
        for digest in ["SHA1", "RIPEMD160", "MD5"] {
            let more = ["--digest-algo", digest, "--allow-weak-digest-algos"];
            let signature = gpg.sign_with(at, &[&key], &more, MESSAGE);
            let result = ring.verify(MESSAGE, &signature);
            refused!(result, TrustError::WeakAlgorithm { .. });
        }
        let more = ["--digest-algo", "SHA256"];
        let good = gpg.sign_with(at, &[&key], &more, MESSAGE);
        ring.verify(MESSAGE, &good).unwrap();
    }
}

#[test]
fn weak_keys() {
    let gpg = Gpg::new();
    let key = gpg.key("20050101T000000", "a", "rsa1024", "sign", "never");
    let ring = keyring(&gpg.export(&key));
    assert!(!ring.certificates()[0].can_sign);
    for at in ["20060101T000000", Y2021] {
        let signature = gpg.sign(at, &[&key], MESSAGE);
        let result = ring.verify(MESSAGE, &signature);
        refused!(result, TrustError::WeakAlgorithm { .. });
    }
}

/// A certificate whose self-signature anybody could forge today.
#[test]
fn keys_bound_by_a_weak_digest() {
    let gpg = Gpg::new();
    let weak = [
        "--batch",
        "--cert-digest-algo",
        "SHA1",
        "--quick-generate-key",
        "a",
        "rsa2048",
        "sign",
        "never",
    ];
    gpg.run("20100101T000000", &weak, b"");
    let signature = gpg.sign("20110101T000000", &[], MESSAGE);
    let result = verify(&gpg.export("a"), &signature);
    refused!(result, TrustError::WeakAlgorithm { .. });
}

#[test]
fn signatures_that_expire() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let more = ["--default-sig-expire", "10y"];
    let signature = gpg.sign_with(Y2021, &[&key], &more, MESSAGE);
    refused!(verify(&gpg.export(&key), &signature), TrustError::Expires);
}

#[test]
fn signatures_over_text() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let signature = gpg.sign_with(Y2021, &[&key], &["--textmode"], MESSAGE);
    let result = verify(&gpg.export(&key), &signature);
    refused!(result, TrustError::Kind { .. });
}

#[test]
fn what_is_not_detached() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let ring = keyring(&gpg.export(&key));
    let sign = |args: &[&str]| gpg.run(Y2021, &[&["--batch"], args].concat(), MESSAGE);
    for (args, word) in [
        (&["--clear-sign"][..], "cleartext"),
        (&["--armor", "--sign"], "inside"),
        (&["--sign"], "no signature"),
        (&["--armor", "--export", &key], "certificate"),
        (&["--export", &key], "no signature"),
    ] {
        let error = ring.verify(MESSAGE, &sign(args)).unwrap_err();
        assert!(matches!(error, TrustError::Malformed { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn demands_that_are_not_understood() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let ring = keyring(&gpg.export(&key));
    let more = ["--sig-notation", "!only-on-mondays@example.org=yes"];
    let critical = gpg.sign_with(Y2021, &[&key], &more, MESSAGE);
    refused!(ring.verify(MESSAGE, &critical), TrustError::Kind { .. });
    let more = ["--sig-notation", "built-by@example.org=ci"];
    let remark = gpg.sign_with(Y2021, &[&key], &more, MESSAGE);
    ring.verify(MESSAGE, &remark).unwrap();
}

#[test]
fn too_long_or_too_many() {
    let ring = keyring(&ED25519.certificate);
    let long = vec![b'\n'; MAX_SIGNATURE + 1];
    refused!(ring.verify(MESSAGE, &long), TrustError::Malformed { .. });
    let many = ED25519.signature.repeat(17);
    refused!(ring.verify(MESSAGE, &many), TrustError::Malformed { .. });
    ring.verify(MESSAGE, &ED25519.signature.repeat(16)).unwrap();
    // Markers, five bytes each.
    let empty = b"\xca\x03PGP".repeat(5000);
    refused!(ring.verify(MESSAGE, &empty), TrustError::Malformed { .. });
}

/// The period of a signature that never ends may be given as zero.
#[test]
fn a_period_of_zero_is_none() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let builder = of(year(2021))
        .set_signature_validity_period(Duration::ZERO)
        .unwrap()
        .set_hash_algo(HashAlgorithm::SHA256);
    let signature = craft(&gpg.secret(&key), &key, builder);
    verify(&gpg.export(&key), &signature).unwrap();
}
