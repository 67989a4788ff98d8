//! `check target` and `check deployment` on a loop-mounted store: each defect is
//! made, seen as exactly one finding with its remedy, and mended again.
//!
//! Needs root. Each test has a mount namespace, a device and a `/run` of its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

#[allow(
    dead_code,
    reason = "shared with the tests of the device's other commands"
)]
#[path = "../device/builder.rs"]
mod builder;
#[allow(dead_code, reason = "likewise")]
#[path = "../common/mod.rs"]
mod common;
mod deployment;
mod fit;
#[allow(dead_code, reason = "likewise")]
#[path = "../device/fixture.rs"]
mod fixture;
#[allow(dead_code, reason = "likewise")]
#[path = "../device/keys.rs"]
mod keys;
mod target;
