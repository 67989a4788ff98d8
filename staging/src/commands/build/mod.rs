//! What a build system does: checks itself, freezes versions, writes and signs
//! releases, and clears up.
//!
//! ```text
//! <build>/golden               the tree that versions are made of, a subvolume
//! <build>/versions/<version>   read-only snapshots of it
//! <build>/releases/            streams, manifests and signatures
//! <build>/lock
//! ```
//!
//! Nothing here knows the store of a device.

mod area;
mod check;
mod epoch;
mod output;
mod prune;
mod send;
mod sign;
mod snapshot;

pub(crate) use check::{source as check, unstartable};
pub(crate) use prune::run as prune;

use crate::cli::build::Command;
use crate::context::Context;
use crate::error::{Exit, Result};

/// Runs one command.
pub(crate) fn run(context: &Context, command: &Command) -> Result<Exit> {
    match command {
        Command::Snapshot(args) => snapshot::run(context, args),
        Command::Send(args) => send::run(context, args),
        Command::Sign(args) => sign::run(context, args),
    }
}

/// A number of bytes for people.
fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
