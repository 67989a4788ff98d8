//! `check target`: is this device, or an image of one, fit to be upgraded
//! without a hand, and to come back by itself when an upgrade fails?

pub(crate) mod command_line;
mod configuration;
mod initramfs;
pub(crate) mod installed;
pub(crate) mod kernel;
pub(crate) mod keys;
pub(crate) mod places;
mod record;
mod space;
mod store;
mod surroundings;
pub(crate) mod systemd;

use op_dbus_activator::config::Config;
use serde_json::json;

use super::host::Host;
use super::{counted, sections};
use crate::cli::check as cli;
use crate::context::{Context, Report};
use crate::error::{Exit, Result};
use crate::findings::{self, Findings, Severity};

use configuration::Said;

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
            "an image, not the running system: what a running kernel and systemd tell is left out",
        );
    }
    let said = configuration::check(host, all);
    let run = |subject, all: &mut Findings, part: fn(&Host, &mut Findings)| {
        sections::run(subject, host, sections::LIMIT, all, part);
    };
    if let Some(Said {
        config, settings, ..
    }) = &said
    {
        let with = |subject, all: &mut Findings, part: fn(&Host, &Config, &mut Findings)| {
            let config = config.clone();
            let part = move |host: &Host, all: &mut Findings| part(host, &config, all);
            sections::run(subject, host, sections::LIMIT, all, part);
        };
        with("store", all, store::check);
        if store::is_there(host) {
            let settings = settings.clone();
            let part = move |host: &Host, all: &mut Findings| space::check(host, &settings, all);
            sections::run("space", host, sections::LIMIT, all, part);
            run("boot record", all, record::check);
        }
        with("mount points", all, places::check);
        with("installed", all, installed::check);
        if let Some(said) = &said {
            initramfs::check(host, said, all);
        }
        let settings = settings.clone();
        let part = move |host: &Host, all: &mut Findings| keys::check(host, &settings, all);
        sections::run("keys", host, sections::LIMIT, all, part);
        if host.is_running {
            with("activator", all, record::activator);
        }
        with("command line", all, |host, config, all| {
            command_line::check(host, config.activation.way, all);
        });
    } else {
        all.info(
            "scope",
            "without a configuration, store and keys are not looked at",
        );
    }
    run("kernel", all, kernel::check);
    if host.is_running {
        run("surroundings", all, surroundings::check);
        run("systemd", all, systemd::check);
    }
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
        .field("counts", json!({ "errors": errors, "warnings": warnings }))
        .object("findings", &findings.list());
    for line in findings.table(findings::terminal_width()) {
        report = report.line(line);
    }
    context.print(&report.line("").line(last))?;
    Ok(findings.exit(strict))
}
