//! What a build system asks for.

use clap::Subcommand;

/// The commands of a build system.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {}
