//! What a device is told to do.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use op_dbus_activator::config::{Device, Link, Way};
use op_dbus_bootstate::Version;

use super::overlay::{Overlay, Winner};

/// The commands of a device.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the store, its boot record, the mount points and the configuration
    Prepare(Prepare),
    /// Receive a signed release: check it, and put its version into the store
    Receive(Receive),
    /// Check versions of the store, or a release's files, against their signed manifests
    Verify(Verify),
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
    /// Keep a version, whatever prune would delete
    Pin(Pin),
    /// Take a pin back
    Unpin(Pin),
    /// List the changes over a version, and what of them clashes with another one
    #[command(subcommand)]
    Overlay(Overlay),
    /// Tell what runs, what the next boot does, and what to do next
    Status(Status),
    /// Print numbers for Prometheus, or write them where its node exporter reads them
    Metrics(Metrics),
    /// Check or print the audit log
    #[command(subcommand)]
    Audit(Audit),
    /// Tell in the audit log how the boots before this one ended (called at boot)
    BootReport(BootReport),
    /// Mark an orderly end, and give an unfinished trial its try back (called at shutdown)
    #[command(hide = true)]
    OrderlyShutdown,
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
    /// Certificate of a key that may sign releases, as gpg exports it; copied into the keys' directory
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,
    /// The product whose releases this device takes [default: op-dbus]
    #[arg(long, value_name = "NAME")]
    pub(crate) product: Option<String>,
    /// Leave the store unmounted afterwards
    #[arg(long)]
    pub(crate) no_mount: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Receive {
    /// A stream, its manifest (*.json: takes the stream beside it that fits), or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The release's manifest, with its signature beside it [default: beside FILE, by its name]
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Trust that the disk holds what was written, instead of reading it back (noted in the audit log)
    #[arg(long)]
    pub(crate) no_read_back: bool,
    /// With --json: print on standard error how far it is, one object a line
    #[arg(long)]
    pub(crate) progress: bool,
    #[command(flatten)]
    pub(crate) overrides: Override,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A version of the store, a manifest (*.json), or a stream [default: all versions]
    #[arg(value_name = "VERSION|FILE")]
    pub(crate) what: Option<PathBuf>,
    /// Read the versions' whole content from the disk
    #[arg(long)]
    pub(crate) deep: bool,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Override {
    /// Take a version that is quarantined
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
    /// Who wins where changes over the good version clash with this one [default: by the configuration]
    #[arg(long = "overlay", value_name = "WINNER")]
    pub(crate) winner: Option<Winner>,
    #[command(flatten)]
    pub(crate) overrides: Override,
}

#[derive(Debug, Args)]
pub(crate) struct Condemn {
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Go by the verdict of this boot's health check; without one, condemn for --reason
    #[arg(long)]
    pub(crate) from_health: bool,
    /// Reboot if that brings a better choice
    #[arg(long)]
    pub(crate) reboot: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BootReport {
    /// After a boot that was cut short: how long to wait for a watchdog's driver, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=600))]
    pub(crate) watchdog_wait: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// A version of the store [default: the fallback version]
    pub(crate) version: Option<Version>,
    #[command(flatten)]
    pub(crate) overrides: Override,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Show it again every so many seconds [default: 5], until interrupted; with --json one object a line
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "5",
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub(crate) watch: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// Write the file that textfile in [metrics] names, instead of printing
    #[arg(long)]
    pub(crate) write: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// A version of the store
    pub(crate) version: Version,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Check that the log is whole and unchanged
    Verify(AuditVerify),
    /// Print the log
    Log(Log),
    /// Write the log, and a statement of where it ends, to be kept elsewhere
    Export(Export),
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// An exported log, instead of this device's
    #[arg(value_name = "DIR")]
    pub(crate) export: Option<PathBuf>,
    /// A head that was exported: show that the log still has that line, unchanged; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) head: Vec<PathBuf>,
    /// Certificate of who must have signed the heads (FILE.asc beside each); may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A directory that is not there yet; with --head-only, a file
    #[arg(value_name = "OUTPUT")]
    pub(crate) output: PathBuf,
    /// Only the statement of where the log ends, not its lines
    #[arg(long)]
    pub(crate) head_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Only the last lines
    #[arg(long, short = 'n', value_name = "LINES")]
    pub(crate) last: Option<usize>,
    /// Only lines after the one with this number
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(crate) after: u64,
    /// Only so many lines, the oldest of them
    #[arg(long, value_name = "LINES", conflicts_with = "last")]
    pub(crate) first: Option<usize>,
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
