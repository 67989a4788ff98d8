//! Why a signature does not count, or the keys could not be read.

use std::io;
use std::path::PathBuf;

use crate::Problem;

/// Why a signature does not count, or the keys could not be read.
///
/// Each message is `<what>: <why>; <remedy>` on one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// No usable certificate.
    #[error("{}: no usable certificate; copy the release key's public certificate there as NAME.asc", dir.display())]
    NoKeys {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with the files in it.
        problems: Vec<Problem>,
    },
    /// The directory can't be read.
    #[error("{}: {source}; see that the directory exists and root may read it", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Others may write the directory.
    #[error("{}: {why}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// Why, and the remedy.
        why: String,
    },
    /// Not a detached `OpenPGP` signature.
    #[error("signature: {why}; make it with: gpg --detach-sign --armor")]
    Malformed {
        /// What is wrong.
        why: String,
    },
    /// Made by a key that is not in the keyring.
    #[error(
        "signature by {keyid}: this key is not among the trusted ones; add its certificate if it is yours"
    )]
    UnknownKey {
        /// Key id or fingerprint.
        keyid: String,
    },
}
