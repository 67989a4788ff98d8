//! The manual pages and shell completions, from the command line's definition.

use clap::CommandFactory as _;

use crate::cli::{self, Cli};
use crate::context::{Context, NAME};
use crate::error::{Exit, Failure, Result};

/// Prints the manual page, or writes one for each command.
pub(crate) fn man(args: &cli::Man) -> Result<Exit> {
    if let Some(dir) = &args.dir {
        clap_mangen::generate_to(Cli::command(), dir).map_err(|why| {
            Failure::io(format_args!("{}: write manual pages", dir.display()), why)
        })?;
        return Ok(Exit::Done);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|why| Failure::io("manual page", why))?;
    Context::print_text(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Done)
}

/// Prints completions for a shell.
pub(crate) fn completions(args: &cli::Completions) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    Context::print_text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
