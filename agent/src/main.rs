//! `op-dbus-agent`: reads the arguments, and turns the outcome into an exit code.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use op_dbus_activator::config::{Config, Health};
use op_dbus_agent::bus::BusProber;
use op_dbus_agent::judge::{Subject, Times, Verdict};
use op_dbus_agent::{report, watch};

/// The same meanings as those of op-dbus-stage.
const CONFIGURATION: u8 = 3;

/// Judges the health of the op-dbus version that runs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the units and bus names of [health] until they have held for its settle time
    ///
    /// Exit codes: 0 healthy; 1 unhealthy, with one line a failed check;
    /// 2 wrong usage; 3 the configuration is missing or wrong.
    Health {
        /// The configuration
        #[arg(long, value_name = "PATH", default_value = op_dbus_activator::layout::CONFIG)]
        config: PathBuf,
        /// Print one JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let Command::Health { config, json } = Arguments::parse().command;
    match Config::load(&config) {
        Ok(config) => health(config.health, json),
        Err(error) => {
            eprintln!("op-dbus-agent: {error}");
            ExitCode::from(CONFIGURATION)
        }
    }
}

fn health(config: Health, json: bool) -> ExitCode {
    let times = Times {
        settle: Duration::from_secs(config.settle_seconds.into()),
        timeout: Duration::from_secs(config.timeout_seconds.into()),
    };
    let units = config.units.into_iter().map(Subject::Unit);
    let names = config.bus_names.into_iter().map(Subject::BusName);
    let subjects: Vec<_> = units.chain(names).collect();
    let outcome = watch::watch(BusProber::default(), &subjects, times);
    let said = if json {
        report::json(&outcome, subjects.len()).map_err(io::Error::from)
    } else {
        Ok(report::lines(&outcome, subjects.len(), times).join("\n"))
    };
    // The verdict is the exit code; a closed pipe does not change it.
    if let Err(error) = said.and_then(|text| writeln!(io::stdout(), "{text}")) {
        eprintln!("op-dbus-agent: print the verdict: {error}");
    }
    match outcome.verdict {
        Verdict::Healthy => ExitCode::SUCCESS,
        Verdict::Unhealthy(_) => ExitCode::FAILURE,
    }
}
