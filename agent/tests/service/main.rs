//! The service on a bus of its own, with the shipped policy, a played polkit and
//! a played `op-dbus-stage`; needs root, to call as different users.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod authority;
mod bus;
mod child;
mod fake;
mod life;
mod operation;
mod reading;
