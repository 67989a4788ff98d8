//! What a build system asks for.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use op_dbus_bootstate::Version;

/// The commands of a build system.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Freeze the golden subvolume as a version
    Snapshot(Snapshot),
    /// Write a version's streams and their manifest into files
    Send(Send),
    /// Sign a release's manifest, or an exported head of an audit log, with gpg
    Sign(Sign),
}

/// Where releases are made unless told otherwise.
pub(crate) const PLACE: &str = "/var/lib/op-dbus/build";

/// Where releases are made.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// Directory on Btrfs that holds golden, versions/ and releases/
    #[arg(long, value_name = "DIR", default_value = PLACE)]
    pub(crate) build: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Source {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The subvolume that versions are made of [default: <build>/golden]
    #[arg(long, value_name = "PATH")]
    pub(crate) golden: Option<PathBuf>,
    /// Path that must be in the tree [default: a program in bin/, a unit in lib/systemd/system/]
    #[arg(long, value_name = "PATH")]
    pub(crate) expect: Vec<PathBuf>,
    /// Programs in it are run in the order of their names, with the golden path as argument
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/etc/op-dbus/source-checks.d"
    )]
    pub(crate) checks_dir: PathBuf,
    /// The btrfs program to send with
    #[arg(long, value_name = "PROGRAM", default_value = "btrfs")]
    pub(crate) btrfs: PathBuf,
    /// The gpg program to sign with
    #[arg(long, value_name = "PROGRAM", default_value = "gpg")]
    pub(crate) gpg: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    /// Its name: semantic versioning, with or without a leading v
    pub(crate) version: Version,
    #[command(flatten)]
    pub(crate) place: Place,
    /// The subvolume to freeze [default: <build>/golden]
    #[arg(long, value_name = "PATH")]
    pub(crate) golden: Option<PathBuf>,
    /// Path that must be in the tree [default: a program in bin/, a unit in lib/systemd/system/]
    #[arg(long, value_name = "PATH")]
    pub(crate) expect: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// A version in <build>/versions
    pub(crate) version: Version,
    #[command(flatten)]
    pub(crate) place: Place,
    /// A stream that needs no other version; made anyway when there is no --parent
    #[arg(long)]
    pub(crate) full: bool,
    /// A stream for devices that have this version (auto: the highest older one); repeat for several
    #[arg(long, value_name = "VERSION|auto", value_parser = parent)]
    pub(crate) parent: Vec<Parent>,
    /// Where to write [default: <build>/releases]
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// What it is a release of; a device takes one product only
    #[arg(long, value_name = "NAME", default_value = "op-dbus")]
    pub(crate) product: String,
    /// How the files are compressed
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Compression::Zstd)]
    pub(crate) compression: Compression,
    /// Effort of compression, 1 to 19. 9 makes programs a tenth smaller than 3, for three times the work
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub(crate) level: i32,
    /// Send what is compressed on this file system as it is
    #[arg(long)]
    pub(crate) compressed_data: bool,
    /// Allow what is in the tree of devices, setuid programs and capabilities: the manifest lists it
    #[arg(long)]
    pub(crate) allow_privileged: bool,
    /// The btrfs program to send with
    #[arg(long, value_name = "PROGRAM", default_value = "btrfs")]
    pub(crate) btrfs: PathBuf,
}

/// How a stream's file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// Zstandard.
    Zstd,
    /// Not at all.
    None,
}

/// The parent of a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parent {
    /// The highest older version that is there.
    Auto,
    /// This one.
    Version(Version),
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The release's manifest, as written by send; or a head.json of audit export
    #[arg(value_name = "MANIFEST")]
    pub(crate) manifest: PathBuf,
    /// Key to sign with, as gpg names keys; repeat to sign with several [default: gpg's own]
    #[arg(long, value_name = "ID")]
    pub(crate) key: Vec<String>,
    /// The gpg program
    #[arg(long, value_name = "PROGRAM", default_value = "gpg")]
    pub(crate) gpg: PathBuf,
    /// Replace a signature that is there already
    #[arg(long)]
    pub(crate) replace: bool,
}

fn parent(text: &str) -> Result<Parent, String> {
    if text == "auto" {
        return Ok(Parent::Auto);
    }
    text.parse()
        .map(Parent::Version)
        .map_err(|why: op_dbus_bootstate::version::VersionError| why.to_string())
}
