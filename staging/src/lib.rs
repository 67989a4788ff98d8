//! `op-dbus-stage`: brings versions into the store and onto the next boot.
//!
//! The decisions are [`op_dbus_bootstate`]'s; here they meet files, locks and
//! people. One module a command, below [`commands`].

mod auditlog;
mod backup;
mod boots;
mod cli;
mod commands;
mod context;
mod deployments;
mod ended;
mod error;
mod findings;
mod holder;
mod limited;
mod mountinfo;
mod overlay;
mod pins;
mod progress;
mod refusals;
mod reserve;
mod session;
mod settings;
mod signed;
mod verdict;

use std::ffi::OsString;

use clap::Parser as _;

use cli::Cli;
use context::Context;
pub use error::Exit;
use error::Failure;

/// Runs the program and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(why) => return usage(&args, &why),
    };
    let context = Context::new(&cli.global);
    match commands::run(&context, &cli.command) {
        Ok(exit) => exit,
        Err(failure) => {
            refusals::note(&context, &cli.command, &failure);
            context.fail(&failure);
            failure.kind
        }
    }
}

/// Help and version go to stdout; anything else is one line on stderr.
fn usage(args: &[OsString], why: &clap::Error) -> Exit {
    use clap::error::ErrorKind;
    if matches!(
        why.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // Nobody is left to tell if stdout is gone.
        let _ = why.print();
        return Exit::Done;
    }
    // The parser's own text goes over several lines: the error, then usage.
    let text = why.to_string();
    let error = text.split("\n\n").next().unwrap_or_default();
    let error = error.strip_prefix("error: ").unwrap_or(error);
    let words: Vec<_> = error.split_whitespace().collect();
    let failure = Failure::new(
        Exit::Usage,
        "usage",
        words.join(" "),
        "see: op-dbus-stage --help",
    );
    let json = args.iter().any(|arg| arg == "--json");
    context::fail_without_context(json, &failure);
    Exit::Usage
}
