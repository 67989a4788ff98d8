//! Differential test: what our applier makes of a stream equals what
//! `btrfs receive` makes of it, path by path and to the nanosecond.
//!
//! Trees are written by hand ([`directed`], [`content`]), drawn at random from a seed
//! ([`random`]), or taken from a real system ([`real`]). Every version of a tree
//! is sent as each kind of stream by each btrfs-progs at hand, received by ours
//! and by theirs on file systems of their own ([`chain`]), and looked at by
//! [`compare`], which [`damage`] shows to notice every difference it claims to.
//!
//! Root only. `make test-differential` runs all of it; a quick run leaves some
//! out ([`chain::complete`]). Environment: `OP_DBUS_SEED=<n>` one seed,
//! `OP_DBUS_SEEDS=<n>` how many, `OP_DBUS_KEEP=<dir>` copies every stream there.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests fail by panicking, and tell what they covered"
)]

mod chain;
mod compare;
mod content;
mod damage;
mod directed;
mod extents;
mod lab;
mod look;
mod make;
mod progs;
mod random;
mod real;
mod receiver;
mod target;
