//! What a device takes.

use op_dbus_trust::inspect;

use crate::gpg::{
    ED25519, Gpg, MESSAGE, NISTP256, Plain, RSA3072, Y2020, Y2021, Y2022, Y2099, keyring, reason,
    verify, year,
};

#[track_caller]
fn accepts(plain: &Plain) {
    let signer = verify(&plain.certificate, &plain.signature).unwrap();
    assert_eq!(signer.fingerprint, plain.fingerprint);
    assert_eq!(signer.key, plain.fingerprint);
    assert_eq!(signer.signed_at, year(2021));
    assert!(signer.user_id.unwrap().ends_with("<release@example.org>"));
}

#[test]
fn plain_gpg_signatures_of_each_algorithm() {
    accepts(&ED25519);
    accepts(&RSA3072);
    accepts(&NISTP256);
}

#[test]
fn a_binary_signature() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let signature = gpg.run(Y2021, &["--batch", "--detach-sign"], MESSAGE);
    assert!(signature[0] & 0x80 != 0);
    verify(&gpg.export(&key), &signature).unwrap();
}

#[test]
fn a_signature_by_a_subkey() {
    let gpg = Gpg::new();
    let primary = gpg.key(Y2020, "a", "ed25519", "cert", "never");
    let subkey = gpg.subkey(Y2020, &primary, "rsa2048", "sign", "never");
    let signer = verify(
        &gpg.export(&primary),
        &gpg.sign(Y2021, &[&primary], MESSAGE),
    )
    .unwrap();
    assert_eq!(signer.fingerprint, primary);
    assert_eq!(signer.key, subkey);
}

#[test]
fn made_in_the_second_the_key_was_made() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    verify(&gpg.export(&key), &gpg.sign(Y2020, &[&key], MESSAGE)).unwrap();
}

#[test]
fn expired_only_after_signing() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "2021-06-01");
    let signature = gpg.sign(Y2021, &[&key], MESSAGE);
    let ring = keyring(&gpg.export(&key));
    ring.verify(MESSAGE, &signature).unwrap();
    assert!(ring.certificates()[0].expires.unwrap() < year(2022));
}

#[test]
fn retired_or_superseded_only_after_signing() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let signature = gpg.sign(Y2021, &[&key], MESSAGE);
    for why in [reason::RETIRED, reason::SUPERSEDED] {
        let device = Gpg::new();
        device.import(Y2022, &gpg.export(&key));
        device.import(Y2022, &gpg.revocation(Y2022, &key, why));
        let ring = keyring(&device.export(&key));
        assert!(ring.certificates()[0].revoked.is_some());
        ring.verify(MESSAGE, &signature).unwrap();
    }
}

/// The clock is not asked, so the future is as good as the past.
#[test]
fn a_signature_of_the_future() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let signature = gpg.sign(Y2099, &[&key], MESSAGE);
    let signer = verify(&gpg.export(&key), &signature).unwrap();
    assert_eq!(signer.signed_at, year(2099));
}

#[test]
fn a_key_of_the_future() {
    let gpg = Gpg::new();
    let key = gpg.key("20980101T000000", "a", "ed25519", "sign", "never");
    let signature = gpg.sign(Y2099, &[&key], MESSAGE);
    let certificate = gpg.run(Y2099, &["--batch", "--armor", "--export", &key], b"");
    verify(&certificate, &signature).unwrap();
}

#[test]
fn without_a_user_id_to_show_when_it_is_revoked() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "first", "ed25519", "sign", "never");
    gpg.run(Y2020, &["--batch", "--quick-add-uid", &key, "second"], b"");
    gpg.run(
        Y2021,
        &["--batch", "--quick-revoke-uid", &key, "second"],
        b"",
    );
    let ring = keyring(&gpg.export(&key));
    let signer = ring
        .verify(MESSAGE, &gpg.sign(Y2022, &[&key], MESSAGE))
        .unwrap();
    assert_eq!(signer.user_id.as_deref(), Some("first"));
    assert_eq!(ring.certificates()[0].user_ids.len(), 2);
}

#[test]
fn inspect_tells_what_gpg_made() {
    let [found] = &inspect(&ED25519.signature).unwrap()[..] else {
        panic!("one signature");
    };
    assert_eq!(found.issuers[0], ED25519.fingerprint);
    assert_eq!(found.created, Some(year(2021)));
    assert!(["SHA256", "SHA512"].contains(&&*found.hash));
    assert!(found.binary);
    assert!(!found.expires);
    assert!(inspect(b"").is_err());
}
