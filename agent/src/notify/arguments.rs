//! The command line of `op-dbus-agent notify`.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::hooks::{LIMIT, Say};
use super::{Settings, refresh, run};
use crate::child::Runner;
use crate::place::Place;

/// Arguments of `op-dbus-agent notify`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of hooks [default: <sysroot>/etc/op-dbus/hooks.d]
    #[arg(long, value_name = "DIR")]
    hooks: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object instead of a line
    #[arg(long)]
    json: bool,
    /// The program that reads the log
    #[arg(
        long,
        value_name = "PATH",
        hide = true,
        default_value = "/usr/bin/op-dbus-stage"
    )]
    stage: PathBuf,
    /// For one hook and one event, in milliseconds
    #[arg(long, hide = true, default_value_t = LIMIT.as_millis() as u64)]
    limit_ms: u64,
    /// Leave the D-Bus service alone
    #[arg(long, hide = true)]
    no_refresh: bool,
}

/// Says lines on standard error, which is the journal's.
#[derive(Debug)]
struct Journal;

impl Say for Journal {
    fn say(&mut self, line: &str) {
        // Nobody is there to hear that nobody hears.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Runs the command.
pub fn main(arguments: Arguments) -> ExitCode {
    let layout = arguments.place.layout();
    let hooks = arguments.hooks;
    let settings = Settings {
        hooks: hooks.unwrap_or_else(|| layout.host("/etc/op-dbus/hooks.d")),
        layout,
        stage: arguments.stage,
        runner: Runner::default(),
        limit: Duration::from_millis(arguments.limit_ms),
    };
    let refresh = || {
        if !arguments.no_refresh {
            refresh::refresh();
        }
    };
    let told = match run(&settings, &mut Journal, refresh) {
        Ok(told) => told,
        Err(why) => {
            eprintln!("op-dbus-agent: {why}");
            return ExitCode::FAILURE;
        }
    };
    let said = if arguments.json {
        serde_json::to_string(&serde_json::json!({ "schema": 1, "told": told }))
            .map_err(io::Error::from)
    } else {
        Ok(told.sentence())
    };
    if let Err(error) = said.and_then(|said| writeln!(io::stdout(), "{said}")) {
        eprintln!("op-dbus-agent: print what was told: {error}");
    }
    ExitCode::SUCCESS
}
