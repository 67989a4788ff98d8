//! `prune`: one command, on a device and, with `--source`, on a build system.

use std::path::PathBuf;

use clap::Args;

use super::build::{PLACE, Place};

/// What both sides are told.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// How many of the newest versions stay, besides those that are needed [default: [prune] keep of a device, or 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) keep: Option<u16>,
    /// Tell what would be deleted, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// As the boot calls it after a bless: unless that is switched off in [prune],
    /// nothing was blessed, or another run is busy
    #[arg(long, hide = true, conflicts_with = "source")]
    pub(crate) after_bless: bool,
    #[command(flatten)]
    pub(crate) source: Source,
}

/// What only a build system is told.
#[derive(Debug, Args)]
#[command(next_help_heading = "On a build system")]
pub(crate) struct Source {
    /// Delete old snapshots of a build system, instead of a device's versions
    #[arg(id = "source", long)]
    pub(crate) is_meant: bool,
    /// Directory on Btrfs that holds golden, versions/ and releases/
    #[arg(long, value_name = "DIR", default_value = PLACE, requires = "source")]
    pub(crate) build: PathBuf,
    /// Directory with published manifests, besides <build>/releases; repeat for several
    #[arg(long, value_name = "DIR", requires = "source")]
    pub(crate) published: Vec<PathBuf>,
    /// The btrfs program to ask for sizes
    #[arg(
        long,
        value_name = "PROGRAM",
        default_value = "btrfs",
        hide = true,
        requires = "source"
    )]
    pub(crate) btrfs: PathBuf,
}

impl Source {
    /// The build directory.
    pub(crate) fn place(&self) -> Place {
        Place {
            build: self.build.clone(),
        }
    }
}
