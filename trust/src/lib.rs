//! Whose signature a device believes: `OpenPGP`, certificates in a directory.

mod blocks;
mod certificate;
mod directory;
mod error;
mod judge;
mod keyring;
mod policy;
mod signature;
mod text;

pub use certificate::Certificate;
pub use error::TrustError;
pub use keyring::{Keyring, Problem, Signer};
pub use policy::POLICY_DATE;
pub use signature::{Inspected, inspect};

/// Longest signature file that is read, in bytes.
pub const MAX_SIGNATURE: usize = 64 << 10;
/// Most signatures in one file.
pub const MAX_SIGNATURES: usize = 16;
/// Longest certificate file that is read, in bytes.
pub const MAX_CERTIFICATE: usize = 1 << 20;
/// Most certificate files in a directory.
pub const MAX_FILES: usize = 64;
/// Most certificates in all of them.
pub const MAX_CERTIFICATES: usize = 256;
