//! `backup` and `restore`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use op_dbus_bootstate::Version;

#[derive(Debug, Subcommand)]
pub(crate) enum Backup {
    /// Write everything but the versions themselves into one file
    Create(Create),
    /// Read a backup to its end, and check all of it
    Verify(Verify),
    /// Tell what is in a backup, or print one of its files
    #[command(visible_alias = "list")]
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The file to write, which must not be there yet, or - for standard output
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A backup
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The digest it must have, as backup create printed it
    #[arg(long, value_name = "HEX")]
    pub(crate) digest: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A backup
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Print a small file of it, for example device/deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) print: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A backup
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Directory with signed releases (manifest, signature, stream); repeat for several
    #[arg(long, value_name = "DIR")]
    pub(crate) releases: Vec<PathBuf>,
    /// A version to restore besides those the boot record names; repeat for several
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Vec<Version>,
    /// Restore what can be, where a version's release is not there
    #[arg(long)]
    pub(crate) partial: bool,
    /// Take the backup's configuration, with this device's [store]
    #[arg(long)]
    pub(crate) configuration: bool,
    /// Trust the backup's certificate with this fingerprint, which you know from elsewhere
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) trust_key: Vec<String>,
    /// The digest the backup must have, as backup create printed it
    #[arg(long, value_name = "HEX")]
    pub(crate) digest: Option<String>,
}
