//! `op-dbus-vm explore`: the crash explorer on another kernel.

use std::path::PathBuf;

use clap::Args;

use crate::debian::profile::Suite;
use crate::error::Result;
use crate::explore::{self, Explore};
use crate::programs::workspace;
use crate::suite::Lab;

#[derive(Debug, Args)]
pub(super) struct ExploreArguments {
    /// What `op-dbus-crash prepare` made
    #[arg(long, value_name = "DIR")]
    prepared: PathBuf,
    /// Static op-dbus-crash [default: this workspace's]
    #[arg(long, value_name = "PROGRAM")]
    explorer: Option<PathBuf>,
    /// How many states
    #[arg(long, default_value_t = 300, value_name = "N")]
    states: u32,
    /// Seed that chooses them
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Kernel: bookworm's or trixie's
    #[arg(long, default_value = "bookworm", value_name = "SUITE", value_parser = Suite::find)]
    suite: Suite,
}

pub(super) fn run(arguments: &ExploreArguments) -> Result<()> {
    let built = "target/x86_64-unknown-linux-gnu/release/op-dbus-crash";
    let explore = Explore {
        suite: arguments.suite,
        explorer: arguments
            .explorer
            .clone()
            .unwrap_or_else(|| workspace().join(built)),
        prepared: arguments.prepared.clone(),
        states: arguments.states,
        seed: arguments.seed,
    };
    let summary = explore::run(&Lab::open()?, &explore, |line| eprintln!("{line}"))?;
    println!("{}", summary.trim());
    Ok(())
}
