//! `audit verify` and `audit log`.

use std::collections::VecDeque;

use op_dbus_activator::records::Records;
use op_dbus_bootstate::audit::Line;
use op_dbus_bootstate::store;

use crate::auditlog::{AuditLog, State};
use crate::cli::device::{self as cli, Log};
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};

/// Runs the command. Reads only; it takes no lock, so that a long receive does
/// not keep anyone from looking.
pub(crate) fn run(context: &Context, args: &cli::Audit) -> Result<Exit> {
    Context::require_root()?;
    context.require_store()?;
    let log = AuditLog::new(&context.layout);
    match args {
        cli::Audit::Verify => verify(context, &log),
        cli::Audit::Log(args) => print(context, &log, args),
    }
}

fn verify(context: &Context, log: &AuditLog) -> Result<Exit> {
    let path = log.path();
    let loaded = store::load(&mut Records::new(&context.layout));
    let verdict = loaded.verdict();
    let anchor = verdict.record().map(|record| record.audit);
    let fail = |why| Failure::io(format_args!("{}: read", path.display()), why);
    let broken = |why: &dyn std::fmt::Display| {
        let remedy = "keep a copy of the audit directory and find out who wrote to it";
        Failure::new(Exit::Verification, path.display(), why, remedy)
    };
    let head = match log.read(anchor, |_| ()).map_err(fail)? {
        State::Sound { head, .. } => head,
        State::Broken(why) => return Err(broken(&why)),
    };
    if let Some(aside) = log.set_aside().map_err(fail)?.first() {
        let why = format!(
            "an earlier log did not verify and was set aside as {}",
            aside.display()
        );
        let remedy = "find out who wrote to it, then move it out of the audit directory";
        return Err(Failure::new(
            Exit::Verification,
            path.display(),
            why,
            remedy,
        ));
    }
    let mut report = Report::new("audit-verify", "sound")
        .field("lines", head.length)
        .object("head", &head.head)
        .field("missed", head.missed)
        .line(format!(
            "The audit log is sound: {} lines, each following from the one before.",
            head.length
        ));
    if anchor.is_none() {
        context.warn("no boot record could be read, so a tail that was cut off would not show");
    }
    if head.missed > 0 {
        report = report.line(format!(
            "{} transitions could not be logged when they happened.",
            head.missed
        ));
    }
    context.print(&report)?;
    Ok(Exit::Done)
}

fn print(context: &Context, log: &AuditLog, args: &Log) -> Result<Exit> {
    let keep = args.last.unwrap_or(usize::MAX);
    let mut lines: VecDeque<Line> = VecDeque::new();
    let result = log.salvage(|line| {
        if lines.len() >= keep {
            lines.pop_front();
        }
        if keep > 0 {
            lines.push_back(line.clone());
        }
    });
    result.map_err(|why| Failure::io(format_args!("{}: read", log.path().display()), why))?;
    let mut report = Report::new("audit-log", "printed").object("lines", &lines);
    for line in &lines {
        let version = line
            .version
            .as_ref()
            .map_or("-", |version| version.as_str());
        report = report.line(
            format!(
                "{:>5}  {}  {:<10} {:<12} {}",
                line.n, line.time, line.event, version, line.detail
            )
            .trim_end(),
        );
    }
    context.print(&report)?;
    Ok(Exit::Done)
}
