//! `op-dbus-agent`: reads the arguments, and turns the outcome into an exit code.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use op_dbus_activator::config::Config;
use op_dbus_activator::layout::Layout;
use op_dbus_agent::child::supervisor;
use op_dbus_agent::health::disk::{self, Disk};
use op_dbus_agent::place::Place;
use op_dbus_agent::reboot::{self, Waited};
use op_dbus_agent::{health, import, notify, service};

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
    /// Check what [health] asks for until it has held for its settle time
    ///
    /// The verdict is written to <RUN>/op-dbus/health.json as well.
    ///
    /// Exit codes: 0 healthy, or not known and configured to count as healthy;
    /// 1 unhealthy, with one line a failed check; 2 wrong usage; 3 the
    /// configuration is missing or wrong; 75 not known.
    Health {
        #[command(flatten)]
        arguments: health::Arguments,
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
        #[command(flatten)]
        place: Place,
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
    /// Tell the executables in hooks.d what the audit log has to say since last time
    ///
    /// Exit codes: 0 told, whatever the hooks did; 1 the log can't be read, or it
    /// can't be kept how far hooks were told; 2 wrong usage.
    Notify {
        #[command(flatten)]
        arguments: notify::Arguments,
    },
    /// Serve org.opdbus.Deploy1 on the system bus, as long as somebody uses it
    ///
    /// Exit codes: 0 nobody used it, or a signal came; 1 the bus or the name can't
    /// be had, or was lost; 2 wrong usage.
    Serve {
        #[command(flatten)]
        arguments: service::Arguments,
    },
    /// Look at a file system once, for this program's own use
    #[command(hide = true)]
    Look {
        #[command(subcommand)]
        disk: Disk,
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
        Command::Health { arguments } => health::main(arguments),
        Command::Import {
            place,
            config,
            json,
        } => import(&place.layout(), config, json),
        Command::Reboot { limit, systemctl } => {
            reboot(Duration::from_secs(limit.into()), &systemctl)
        }
        Command::Notify { arguments } => notify::main(arguments),
        Command::Serve { arguments } => service::main(arguments),
        Command::Look { disk } => match disk::probe(&disk) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::from(FAILURE)
            }
        },
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
        || reboot::ask_logind(limit),
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
