//! `check deployment`: will this version do here, and if it runs, is it all there?

use crate::cli::check as cli;
use crate::context::Context;
use crate::error::{Exit, Result};

/// Runs the command.
pub(crate) fn run(_context: &Context, _args: &cli::Deployment) -> Result<Exit> {
    Context::require_root()?;
    Ok(Exit::Done)
}
