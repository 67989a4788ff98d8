//! For tests only: what a power cut at any moment leaves of the work of the real
//! programs.
//!
//! [`Recorder`] lends a block device and writes down, in a [`Log`], every write
//! and flush that reaches it, with [`Mark`]s between them that say what the
//! programs had acknowledged by then. [`states::enumerate`] chooses what power
//! cuts could have left of that ([`State`]), and a [`Replayer`] presents one
//! after the other on a block device, to be mounted, booted and judged.
//!
//! Recording depends on the kernel's timing. Whatever comes after is determined
//! by the log and a seed, and a log can be saved.

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "never part of a device: a bug here is to stop the search at once"
)]

mod chance;
pub mod check;
pub mod cli;
mod content;
mod device;
mod disk;
pub mod error;
pub mod explore;
pub mod explorer;
pub mod facts;
mod format;
pub mod host;
mod image;
mod log;
mod memory;
mod moment;
pub mod prepared;
pub mod programs;
mod record;
pub mod recording;
mod replay;
pub mod report;
mod server;
pub mod states;
pub mod story;
mod sys;
mod tape;
pub mod times;
mod worker;
mod writes;

pub use content::{BLOCK, SECTOR};
pub use image::Image;
pub use log::{Data, Entry, Log, Mark, Within};
pub use record::Recorder;
pub use replay::Replayer;
pub use states::{Fate, Kind, State};
pub use tape::Tape;
