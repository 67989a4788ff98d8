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

pub mod image;
pub mod log;
pub mod record;
pub mod replay;
pub mod states;

pub use image::Image;
pub use log::{Entry, Log, Mark, Within};
pub use record::Recorder;
pub use replay::Replayer;
pub use states::{Kind, State};
