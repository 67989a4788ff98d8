//! Whose signature a device believes: `OpenPGP`, certificates in a directory.
//!
//! A [`Keyring`] is the certificates of a directory; [`Keyring::verify`] says
//! who signed exactly these bytes, or why that does not count. No other crate
//! of the workspace links an `OpenPGP` library. Every rule, and the test that
//! shows it, is in `docs/TRUST.md`; in short:
//!
//! - **The device's clock is never asked**: an unattended device may wake up in
//!   1970, and whoever can set its clock must not choose what it accepts. A
//!   signature is judged at the time it claims itself, also in the future.
//! - At that time its certificate and its key must have been bound by a
//!   self-signature, for signing, not expired, and not superseded or retired.
//!   A signature older than its key is refused.
//! - A revocation as compromised, or without a reason, refuses whatever the
//!   time: whoever stole a key also chooses the time.
//! - A signature that carries an expiration of its own is refused: without a
//!   clock nobody can honour it, and to ignore it would be to accept what its
//!   maker no longer stands for. Epochs take releases out of use.
//! - Algorithms are judged at [`POLICY_DATE`], whatever time is claimed: no
//!   SHA-1 or MD5, no RSA below 2048 bits, no DSA; neither in the signature
//!   nor in what binds the key. A *revocation* counts with any digest.
//! - Only detached signatures over the exact bytes (type 0x00), as `gpg
//!   --detach-sign` makes them. Not text mode, whose digest is over other bytes
//!   than those that get parsed; not cleartext-signed or inline messages, which
//!   bring content of their own.
//! - Among several signatures in one file one good one is enough, so that a
//!   release can be signed by the old and the new key while keys change.
//! - Inputs are bounded: [`MAX_SIGNATURE`], [`MAX_SIGNATURES`],
//!   [`MAX_CERTIFICATE`], [`MAX_FILES`], [`MAX_CERTIFICATES`].
//! - The directory and its files must belong to root or to who runs this, and
//!   nobody else may write to them.

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
