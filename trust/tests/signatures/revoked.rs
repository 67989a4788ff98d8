//! Revocations: the hard ones, which reach back, and the soft ones.

use op_dbus_trust::TrustError;
use sequoia_openpgp::cert::CertBuilder;
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::types::{ReasonForRevocation, SignatureType};

use crate::gpg::{
    Gpg, MESSAGE, Y2020, Y2021, Y2022, Y2023, craft, keyring, of, reason, refused, verify, year,
};

/// A key of 2020, what it signed in 2021 and 2023, and its certificate with a
/// revocation of 2022 in it.
struct Story {
    before: Vec<u8>,
    after: Vec<u8>,
    revocation: Vec<u8>,
    of_2021: Vec<u8>,
    of_2023: Vec<u8>,
}

fn story(why: &str) -> Story {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let before = gpg.export(&key);
    let of_2021 = gpg.sign(Y2021, &[&key], MESSAGE);
    let of_2023 = gpg.sign(Y2023, &[&key], MESSAGE);
    let revocation = gpg.revocation(Y2022, &key, why);
    gpg.import(Y2022, &revocation);
    Story {
        before,
        after: gpg.export(&key),
        revocation,
        of_2021,
        of_2023,
    }
}

#[test]
fn compromised_refuses_whatever_the_time() {
    for why in [reason::COMPROMISED, reason::NONE] {
        let story = story(why);
        for signature in [&story.of_2021, &story.of_2023] {
            verify(&story.before, signature).unwrap();
            let result = verify(&story.after, signature);
            refused!(result, TrustError::Revoked { .. });
        }
        let ring = keyring(&story.after);
        assert!(ring.certificates()[0].revoked.is_some());
        // It is told, but no problem: the file does what it is there for.
        assert_eq!(ring.problems(), []);
    }
}

#[test]
fn superseded_and_retired_refuse_from_then_on() {
    for why in [reason::SUPERSEDED, reason::RETIRED] {
        let story = story(why);
        verify(&story.after, &story.of_2021).unwrap();
        let result = verify(&story.after, &story.of_2023);
        refused!(result, TrustError::Revoked { .. });
    }
}

/// A revocation counts beside the certificate as well as in it: as a file of
/// its own, and in an export of the same certificate, in any order.
#[test]
fn a_revocation_counts_wherever_it_is() {
    let story = story(reason::COMPROMISED);
    let Story {
        before,
        after,
        revocation,
        of_2021,
        ..
    } = &story;
    for parts in [
        [before, revocation],
        [revocation, before],
        [before, after],
        [after, before],
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("1.asc"), parts[0]).unwrap();
        std::fs::write(dir.path().join("2.asc"), parts[1]).unwrap();
        let ring = op_dbus_trust::Keyring::load(dir.path()).unwrap();
        assert_eq!(ring.problems(), []);
        assert_eq!(ring.certificates().len(), 1);
        assert_eq!(ring.certificates()[0].files.len(), 2);
        let result = ring.verify(MESSAGE, of_2021);
        refused!(result, TrustError::Revoked { .. });
    }
}

/// gpg puts text before the armor of the revocation it makes with each key,
/// and a colon into it so that nobody uses it by mistake.
#[test]
fn the_revocation_gpg_keeps_for_emergencies() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let signature = gpg.sign(Y2021, &[&key], MESSAGE);
    let kept = gpg.kept_revocation(&key);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.asc"), gpg.export(&key)).unwrap();
    let load = || op_dbus_trust::Keyring::load(dir.path()).unwrap();

    std::fs::write(dir.path().join("r.asc"), &kept).unwrap();
    assert_eq!(load().problems().len(), 1);
    load().verify(MESSAGE, &signature).unwrap();

    let armed = kept.replace(":-----BEGIN", "-----BEGIN");
    std::fs::write(dir.path().join("r.asc"), armed).unwrap();
    assert_eq!(load().problems(), []);
    refused!(
        load().verify(MESSAGE, &signature),
        TrustError::Revoked { .. }
    );
}

#[test]
fn a_revocation_of_nobody_here_is_told() {
    let (ours, theirs) = (story(reason::RETIRED), story(reason::COMPROMISED));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.asc"), &ours.before).unwrap();
    std::fs::write(dir.path().join("r.asc"), &theirs.revocation).unwrap();
    let ring = op_dbus_trust::Keyring::load(dir.path()).unwrap();
    assert!(ring.problems()[0].why.contains("revokes no certificate"));
    ring.verify(MESSAGE, &ours.of_2021).unwrap();
}

/// Not even a self-signature made later takes a revocation back.
#[test]
fn retired_is_not_undone_by_a_newer_self_signature() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "ed25519", "sign", "never");
    let revocation = gpg.revocation(Y2021, &key, reason::RETIRED);
    gpg.run(
        Y2022,
        &["--batch", "--quick-set-expire", &key, "2030-01-01"],
        b"",
    );
    let signature = gpg.sign(Y2023, &[&key], MESSAGE);
    let both = [gpg.export(&key), Vec::new()].concat();
    verify(&both, &signature).unwrap();
    gpg.import(Y2023, &revocation);
    let result = verify(&gpg.export(&key), &signature);
    refused!(result, TrustError::Revoked { .. });
}

#[test]
fn a_revoked_subkey() {
    for (why, old_counts) in [(reason::COMPROMISED, false), (reason::RETIRED, true)] {
        let gpg = Gpg::new();
        let primary = gpg.key(Y2020, "a", "ed25519", "cert", "never");
        let subkey = gpg.subkey(Y2020, &primary, "ed25519", "sign", "never");
        let of_2021 = gpg.sign(Y2021, &[&primary], MESSAGE);
        let of_2023 = gpg.sign(Y2023, &[&primary], MESSAGE);
        gpg.revoke_subkey(Y2022, &primary, &subkey, why);
        let ring = keyring(&gpg.export(&primary));
        assert_eq!(ring.verify(MESSAGE, &of_2021).is_ok(), old_counts);
        match ring.verify(MESSAGE, &of_2023) {
            Err(TrustError::Revoked { fingerprint, .. }) => assert_eq!(fingerprint, subkey),
            other => panic!("{other:?}"),
        }
        assert_eq!(ring.certificates()[0].revoked, None);
        // Another subkey goes on.
        gpg.subkey(Y2022, &primary, "ed25519", "sign", "never");
        let signature = gpg.sign(Y2023, &[&primary], MESSAGE);
        verify(&gpg.export(&primary), &signature).unwrap();
    }
}

/// A digest too weak to trust a signature by is good enough to end a key.
#[test]
fn a_revocation_with_a_weak_digest_counts() {
    let gpg = Gpg::new();
    let key = gpg.key(Y2020, "a", "rsa2048", "sign", "never");
    let signature = gpg.sign(Y2021, &[&key], MESSAGE);
    let answers = b"y\n1\n\ny\n";
    let more = [
        "--cert-digest-algo",
        "SHA1",
        "--command-fd",
        "0",
        "--gen-revoke",
        &key,
    ];
    let revocation = gpg.run(Y2022, &more, answers);
    let both = [gpg.export(&key), revocation].concat();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.asc"), &both).unwrap();
    let ring = op_dbus_trust::Keyring::load(dir.path()).unwrap();
    refused!(ring.verify(MESSAGE, &signature), TrustError::Revoked { .. });
}

/// A revoker that the certificate names is taken at its word, as its own
/// certificate need not be here; one it does not name is not.
#[test]
fn a_named_revoker_counts_and_a_stranger_does_not() {
    let build = || CertBuilder::new().set_creation_time(year(2020));
    let (friend, _) = build().generate().unwrap();
    let (stranger, _) = build().generate().unwrap();
    let (cert, _) = build()
        .add_signing_subkey()
        .set_revocation_keys(vec![(&friend).into()])
        .generate()
        .unwrap();
    let key = cert
        .keys()
        .subkeys()
        .next()
        .unwrap()
        .key()
        .fingerprint()
        .to_string();
    let signature = craft(&cert, &key, of(year(2021)));
    for (revoker, counts) in [(&friend, true), (&stranger, false)] {
        let mut secret = revoker
            .primary_key()
            .key()
            .clone()
            .parts_into_secret()
            .unwrap()
            .into_keypair()
            .unwrap();
        let revocation = SignatureBuilder::new(SignatureType::KeyRevocation)
            .set_signature_creation_time(year(2022))
            .unwrap()
            .set_reason_for_revocation(ReasonForRevocation::KeyCompromised, b"")
            .unwrap()
            .sign_direct_key(&mut secret, Some(cert.primary_key().key()))
            .unwrap();
        let (cert, _) = cert.clone().insert_packets(vec![revocation]).unwrap();
        let result = verify(&cert.to_vec().unwrap(), &signature);
        if counts {
            refused!(result, TrustError::Revoked { .. });
        } else {
            result.unwrap();
        }
    }
}
