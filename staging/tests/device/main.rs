//! `op-dbus-stage` on a loop-mounted Btrfs store, with real send streams.
//!
//! Needs root. Each test has a mount namespace, a device and a `/run` of its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod audit;
mod audit_export;
mod audit_segments;
mod backup;
mod builder;
#[path = "../common/mod.rs"]
mod common;
mod crash;
mod durable;
mod ended;
mod fixture;
mod flow;
mod full;
mod imported;
mod input;
mod keys;
mod metrics;
mod overlay;
mod pictures;
mod prepare;
mod prune;
mod prune_config;
mod prune_crash;
mod prune_mounts;
mod prune_sizes;
mod receive;
mod record;
mod service;
mod shared;
mod status;
mod streams;
mod trust;
mod upgrades;
mod verdict;
