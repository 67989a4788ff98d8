//! `status`: what runs, what the next boot does, and what to do next.
//!
//! Reads only, takes no lock, and tells what it can when things are broken: each
//! part that can't be read becomes a problem, and the rest is shown.

mod advice;
mod collect;
mod text;

use crate::context::{Context, Report};
use crate::error::{Exit, Result};

/// Runs the command.
pub(crate) fn run(context: &Context) -> Result<Exit> {
    let facts = collect::collect(context);
    let next = advice::next(&facts);
    let result = if facts.problems.is_empty() {
        "ok"
    } else {
        "attention"
    };
    let mut report = Report::new("status", result).object("next", &next);
    report = facts.fields(report);
    for line in text::lines(&facts, &next) {
        report = report.line(line);
    }
    context.print(&report)?;
    Ok(Exit::Done)
}
