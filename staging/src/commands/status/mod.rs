//! `status`: what runs, what the next boot does, and what to do next.
//!
//! Reads only, takes no lock, and tells what it can when things are broken: each
//! part that can't be read becomes a problem, and the rest is shown.

mod advice;
mod boots;
pub(crate) mod collect;
pub(crate) mod condition;
mod paint;
mod published;
#[cfg(test)]
mod schema;
mod text;
mod watch;

use crate::cli::device as cli;
use crate::context::{Context, Report};
use crate::error::{Exit, Result};
use paint::Screen;
use published::Status;

/// Runs the command.
pub(crate) fn run(context: &Context, args: &cli::Status) -> Result<Exit> {
    match args.watch {
        Some(seconds) => watch::run(context, seconds),
        None => context
            .print(&look(context, Screen::stdout()))
            .map(|()| Exit::Done),
    }
}

/// How things stand now.
fn look(context: &Context, screen: Screen) -> Report {
    let facts = collect::collect(context);
    let next = advice::next(&facts);
    let mut report = Report::of(&Status::new(&facts, &next));
    for line in text::lines(&facts, &next, screen) {
        report = report.line(line);
    }
    report
}
