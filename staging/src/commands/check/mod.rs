//! `check`: one readable table, every finding with its remedy.
//!
//! | Module | Does |
//! |---|---|
//! | [`target`] | whether a device, or an image of one, is fit for upgrades without a hand |
//! | [`deployment`] | whether a version will do on this device, and whether what runs is all there |
//! | [`root`] | reading that never waits and never leaves an image |
//! | [`sections`] | each part in bounded time |
//!
//! Nothing is changed, but for the probe of a writable overlay, which makes and
//! removes one new name, as each boot does. The check of a build system is in
//! `build::check`; all of them share `findings`.

mod deployment;
pub(crate) mod host;
mod root;
mod sections;
pub(crate) mod target;
#[cfg(test)]
pub(crate) mod testing;

use crate::cli::check::Check;
use crate::commands::build;
use crate::context::Context;
use crate::error::{Exit, Result};

/// Runs the command.
pub(crate) fn run(context: &Context, what: &Check) -> Result<Exit> {
    match what {
        Check::Target(args) => target::run(context, args),
        Check::Deployment(args) => deployment::run(context, args),
        Check::Source(args) => build::check(context, args),
    }
}

/// `1 error`, `2 errors`.
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
