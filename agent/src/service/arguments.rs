//! The command line of `op-dbus-agent serve`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use op_dbus_activator::layout::Layout;

use super::stage::Stage;
use super::{Ended, Options, serve};

/// Where things are; the defaults are those of a device.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration [default: <sysroot>/etc/op-dbus/deploy.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the store is mounted [default: <run>/op-dbus/store]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The host's root
    #[arg(long, value_name = "DIR", default_value = "/")]
    sysroot: PathBuf,
    /// Where what lasts one boot is
    #[arg(long, value_name = "DIR", default_value = "/run")]
    run: PathBuf,
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
    let layout = Layout::new(&arguments.run, &arguments.sysroot);
    let layout = match &arguments.store {
        Some(store) => layout.with_store(store),
        None => layout,
    };
    let mut options: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: Option<PathBuf>| {
        if let Some(value) = value {
            options.extend([name.into(), value.into()]);
        }
    };
    option("--run", Some(arguments.run));
    option("--sysroot", Some(arguments.sysroot));
    option("--store", arguments.store);
    option("--config", arguments.config);
    option("--boot-id", arguments.boot_id);
    let served = serve(Options {
        stage: Stage {
            program: arguments.stage,
            options,
        },
        layout,
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
