//! Why a signature does not count, or the keys could not be read.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::Problem;
use crate::text::when;

/// Why a signature does not count, or the keys could not be read.
///
/// Each message is one line, `<what>: <why>; <remedy>`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// No usable certificate.
    #[error(
        "{}: no usable certificate{}; put the release key's public certificate there as NAME.asc",
        place.display(), listed(problems)
    )]
    NoKeys {
        /// The directory.
        place: PathBuf,
        /// What is wrong with the files in it.
        problems: Vec<Problem>,
    },
    /// The directory can't be read.
    #[error("{}: {source}; the directory must exist and be readable by who runs this", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The directory is not only its owner's to change, or holds too much.
    #[error("{}: {why}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// Why, and the remedy.
        why: String,
    },
    /// Not a detached signature.
    #[error("signature: {why}; make it with: gpg --detach-sign --armor MANIFEST")]
    Malformed {
        /// What is wrong with it.
        why: String,
    },
    /// A signature of a kind that is not taken.
    #[error("signature: {why}; make it with: gpg --detach-sign --armor MANIFEST")]
    Kind {
        /// What is wrong with it.
        why: String,
    },
    /// The signature says that it expires.
    #[error(
        "signature: it says that it expires, which nothing here can judge without trusting the clock; \
         sign without --default-sig-expire"
    )]
    Expires,
    /// Made by a key that is not in the keyring.
    #[error(
        "signature by {keyid}: the key is not among the trusted ones; \
         if it is yours, add its certificate, else do not use this release"
    )]
    UnknownKey {
        /// Fingerprint or key id the signature names; `nobody` when it names none.
        keyid: String,
    },
    /// The signature is not over these bytes, or not by this key.
    #[error(
        "signature by {fingerprint}: it does not fit what was signed; \
         one of the two was altered or cut short, get both again"
    )]
    BadSignature {
        /// The key the signature names.
        fingerprint: String,
    },
    /// An algorithm or a key length that is broken, or not understood.
    #[error(
        "{what}: {why}; sign with SHA-256 or better by an Ed25519, NIST or RSA key of 2048 bits or more"
    )]
    WeakAlgorithm {
        /// The signature or the key.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The key or its certificate is revoked.
    #[error("key {fingerprint}: {why}; get a release that is signed by a valid key")]
    Revoked {
        /// What was revoked: certificate or subkey.
        fingerprint: String,
        /// The reason given.
        why: String,
    },
    /// The key had ended when it signed.
    #[error(
        "key {fingerprint}: it ended at {}, the signature is of {}; \
         extend the key and sign again, or bring the device its extended certificate",
        when(*ended), when(*signed)
    )]
    Expired {
        /// What had ended: certificate or subkey.
        fingerprint: String,
        /// When it ended.
        ended: SystemTime,
        /// When the signature says it was made.
        signed: SystemTime,
    },
    /// The signature says it is older than the key.
    #[error("key {fingerprint}: the signature claims {}, before the key was made at {}; sign again with a right clock", when(*signed), when(*made))]
    OlderThanKey {
        /// The key.
        fingerprint: String,
        /// When the key was made.
        made: SystemTime,
        /// When the signature says it was made.
        signed: SystemTime,
    },
    /// The key was not part of a valid certificate when it signed.
    #[error(
        "key {fingerprint}: it was not bound to its certificate at {} ({why}); \
         keep the certificate's earlier export beside the new one, or sign again",
        when(*signed)
    )]
    NotBound {
        /// The key.
        fingerprint: String,
        /// When the signature says it was made.
        signed: SystemTime,
        /// What is missing.
        why: String,
    },
    /// The key is not for signing.
    #[error(
        "key {fingerprint}: it is not a signing key; sign with a key whose usage has S (gpg --list-keys)"
    )]
    NotASigningKey {
        /// The key.
        fingerprint: String,
    },
    /// None of several signatures counts: why not, for each.
    #[error("{}", joined(.0))]
    Several(Vec<TrustError>),
}

fn listed(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return String::new();
    }
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!(" ({})", texts.join(" | "))
}

fn joined(errors: &[TrustError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join(" | ")
}
