//! `op-dbus-agent`: reads the arguments, and turns the outcome into an exit code.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use op_dbus_activator::config::{Config, Health};
use op_dbus_activator::layout::Layout;
use op_dbus_agent::bus::BusProber;
use op_dbus_agent::child::supervisor;
use op_dbus_agent::judge::{Subject, Times, Verdict};
use op_dbus_agent::reboot::{self, Waited};
use op_dbus_agent::{import, report, watch};

/// The same meanings as those of op-dbus-stage.
const FAILURE: u8 = 1;
const CONFIGURATION: u8 = 3;

/// Takes up what the active op-dbus version brings, and judges its health.
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
    /// Check what the active version brings beside its units, and put it where the host looks
    ///
    /// That is its D-Bus policy and activation files, and its lines for
    /// sysusers.d and tmpfiles.d, written anew below <RUN>/op-dbus/import. What
    /// is refused is said on standard error, a line each.
    ///
    /// Exit codes: 0 done, whatever was refused; 1 it could not be written;
    /// 2 wrong usage; 3 the configuration is missing or wrong.
    Import {
        /// The host's root
        #[arg(long, value_name = "DIR", default_value = "/")]
        sysroot: PathBuf,
        /// Where what lasts one boot is
        #[arg(long, value_name = "DIR", default_value = "/run")]
        run: PathBuf,
        /// The configuration; by default the one below the host's root
        #[arg(long, value_name = "PATH")]
        config: Option<PathBuf>,
        /// Print one JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Reboot in order, once nobody inhibits it any more or the limit is up
    ///
    /// Exit codes: 0 the reboot was asked for; 1 nobody granted it; 2 wrong usage.
    Reboot {
        /// How long to wait for locks of systemd-inhibit(1), in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 120)]
        limit: u32,
        /// The program that asks systemd
        #[arg(long, value_name = "PATH", default_value = "systemctl", hide = true)]
        systemctl: PathBuf,
    },
    /// Run an executable within limits, for this program's own use
    #[command(hide = true)]
    RunChild {
        #[arg(long)]
        limit_ms: u64,
        #[arg(long)]
        keep: usize,
        #[arg(last = true, required = true)]
        argv: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Health { config, json } => match Config::load(&config) {
            Ok(config) => health(config.health, json),
            Err(error) => complain(&error, CONFIGURATION),
        },
        Command::Import {
            sysroot,
            run,
            config,
            json,
        } => import(&Layout::new(run, sysroot), config, json),
        Command::Reboot { limit, systemctl } => {
            reboot(Duration::from_secs(limit.into()), &systemctl)
        }
        Command::RunChild {
            limit_ms,
            keep,
            argv,
        } => match supervisor::main(&argv, Duration::from_millis(limit_ms), keep) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error, FAILURE),
        },
    }
}

fn complain(error: &dyn Error, code: u8) -> ExitCode {
    eprintln!("op-dbus-agent: {error}");
    ExitCode::from(code)
}

fn import(layout: &Layout, config: Option<PathBuf>, json: bool) -> ExitCode {
    let config = config.unwrap_or_else(|| layout.config());
    // A mistake elsewhere in it does not keep good from running: see the generator.
    let lower = match Config::load_for_boot(&config) {
        Ok((config, _)) => config.mounts.lower,
        Err(error) => return complain(&error, CONFIGURATION),
    };
    let imported = match import::run(layout, &lower) {
        Ok(imported) => imported,
        Err(error) => return complain(error.as_ref(), FAILURE),
    };
    for line in &imported.refused {
        eprintln!("{line}");
    }
    let said = import::said(imported.report.as_ref(), json);
    if let Err(error) = writeln!(io::stdout(), "{said}") {
        eprintln!("op-dbus-agent: print what was imported: {error}");
    }
    ExitCode::SUCCESS
}

fn reboot(limit: Duration, systemctl: &Path) -> ExitCode {
    let start = Instant::now();
    let waited = reboot::wait(
        limit,
        reboot::ask_logind,
        || start.elapsed(),
        thread::sleep,
        |who| eprintln!("op-dbus-agent: reboot: waits for {}", reboot::names(who)),
    );
    match waited {
        Waited::Free => {}
        Waited::Overrun(who) => eprintln!(
            "op-dbus-agent: reboot: {} s are over, {} is not waited for any longer",
            limit.as_secs(),
            reboot::names(&who)
        ),
        Waited::Unknown(why) => {
            eprintln!("op-dbus-agent: reboot: it is not known who inhibits it: {why}");
        }
    }
    match reboot::reboot(systemctl) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, FAILURE),
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
