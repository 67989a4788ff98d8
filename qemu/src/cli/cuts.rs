//! `op-dbus-vm cuts`: random power cuts.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cuts::state::State;
use crate::debian::profile::Suite;
use crate::error::{Error, Result};
use crate::suite::Lab;

#[derive(Debug, Args)]
pub(super) struct CutsArguments {
    /// Cuts the whole run makes, those before a resume included
    #[arg(long, default_value_t = 50, value_name = "N")]
    count: u32,
    /// Seed of everything that is random
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Go on from this state file, with its seed and beside its disks
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Kernel of the guest: bookworm's or trixie's
    #[arg(long, default_value = "bookworm", value_name = "SUITE", value_parser = Suite::find)]
    suite: Suite,
    /// Directory of a new run [default: target/vm/cuts-SUITE-SEED]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    directory: Option<PathBuf>,
    /// A disk that ignores flushes, to see that violations are found
    #[arg(long, conflicts_with = "resume")]
    lying_disk: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &CutsArguments) -> Result<()> {
    let lab = Lab::open()?;
    let (state, directory) = if let Some(path) = &arguments.resume {
        let directory = path.parent().unwrap_or(path).to_owned();
        (State::load(path)?, directory)
    } else {
        let (suite, seed) = (arguments.suite.name(), arguments.seed);
        let directory = arguments.directory.clone();
        let directory = directory.unwrap_or_else(|| lab.directory(&format!("cuts-{suite}-{seed}")));
        let mut state = State::new(suite, seed);
        state.lying_disk = arguments.lying_disk;
        (state, directory)
    };
    // Progress is for people, the summary may be for a program.
    let state = lab.cut_power(state, &directory, arguments.count, |line| {
        eprintln!("{line}");
    })?;
    let totals = &state.totals;
    if arguments.json {
        let summary = json!({
            "suite": state.suite, "seed": state.seed, "cuts": state.made,
            "boots": totals.boots, "during": totals.during, "acknowledged": totals.acknowledged,
            "roles": totals.roles, "requests": totals.requests, "seconds": totals.seconds,
            "violations": state.violations,
        });
        println!("{summary}");
    } else {
        println!("{}", state.summary());
    }
    match state.violations.len() {
        0 => Ok(()),
        found => Err(Error::Expectation(format!(
            "{found} violations; what shows them is in {}",
            directory.display()
        ))),
    }
}
