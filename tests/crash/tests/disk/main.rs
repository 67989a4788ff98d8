//! What a real Btrfs writes, what power cuts leave of it, and how a block device
//! shows it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod bench;
mod cuts;
mod killed;
mod recorded;
mod shown;
