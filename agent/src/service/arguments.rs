//! The command line of `op-dbus-agent serve`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::stage::Stage;
use super::{Ended, Options, serve};
use crate::place::Place;

/// Arguments of `op-dbus-agent serve`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration [default: <sysroot>/etc/op-dbus/deploy.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// End after so many seconds without use
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    idle: u32,
    /// The program that does what is asked for
    #[arg(
        long,
        value_name = "PATH",
        hide = true,
        default_value = "/usr/bin/op-dbus-stage"
    )]
    stage: PathBuf,
    /// File that holds the kernel's id of this boot
    #[arg(long, value_name = "FILE", hide = true)]
    boot_id: Option<PathBuf>,
}

/// Runs the command.
pub fn main(arguments: Arguments) -> ExitCode {
    let mut options = arguments.place.options();
    let mut option = |name: &str, value: Option<PathBuf>| {
        if let Some(value) = value {
            options.extend([name.into(), value.into()]);
        }
    };
    option("--config", arguments.config);
    option("--boot-id", arguments.boot_id);
    let served = serve(Options {
        stage: Stage {
            program: arguments.stage,
            options,
        },
        layout: arguments.place.layout(),
        idle: Duration::from_secs(arguments.idle.into()),
    });
    match served {
        Ok(Ended::Idle | Ended::Stopped) => ExitCode::SUCCESS,
        Ok(Ended::BusLost) => {
            eprintln!("op-dbus-agent: the system bus is gone");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("op-dbus-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
