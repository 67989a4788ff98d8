//! For tests only: which system calls a program changes files with, and what of
//! that is not durable yet.
//!
//! [`trace`] runs a program and returns its calls in the order in which they
//! returned. [`Unsynced`] follows them, and knows at any point which changes a
//! power cut might still undo: the strictest reading of the manual pages, in
//! which a file needs fsync, its name an fsync of its directory, and syncfs
//! covers both. A disk may well keep more; no program may count on it.
//! [`kill_after`] ends a program between two of its calls.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "helpers of tests fail by panicking"
)]

mod call;
mod memory;
mod spawn;
mod trace;
mod unsynced;

pub use call::Call;
pub use trace::{Traced, kill_after, trace};
pub use unsynced::{Change, Unsynced};
