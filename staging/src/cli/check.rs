//! `check`: one command; what is checked is named by its first argument.

use clap::{Args, Subcommand};
use op_dbus_bootstate::Version;

use super::build::Source;

/// What a check is of.
#[derive(Debug, Subcommand)]
pub(crate) enum Check {
    /// On a device: is it fit to be upgraded, and to come back by itself when that fails?
    Target(Target),
    /// On a device: will this version do here, and if it runs, is it all there?
    Deployment(Deployment),
    /// On a build system: can a release be made of the tree?
    Source(Source),
}

#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Fail (exit code 8) for warnings too
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Deployment {
    /// A version of the store [default: the one that runs, and the one on trial]
    pub(crate) version: Option<Version>,
    /// Read the version's whole content from the disk
    #[arg(long)]
    pub(crate) deep: bool,
    /// Fail (exit code 8) for warnings too
    #[arg(long)]
    pub(crate) strict: bool,
}
