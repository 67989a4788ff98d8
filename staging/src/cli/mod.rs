//! The command line: what every command shares, and the commands of the two
//! places the program is used in.

pub(crate) mod backup;
pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod device;
pub(crate) mod overlay;
pub(crate) mod prune;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::error::exit_table;

/// Makes signed releases on a build system; receives, stages, blesses and rolls them back on a device.
#[derive(Debug, Parser)]
#[command(name = "op-dbus-stage", version, after_help = exit_table(), disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Print results, warnings and errors as JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Configuration file [default: <sysroot>/etc/op-dbus/deploy.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where the store is mounted [default: <run>/op-dbus/store]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Root of the host
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub(crate) sysroot: PathBuf,
    /// Directory for what lasts one boot
    #[arg(long, global = true, value_name = "DIR", default_value = "/run")]
    pub(crate) run: PathBuf,
    /// File that holds the kernel's id of this boot
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        hide = true,
        default_value = "/proc/sys/kernel/random/boot_id"
    )]
    pub(crate) boot_id: PathBuf,
    /// For whom a service that root runs asks, for the audit log
    #[arg(long, global = true, value_name = "UID", hide = true)]
    pub(crate) for_uid: Option<u32>,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Device(device::Command),
    #[command(flatten)]
    Build(build::Command),
    /// Save what a device knows and what its users changed, and look at such a backup
    #[command(subcommand)]
    Backup(backup::Backup),
    /// Make an empty store what a backup and signed releases say
    Restore(backup::Restore),
    /// Check a device, a version on it, or a build system, and say what to do about what is found
    #[command(subcommand)]
    Check(check::Check),
    /// Delete old versions of a device, or (--source) old snapshots of a build system
    Prune(prune::Prune),
    /// Print the manual page
    #[command(hide = true)]
    Man(Man),
    /// Print shell completions
    #[command(hide = true)]
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write one page for each command into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_shows_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for exit in crate::error::Exit::ALL {
            assert!(help.contains(exit.meaning()), "{exit:?}");
        }
    }
}
