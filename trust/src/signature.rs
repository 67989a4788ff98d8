//! What a detached signature file holds.

use std::time::{Duration, SystemTime};

use sequoia_openpgp::Packet;
use sequoia_openpgp::packet::Signature;
use sequoia_openpgp::types::SignatureType;

use crate::blocks::{self, Content};
use crate::{MAX_SIGNATURE, MAX_SIGNATURES, TrustError};

/// One signature, as it describes itself; nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Fingerprints or key ids of who made it, in upper-case hexadecimal,
    /// fingerprints first.
    pub issuers: Vec<String>,
    /// When it says it was made.
    pub created: Option<SystemTime>,
    /// Name of the hash algorithm, such as `SHA512`.
    pub hash: String,
    /// Whether it is over the exact bytes (type 0x00), the only kind a device takes.
    pub binary: bool,
    /// Whether it says that it expires, which no device takes.
    pub expires: bool,
}

/// Lists the signatures in a detached signature file, armored or binary.
///
/// For a build system that wants to know what `gpg` made; whether it counts
/// is for [`crate::Keyring::verify`] to say.
pub fn inspect(signature: &[u8]) -> Result<Vec<Inspected>, TrustError> {
    let describe = |signature: &Signature| Inspected {
        issuers: signature
            .get_issuers()
            .iter()
            .map(|issuer| format!("{issuer:X}"))
            .collect(),
        created: signature.signature_creation_time(),
        hash: signature.hash_algo().to_string(),
        binary: signature.typ() == SignatureType::Binary,
        expires: expires(signature),
    };
    Ok(parse(signature)?.iter().map(describe).collect())
}

/// The signatures of a file: at least one, at most [`MAX_SIGNATURES`].
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Signature>, TrustError> {
    let malformed = |why: String| TrustError::Malformed { why };
    if bytes.len() > MAX_SIGNATURE {
        let why = format!("it is longer than {} KiB", MAX_SIGNATURE >> 10);
        return Err(malformed(why));
    }
    let mut signatures = Vec::new();
    for packet in blocks::packets(bytes, Content::Signatures).map_err(malformed)? {
        match packet {
            Packet::Signature(signature) => signatures.push(signature),
            other => {
                let why = format!("it holds a packet that is no signature ({})", other.tag());
                return Err(malformed(why));
            }
        }
    }
    if signatures.is_empty() {
        return Err(malformed("it is empty".to_owned()));
    }
    if signatures.len() > MAX_SIGNATURES {
        let why = format!("it holds more than {MAX_SIGNATURES} signatures");
        return Err(malformed(why));
    }
    Ok(signatures)
}

/// Whether a signature carries an expiration; a period of zero is none.
pub(crate) fn expires(signature: &Signature) -> bool {
    signature
        .signature_validity_period()
        .is_some_and(|period| period != Duration::ZERO)
}
