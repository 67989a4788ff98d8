//! `check target`: is this device, or an image of one, fit to be upgraded
//! without a hand, and to come back by itself when an upgrade fails?

mod kernel;

use super::host::Host;
use super::{counted, sections};
use crate::cli::check as cli;
use crate::context::{Context, Report};
use crate::error::{Exit, Result};
use crate::findings::{self, Findings, Severity};

/// Runs the command.
pub(crate) fn run(context: &Context, args: &cli::Target) -> Result<Exit> {
    Context::require_root()?;
    let host = Host::new(context);
    let findings = all(&host);
    report(context, &findings, args.strict)
}

/// Looks at everything, in the order of what needs what.
fn all(host: &Host) -> Findings {
    let mut findings = Findings::default();
    let all = &mut findings;
    if !host.is_running {
        all.info(
            "scope",
            "an image, not the running system: what the kernel of this machine tells is left out",
        );
    }
    sections::run("kernel", host, sections::LIMIT, all, kernel::check);
    findings
}

fn report(context: &Context, findings: &Findings, strict: bool) -> Result<Exit> {
    let errors = findings.count(Severity::Error);
    let warnings = findings.count(Severity::Warning);
    let (result, last) = match (errors, warnings) {
        (0, 0) => ("fit", "This device is fit.".to_owned()),
        (0, warnings) => (
            "warnings",
            format!("This device is fit; {}.", counted(warnings, "warning")),
        ),
        (errors, 0) => (
            "not-fit",
            format!("This device is not fit: {}.", counted(errors, "error")),
        ),
        (errors, warnings) => (
            "not-fit",
            format!(
                "This device is not fit: {}, {}.",
                counted(errors, "error"),
                counted(warnings, "warning")
            ),
        ),
    };
    let mut report = Report::new("check target", result)
        .field("errors", errors)
        .field("warnings_found", warnings)
        .object("findings", &findings.list());
    for line in findings.table(findings::terminal_width()) {
        report = report.line(line);
    }
    context.print(&report.line("").line(last))?;
    Ok(findings.exit(strict))
}
