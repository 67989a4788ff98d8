//! `op-dbus-stage` on a build system: loop-mounted Btrfs, real send streams,
//! the real gpg with a key made for the test.
//!
//! Needs root. Each test has a mount namespace and a build directory of its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod durable;
mod failures;
mod fixture;
mod prune;
mod refusals;
mod release;
mod sign;
mod source;
