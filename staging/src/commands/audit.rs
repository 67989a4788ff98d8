//! `audit verify`, `audit log` and `audit export`.

mod export;
pub(crate) mod head;

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;

use op_dbus_activator::records::Records;
use op_dbus_bootstate::audit::{AuditHead, Kind, Line};
use op_dbus_bootstate::store;
use serde::Serialize;

use self::head::Witness;
use crate::auditlog::{self, AuditLog, State};
use crate::backup::kept::{self, Kept};
use crate::backup::logs;
use crate::cli::device::{self as cli, AuditVerify, Log};
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};

/// Runs the command. Reads only; it takes no lock, so that a long receive does
/// not keep anyone from looking.
pub(crate) fn run(context: &Context, args: &cli::Audit) -> Result<Exit> {
    if let cli::Audit::Verify(args) = args {
        if let Some(export) = &args.export {
            return verify_export(context, export, args);
        }
    }
    Context::require_root()?;
    context.require_store()?;
    let log = AuditLog::new(&context.layout);
    match args {
        cli::Audit::Verify(args) => verify(context, &log, args),
        cli::Audit::Log(args) => print(context, &log, args),
        cli::Audit::Export(args) => export::run(context, &log, args),
    }
}

/// What the boot record knows of the log.
fn anchor(context: &Context) -> Option<AuditHead> {
    let verdict = store::load(&mut Records::new(&context.layout)).verdict();
    let anchor = verdict.record().map(|record| record.audit);
    if anchor.is_none() {
        context.warn("no boot record could be read, so a tail that was cut off would not show");
    }
    anchor
}

fn broken(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    let remedy = "keep a copy of the audit directory and find out who wrote to it";
    Failure::new(Exit::Verification, path.display(), why, remedy)
}

/// The heads that a log is to be held against.
fn witnesses(context: &Context, args: &AuditVerify) -> Result<Vec<Witness>> {
    let keys = head::keyring(&args.key)?;
    if keys.is_some() && args.head.is_empty() && args.export.is_none() {
        return Err(Failure::new(
            Exit::Usage,
            "--key",
            "there is no head whose signature it could check",
            "name one: --head FILE",
        ));
    }
    let heads = args.head.iter();
    heads
        .map(|head| Witness::read(context, head, keys.as_ref()))
        .collect()
}

fn verify(context: &Context, log: &AuditLog, args: &AuditVerify) -> Result<Exit> {
    let path = log.path();
    let mut witnesses = witnesses(context, args)?;
    for witness in &witnesses {
        witness.of_store(&context.layout.store)?;
    }
    let fail = |why| Failure::io(format_args!("{}: read", path.display()), why);
    let anchor = anchor(context);
    let mut kept = Vec::new();
    let mut first = None;
    let read = log.read_heads(anchor, |line, at| {
        first.get_or_insert(line.n);
        kept.extend(kept_by(line));
        for witness in &mut witnesses {
            witness.line(line, at);
        }
    });
    let head = match read.map_err(fail)? {
        State::Sound { head, .. } => head,
        State::Broken(why) => return Err(broken(&path, &why)),
    };
    for witness in &witnesses {
        witness.check(head.length)?;
    }
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
    let kept = check_kept(context, kept)?;
    let mut report = sound(first, head, &witnesses)
        .object("kept", &kept)
        .field("missed", head.missed);
    for log in &kept {
        report = report.line(log.line());
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

/// An exported log, which needs neither a device nor root.
fn verify_export(context: &Context, export: &Path, args: &AuditVerify) -> Result<Exit> {
    let mut witnesses = witnesses(context, args)?;
    let own = export.join(export::HEAD);
    if !args.head.contains(&own) {
        // With heads from elsewhere, it is those that have to be signed.
        let keys = match args.head.as_slice() {
            [] => head::keyring(&args.key)?,
            _ => None,
        };
        witnesses.push(Witness::read(context, &own, keys.as_ref())?);
    }
    for witness in &witnesses {
        witness.of_same(witnesses.last())?;
    }
    let path = export.join(export::LINES);
    let fail = |why| Failure::io(format_args!("{}: read", path.display()), why);
    let mut first = None;
    let file = File::open(&path).map_err(fail)?;
    let read = auditlog::read_file(file, None, |line, at| {
        first.get_or_insert(line.n);
        for witness in &mut witnesses {
            witness.line(line, at);
        }
    });
    let head = match read.map_err(fail)? {
        State::Sound { head, .. } => head,
        State::Broken(why) => return Err(broken(&path, &why)),
    };
    for witness in &witnesses {
        witness.check(head.length)?;
    }
    context.print(&sound(first, head, &witnesses))?;
    Ok(Exit::Done)
}

fn sound(first: Option<u64>, head: AuditHead, witnesses: &[Witness]) -> Report {
    let removed = first.map_or(0, |first| first.saturating_sub(1));
    let mut report = Report::new("audit-verify", "sound")
        .field("lines", head.length)
        .field("removed", removed)
        .object("head", &head.head)
        .object("heads", &witnesses)
        .line(format!(
            "The audit log is sound: {} lines, each following from the one before.",
            head.length
        ));
    if removed > 0 {
        report = report.line(format!(
            "The first {removed} of them are kept no longer, as a later line says."
        ));
    }
    for witness in witnesses {
        report = report.line(witness.told());
    }
    report
}

/// A log that came with a backup.
#[derive(Debug, Serialize)]
struct KeptLog {
    file: String,
    lines: u64,
    /// Why it does not verify: it did not when it was restored, or this would be
    /// an error.
    broken: Option<String>,
}

impl KeptLog {
    fn line(&self) -> String {
        let Self { file, lines, .. } = self;
        match &self.broken {
            None => format!(
                "Before a restore it was {file}: sound, {lines} lines, unchanged since it was restored."
            ),
            Some(why) => format!(
                "Before a restore it was {file}: unchanged since, but it did not verify even then ({why})."
            ),
        }
    }
}

/// The log that a line tells of.
fn kept_by(line: &Line) -> Option<Kept> {
    (line.event == Kind::Restored)
        .then(|| kept::parse(&line.detail))
        .flatten()
}

/// Checks the logs this one goes on from, and those they go on from in turn.
fn check_kept(context: &Context, mut named: Vec<Kept>) -> Result<Vec<KeptLog>> {
    let mut checked: Vec<KeptLog> = Vec::new();
    while let Some(kept) = named.pop() {
        if checked.iter().any(|log| log.file == kept.file) {
            continue;
        }
        let path = context.layout.audit_dir().join(&kept.file);
        let changed = |why: &dyn std::fmt::Display| {
            let remedy = "keep a copy of the audit directory and find out who wrote to it; the log itself is in the backup";
            Failure::new(Exit::Verification, path.display(), why, remedy)
        };
        let mut before = Vec::new();
        let read = File::open(&path)
            .and_then(|file| logs::read(&kept.file, file, |line| before.extend(kept_by(line))));
        let log = read.map_err(|why| match why.kind() {
            std::io::ErrorKind::NotFound => changed(&"the log from before a restore is gone"),
            _ => Failure::io(format_args!("{}: read", path.display()), why),
        })?;
        if op_dbus_backup::Digest(log.sum).to_string() != kept.sum {
            return Err(changed(&"the log from before a restore was changed"));
        }
        named.extend(before);
        // A tail that the old device's record missed shows only in a backup.
        let broken = log.broken.or_else(|| {
            let why = || "by the boot record of its device".to_owned();
            (!kept.is_sound).then(why)
        });
        checked.push(KeptLog {
            file: log.file,
            lines: log.head.length,
            broken,
        });
    }
    Ok(checked)
}

fn print(context: &Context, log: &AuditLog, args: &Log) -> Result<Exit> {
    let keep = args.last.unwrap_or(usize::MAX);
    let mut lines: VecDeque<Line> = VecDeque::new();
    let result = log.salvage(|line| {
        let is_enough = args.first.is_some_and(|first| lines.len() >= first);
        if line.n <= args.after || is_enough {
            return;
        }
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
