//! The rules: does a signature count, and may this key have made it at the
//! time it claims?
//!
//! Nothing here asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use sequoia_openpgp::cert::ValidCert;
use sequoia_openpgp::cert::amalgamation::key::ErasedKeyAmalgamation;
use sequoia_openpgp::cert::amalgamation::{ValidAmalgamation as _, ValidateAmalgamation as _};
use sequoia_openpgp::packet::Key as PublicKey;
use sequoia_openpgp::packet::Signature;
use sequoia_openpgp::packet::key::{PublicParts, UnspecifiedRole};
use sequoia_openpgp::packet::signature::subpacket::SubpacketValue;
use sequoia_openpgp::policy::{HashAlgoSecurity, Policy as _, StandardPolicy};
use sequoia_openpgp::types::{RevocationStatus, RevocationType, SignatureType};
use sequoia_openpgp::{Cert, Error, KeyHandle};

use crate::signature::expires;
use crate::text::{chain, printable, when};
use crate::{Signer, TrustError};

/// A key of a certificate.
pub(crate) type Key<'a> = ErasedKeyAmalgamation<'a, PublicParts>;

/// What no key can make good: refused before any key is asked. Returns the
/// time the signature claims.
pub(crate) fn form(
    policy: &StandardPolicy<'_>,
    signature: &Signature,
) -> Result<SystemTime, TrustError> {
    let kind = |why: &str| TrustError::Kind {
        why: why.to_owned(),
    };
    match signature.typ() {
        SignatureType::Binary => {}
        // Its digest is over text with line ends rewritten: not over the bytes
        // that are parsed afterwards.
        SignatureType::Text => return Err(kind("it is over text, not over the exact bytes")),
        other => return Err(kind(&format!("it is not over data ({other})"))),
    }
    if signature.version() < 4 {
        return Err(kind("it is of version 3, which authenticates too little"));
    }
    let Some(at) = signature.signature_creation_time() else {
        return Err(kind("it does not say when it was made"));
    };
    if expires(signature) {
        return Err(TrustError::Expires);
    }
    policy
        .signature(signature, HashAlgoSecurity::CollisionResistance)
        .map_err(|error| {
            let why = chain(error.as_ref());
            if demands(signature) {
                return kind(&format!("it makes a demand that is not understood ({why})"));
            }
            let what = format!("signature ({})", signature.hash_algo());
            TrustError::WeakAlgorithm { what, why }
        })?;
    Ok(at)
}

/// Whether a signature asks a reader to refuse it unless it knows what some
/// attribute means (RFC 9580, 5.2.3.7).
fn demands(signature: &Signature) -> bool {
    signature.hashed_area().iter().any(|attribute| {
        let special = matches!(
            attribute.value(),
            SubpacketValue::NotationData(_) | SubpacketValue::Unknown { .. }
        );
        attribute.critical() && special
    })
}

/// Whether the signature is over exactly these bytes, by this key, which must
/// have existed at the time the signature claims.
pub(crate) fn fits(
    signature: &Signature,
    key: &PublicKey<PublicParts, UnspecifiedRole>,
    message: &[u8],
    at: SystemTime,
) -> Result<(), TrustError> {
    let fingerprint = key.fingerprint().to_string();
    let made = key.creation_time();
    if at < made {
        return Err(TrustError::OlderThanKey {
            fingerprint,
            made,
            signed: at,
        });
    }
    let error = match signature.verify_message(key, message) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    match error.downcast_ref() {
        Some(
            Error::UnsupportedHashAlgorithm(_)
            | Error::UnsupportedPublicKeyAlgorithm(_)
            | Error::UnsupportedEllipticCurve(_),
        ) => Err(TrustError::WeakAlgorithm {
            what: format!("key {fingerprint}"),
            why: chain(error.as_ref()),
        }),
        _ => Err(TrustError::BadSignature { fingerprint }),
    }
}

/// Whether `key` of `cert` may have made a signature at `at`.
pub(crate) fn key(
    policy: &StandardPolicy<'_>,
    cert: &Cert,
    key: &Key<'_>,
    at: SystemTime,
) -> Result<Signer, TrustError> {
    let fingerprint = key.key().fingerprint().to_string();
    if let Some(why) = cert_revoked(policy, cert, Some(at)) {
        return Err(TrustError::Revoked {
            fingerprint: cert.fingerprint().to_string(),
            why,
        });
    }
    let by_others = || revoked_for(policy, cert, key.other_revocations());
    if let Some(why) = revoked(key.self_revocations(), Some(at)).or_else(by_others) {
        return Err(TrustError::Revoked { fingerprint, why });
    }

    let unbound = |error: &(dyn std::error::Error + 'static), openpgp: Option<&Error>| {
        unbound(&fingerprint, at, error, openpgp)
    };
    let whole = cert
        .with_policy(policy, at)
        .map_err(|error| unbound(error.as_ref(), error.downcast_ref()))?;
    let bound = key
        .clone()
        .with_policy(policy, at)
        .map_err(|error| unbound(error.as_ref(), error.downcast_ref()))?;
    for (which, ended) in [
        (
            cert.fingerprint(),
            whole.primary_key().key_expiration_time(),
        ),
        (key.key().fingerprint(), bound.key_expiration_time()),
    ] {
        if let Some(ended) = ended.filter(|ended| *ended <= at) {
            return Err(TrustError::Expired {
                fingerprint: which.to_string(),
                ended,
                signed: at,
            });
        }
    }
    // The library's own opinion, should it know a further reason.
    whole
        .alive()
        .and_then(|()| bound.alive())
        .map_err(|error| unbound(error.as_ref(), None))?;
    if !bound.for_signing() {
        return Err(TrustError::NotASigningKey { fingerprint });
    }
    Ok(Signer {
        fingerprint: cert.fingerprint().to_string(),
        key: fingerprint,
        user_id: user_id(&whole),
        signed_at: at,
    })
}

/// Why a key has no valid binding at a time, in our words.
fn unbound(
    fingerprint: &str,
    at: SystemTime,
    error: &(dyn std::error::Error + 'static),
    openpgp: Option<&Error>,
) -> TrustError {
    let fingerprint = fingerprint.to_owned();
    match openpgp {
        Some(Error::PolicyViolation(..)) => TrustError::WeakAlgorithm {
            what: format!("key {fingerprint}"),
            why: chain(error),
        },
        _ => TrustError::NotBound {
            fingerprint,
            signed: at,
            why: chain(error),
        },
    }
}

/// Why the whole certificate counts as revoked for a signature made at `at`;
/// without a time, if it is revoked at all.
pub(crate) fn cert_revoked(
    policy: &StandardPolicy<'_>,
    cert: &Cert,
    at: Option<SystemTime>,
) -> Option<String> {
    let primary = cert.primary_key();
    revoked(primary.self_revocations(), at)
        .or_else(|| revoked_for(policy, cert, primary.other_revocations()))
}

/// Whether someone whom the certificate itself appointed revoked a key of it.
/// Their certificate need not be here, so nobody can check it: it counts.
fn revoked_for<'a>(
    policy: &StandardPolicy<'_>,
    cert: &Cert,
    mut revocations: impl Iterator<Item = &'a Signature>,
) -> Option<String> {
    let appointed: Vec<KeyHandle> = cert
        .revocation_keys(policy)
        .map(|key| KeyHandle::from(key.revoker().1.clone()))
        .collect();
    let named = |issuer: &KeyHandle| appointed.iter().any(|revoker| revoker.aliases(issuer));
    revocations
        .any(|revocation| revocation.get_issuers().iter().any(named))
        .then(|| "it was revoked by a revoker whom it names".to_owned())
}

/// Why these revocations, made by the key's own certificate, end a key for
/// signatures made at `at`; without a time, at all.
///
/// How strong their digests are does not matter: a revocation that somebody
/// forged costs a release, one that was ignored costs the device. A soft one
/// is never taken back by a newer self-signature.
pub(crate) fn revoked<'a>(
    revocations: impl Iterator<Item = &'a Signature>,
    at: Option<SystemTime>,
) -> Option<String> {
    for revocation in revocations {
        let since = revocation.signature_creation_time().unwrap_or(UNIX_EPOCH);
        let Some((reason, said)) = revocation.reason_for_revocation() else {
            return Some("it was revoked without a reason, which may mean stolen".to_owned());
        };
        let said = printable(said);
        let said = if said.is_empty() {
            said
        } else {
            format!(": {said}")
        };
        match reason.revocation_type() {
            RevocationType::Hard => return Some(format!("it was revoked ({reason}{said})")),
            RevocationType::Soft if at.is_none_or(|at| since <= at) => {
                return Some(format!(
                    "it was retired at {} ({reason}{said})",
                    when(since)
                ));
            }
            RevocationType::Soft => {}
        }
    }
    None
}

/// A user id to show: the primary one, unless revoked. It decides nothing.
fn user_id(cert: &ValidCert<'_>) -> Option<String> {
    let primary = cert.primary_userid().ok()?;
    let revoked = matches!(primary.revocation_status(), RevocationStatus::Revoked(_));
    (!revoked).then(|| printable(primary.userid().value()))
}
