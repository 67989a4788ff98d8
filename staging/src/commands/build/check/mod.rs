//! `check source`: whether a release can be made here.

mod hooks;
mod machine;
mod scan;
mod tree;
mod units;

use std::path::{Path, PathBuf};

use super::area::Area;
use crate::cli::build::Source;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};
use crate::findings::{self, Findings, Severity};

use scan::Scan;
pub(crate) use tree::unstartable;

/// Runs the command.
pub(crate) fn source(context: &Context, args: &Source) -> Result<Exit> {
    let area = Area::new(&args.place);
    let golden = args.golden.clone().unwrap_or_else(|| area.golden());
    let mut findings = Findings::default();
    let is_root = machine::root(&mut findings);
    machine::place(&area, &mut findings);
    machine::btrfs(&args.btrfs, &mut findings);
    machine::gpg(&args.gpg, &mut findings);
    // Whoever is not root does not see everything, and would be told wrong things.
    if is_root && tree::subvolume(&golden, &mut findings) {
        let found = cheap(&golden, &args.expect, &mut findings);
        if let Some(found) = found {
            // The survey goes no further than the first subvolume within.
            if found.nested.is_empty() {
                tree::privileged(&golden, &mut findings);
            }
            machine::space(&area, found.bytes, &mut findings);
        }
        hooks::run(&args.checks_dir, &golden, &area, &mut findings);
    }
    report(context, &golden, &findings)
}

/// What takes no time worth mentioning.
fn cheap(golden: &Path, expect: &[PathBuf], findings: &mut Findings) -> Option<Scan> {
    let found = tree::content(golden, findings);
    tree::expected(golden, expect, findings);
    tree::unit_programs(golden, findings);
    tree::epoch(golden, findings);
    found
}

/// The cheap checks, for a command that goes on only if all is well.
pub(crate) fn require(golden: &Path, expect: &[PathBuf]) -> Result<()> {
    let mut findings = Findings::default();
    if tree::subvolume(golden, &mut findings) {
        cheap(golden, expect, &mut findings);
    }
    let mut problems = findings.problems();
    let Some(first) = problems.next() else {
        return Ok(());
    };
    let more = match problems.count() {
        0 => String::new(),
        count => format!(" (and {count} more)"),
    };
    let remedy = first.remedy.as_deref().unwrap_or_default();
    Err(Failure::new(
        Exit::Refused,
        golden.display(),
        format_args!("{}{more}", first.found),
        format_args!("{remedy}; see: op-dbus-stage check source"),
    ))
}

/// What no stream of a frozen version would carry.
pub(crate) fn require_sendable(path: &Path) -> Result<()> {
    let mut findings = Findings::default();
    tree::content(path, &mut findings);
    match findings.problems().next() {
        None => Ok(()),
        Some(first) => Err(Failure::new(
            Exit::Refused,
            path.display(),
            &first.found,
            format_args!(
                "{}, and make a new version",
                first.remedy.as_deref().unwrap_or_default()
            ),
        )),
    }
}

fn report(context: &Context, golden: &Path, findings: &Findings) -> Result<Exit> {
    let problems = findings.problems().count();
    let warnings = findings.count(Severity::Warning);
    let (result, last) = match problems {
        0 => ("ready", "A release can be made here".to_owned()),
        1 => (
            "problems",
            "One problem is in the way of a release".to_owned(),
        ),
        count => (
            "problems",
            format!("{count} problems are in the way of a release"),
        ),
    };
    let last = match warnings {
        0 => format!("{last}."),
        1 => format!("{last}; one warning."),
        count => format!("{last}; {count} warnings."),
    };
    let mut report = Report::new("check source", result)
        .field("golden", golden.to_string_lossy())
        .object("findings", &findings.list());
    for line in findings.table(findings::terminal_width()) {
        report = report.line(line);
    }
    context.print(&report.line("").line(last))?;
    Ok(findings.exit(false))
}
