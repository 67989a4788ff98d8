//! Signatures made by the real gpg, in home directories of their own, at times
//! of our choosing; and what nobody's gpg would make.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod accepted;
mod arbitrary;
mod clock;
mod damaged;
mod directory;
mod gpg;
mod refused;
mod revoked;
mod rotation;
