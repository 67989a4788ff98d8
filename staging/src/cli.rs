//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use op_dbus_activator::config::{Device, Link, Way};
use op_dbus_bootstate::Version;

use crate::error::exit_table;

/// Receives, stages, blesses and rolls back versions that the next boot activates.
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
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the store, its boot record, the mount points and the configuration
    Prepare(Prepare),
    /// Receive a version from a file written by btrfs send
    Receive(Receive),
    /// Put a version on trial: the next boot activates it
    Stage(Stage),
    /// Take the trial back; good stays
    Cancel,
    /// Make the running version good: it proved itself
    Bless,
    /// Judge the running version unhealthy
    Condemn(Condemn),
    /// Go back to the fallback version, or to a named one
    Rollback(Rollback),
    /// Tell what runs, what the next boot does, and what to do next
    Status,
    /// Check or print the audit log
    #[command(subcommand)]
    Audit(Audit),
    /// Give an unfinished trial its try back (called at shutdown)
    #[command(hide = true)]
    OrderlyShutdown,
    /// Print the manual page
    #[command(hide = true)]
    Man(Man),
    /// Print shell completions
    #[command(hide = true)]
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct Prepare {
    /// Device of the store's Btrfs file system: a path, or UUID=… [default: that of the root]
    #[arg(long, value_name = "DEVICE", value_parser = device)]
    pub(crate) device: Option<Device>,
    /// The store's subvolume, from the file system's top level [default: @op-dbus]
    #[arg(long, value_name = "NAME")]
    pub(crate) subvolume: Option<String>,
    /// Who activates: initrd (dracut) or generator [default: what fits this host]
    #[arg(long, value_name = "WAY", value_parser = way)]
    pub(crate) way: Option<Way>,
    /// Link from the host into the version, for example /usr/local/bin/app=bin/app
    #[arg(long, value_name = "PATH=TARGET", value_parser = link)]
    pub(crate) link: Vec<Link>,
    /// Unit that must be active for a boot to be healthy
    #[arg(long, value_name = "UNIT")]
    pub(crate) unit: Vec<String>,
    /// Name that must answer on the system bus for a boot to be healthy
    #[arg(long, value_name = "NAME")]
    pub(crate) bus_name: Vec<String>,
    /// Leave the store unmounted afterwards
    #[arg(long)]
    pub(crate) no_mount: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Receive {
    /// File written by btrfs send
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Publish under this name instead of the name of the subvolume that was sent
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<Version>,
    /// The btrfs program to receive with
    #[arg(long, value_name = "PATH", default_value = "btrfs")]
    pub(crate) btrfs: PathBuf,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Override {
    /// Release the version from quarantine
    #[arg(long)]
    pub(crate) allow_quarantined: bool,
    /// Accept a security epoch below this device's floor
    #[arg(long)]
    pub(crate) allow_old_epoch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Stage {
    /// A version of the store
    pub(crate) version: Version,
    #[command(flatten)]
    pub(crate) overrides: Override,
}

#[derive(Debug, Args)]
pub(crate) struct Condemn {
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Reboot if that brings a better choice
    #[arg(long)]
    pub(crate) reboot: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// A version of the store [default: the fallback version]
    pub(crate) version: Option<Version>,
    #[command(flatten)]
    pub(crate) overrides: Override,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Check that the log is whole and unchanged
    Verify,
    /// Print the log
    Log(Log),
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Only the last lines
    #[arg(long, short = 'n', value_name = "LINES")]
    pub(crate) last: Option<usize>,
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

fn device(text: &str) -> Result<Device, String> {
    Device::try_from(text.to_owned())
}

fn way(text: &str) -> Result<Way, String> {
    match text {
        "initrd" => Ok(Way::Initrd),
        "generator" => Ok(Way::Generator),
        _ => Err("expected initrd or generator".to_owned()),
    }
}

fn link(text: &str) -> Result<Link, String> {
    let (path, target) = text.split_once('=').ok_or("expected PATH=TARGET")?;
    Ok(Link {
        path: path.into(),
        target: target.into(),
    })
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
