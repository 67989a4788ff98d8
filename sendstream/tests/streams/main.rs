//! Whole streams: made by hand, damaged, and written by `btrfs send`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::large_stack_arrays,
    reason = "helpers of tests fail by panicking"
)]

mod build;
mod hostile;
mod properties;
mod real;
