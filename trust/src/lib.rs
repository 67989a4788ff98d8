//! Whose signature a device believes: `OpenPGP`, certificates in a directory.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

mod error;
mod inspect;

pub use error::TrustError;
pub use inspect::{Inspected, inspect};

/// Longest signature file that is read, in bytes.
pub const MAX_SIGNATURE: usize = 64 << 10;
/// Longest certificate file that is read, in bytes.
pub const MAX_CERTIFICATE: usize = 1 << 20;
/// Most certificate files in a directory.
pub const MAX_FILES: usize = 64;

/// The certificates whose signatures count.
#[derive(Debug, Default)]
pub struct Keyring {
    certificates: Vec<Certificate>,
    problems: Vec<Problem>,
}

/// A certificate of the keyring, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Fingerprint of its primary key, in upper-case hexadecimal.
    pub fingerprint: String,
    /// Its user ids.
    pub user_ids: Vec<String>,
    /// The files it was read from.
    pub files: Vec<PathBuf>,
    /// When it ends, by its newest self-signature; none is never.
    pub expires: Option<SystemTime>,
    /// Why it was revoked, if it was.
    pub revoked: Option<String>,
    /// Whether a key of it may sign, times left aside.
    pub can_sign: bool,
}

/// A file that could not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Why, and what to do: `<why>; <remedy>`.
    pub why: String,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Fingerprint of the certificate, in upper-case hexadecimal.
    pub fingerprint: String,
    /// Fingerprint of the key that signed: the same, or a subkey's.
    pub key: String,
    /// A user id of the certificate, if it has one that is not revoked.
    pub user_id: Option<String>,
    /// When the signature says it was made. A claim of the signer.
    pub signed_at: SystemTime,
}

impl Keyring {
    /// Reads every `*.asc`, `*.pgp` and `*.gpg` file of a directory.
    ///
    /// A file that can't be used is one of [`Keyring::problems`]; the others count.
    pub fn load(dir: &Path) -> Result<Self, TrustError> {
        Err(TrustError::NoKeys {
            dir: dir.to_owned(),
            problems: Vec::new(),
        })
    }

    /// A keyring of the certificates in these bytes, armored or binary.
    /// `name` is what messages call them.
    pub fn from_bytes(_bytes: &[u8], name: &Path) -> Result<Self, TrustError> {
        Self::load(name)
    }

    /// Who signed exactly these bytes. One good signature among several is enough.
    pub fn verify(&self, _message: &[u8], _signature: &[u8]) -> Result<Signer, TrustError> {
        Err(TrustError::Malformed {
            why: "there is no signature".to_owned(),
        })
    }

    /// The certificates, by fingerprint.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Files that could not be used.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}
