//! `check deployment`: will this version do here, and if it runs, is it all there?
//!
//! | Module | Looks at |
//! |---|---|
//! | [`content`] | whether it is what was signed, running or not |
//! | [`before`] | what a boot will make of it |
//! | [`brings`] | its units and what else the host takes from it; by the boot's own rules |
//! | [`links`] | the host's links into it |
//! | [`running`] | of one that runs: its mounts, and what of it the host took |
//! | [`services`], [`verdict`] | its units and bus names; whether it is blessed |

mod before;
mod brings;
mod content;
mod links;
mod running;
mod services;
mod verdict;

use op_dbus_activator::activation::Activation;
use op_dbus_activator::config::Config;
use op_dbus_activator::records::Records;
use op_dbus_bootstate::store;
use op_dbus_bootstate::transition::Running;
use op_dbus_bootstate::{Deployment, Record, Version};
use op_dbus_health::settings::Settings as Health;
use op_dbus_health::subject::Subject;
use op_dbus_health::verdict::Kind;
use serde_json::json;

use super::host::Host;
use super::{counted, sections};
use crate::cli::check as cli;
use crate::context::{Context, Report};
use crate::deployments::read_receipt;
use crate::error::{Exit, Failure, Result};
use crate::findings::{self, Findings, Severity};

/// What a check of a version goes by.
#[derive(Debug, Clone)]
struct Case {
    /// The version, as its receipt has it.
    deployment: Deployment,
    /// The configuration.
    config: Config,
    /// The boot record; none if every copy is lost.
    record: Option<Record>,
    /// What this boot activated, if it is this version.
    activation: Option<Activation>,
}

/// Units and names that `[[health.check]]` asks for decide like those that are
/// only listed. Of a mistake there, check target tells.
fn add_checked(context: &Context, config: &mut Config) {
    let Ok(health) = Health::load(context.config_path()) else {
        return;
    };
    for check in health.checks {
        let (list, name) = match (check.kind, check.subject) {
            (Kind::Required, Subject::Unit(name)) => (&mut config.health.units, name),
            (Kind::Required, Subject::BusName { name, .. }) => (&mut config.health.bus_names, name),
            _ => continue,
        };
        if !list.contains(&name) {
            list.push(name);
        }
    }
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &cli::Deployment) -> Result<Exit> {
    Context::require_root()?;
    let mut config = context.config()?;
    add_checked(context, &mut config);
    context.require_store()?;
    let host = Host::new(context);
    let record = store::load(&mut Records::new(&context.layout))
        .verdict()
        .record()
        .cloned();
    let activation = this_boot(context)?;
    let runs = activation.as_ref().and_then(Activation::running);

    let mut parts = Vec::new();
    for version in named(args.version.as_ref(), runs.as_ref(), record.as_ref())? {
        let is_running = runs.as_ref().is_some_and(|runs| runs.version == version);
        let title = title(&version, runs.as_ref(), record.as_ref());
        let mut findings = Findings::default();
        match read_receipt(&context.layout, &version) {
            Ok(Some(receipt)) => {
                let case = Case {
                    deployment: receipt.deployment,
                    config: config.clone(),
                    record: record.clone(),
                    activation: activation.clone().filter(|_| is_running),
                };
                look(&host, &case, args.deep, &mut findings);
            }
            Ok(None) => findings.error(
                Exit::UnknownVersion,
                "receipt",
                "it is not in the store",
                format!("receive it: op-dbus-stage receive {version}.json; what is there, tells: op-dbus-stage status"),
            ),
            Err(why) => findings.error(why.kind, "receipt", format!("{}: {}", why.what, why.why), why.remedy),
        }
        parts.push(Part {
            version,
            title,
            is_running,
            findings,
        });
    }
    report(context, &parts, args.strict)
}

/// What this boot activated. A file of another boot tells nothing of this one.
fn this_boot(context: &Context) -> Result<Option<Activation>> {
    let boot_id = context.boot_id().ok();
    let activation = context.activation()?;
    Ok(activation.filter(|activation| boot_id.is_some() && activation.boot_id == boot_id))
}

/// The versions to look at.
fn named(
    version: Option<&Version>,
    runs: Option<&Running>,
    record: Option<&Record>,
) -> Result<Vec<Version>> {
    if let Some(version) = version {
        return Ok(vec![version.clone()]);
    }
    let mut versions: Vec<Version> = runs.map(|runs| runs.version.clone()).into_iter().collect();
    let trial = record.and_then(|record| record.trial.as_ref());
    if let Some(trial) = trial.map(|trial| &trial.deployment.version) {
        if !versions.contains(trial) {
            versions.push(trial.clone());
        }
    }
    if versions.is_empty() {
        return Err(Failure::new(
            Exit::UnknownVersion,
            "check deployment",
            "no version runs, and none is on trial",
            "name one: op-dbus-stage check deployment VERSION; which there are, tells: op-dbus-stage status",
        ));
    }
    Ok(versions)
}

/// What it is to this device, in a line.
fn title(version: &Version, runs: Option<&Running>, record: Option<&Record>) -> String {
    if let Some(runs) = runs.filter(|runs| runs.version == *version) {
        return format!("{version}, which runs as {}", runs.slot);
    }
    let held = record.and_then(|record| {
        let mut held = record.deployments();
        held.find(|(_, deployment)| deployment.version == *version)
    });
    match held {
        Some((slot, _)) => format!("{version}, which does not run; it is {slot}"),
        None => format!("{version}, which does not run"),
    }
}

fn look(host: &Host, case: &Case, deep: bool, findings: &mut Findings) {
    let part = |subject, findings: &mut Findings, part: fn(&Host, &Case, &mut Findings)| {
        let case = case.clone();
        let part = move |host: &Host, all: &mut Findings| part(host, &case, all);
        sections::run(subject, host, sections::LIMIT, findings, part);
    };
    if deep {
        // As long as it takes: it shows how far it is, and can be interrupted.
        content::check(host, case, true, findings);
    } else {
        part("content", findings, |host, case, findings| {
            content::check(host, case, false, findings);
        });
    }
    if case.activation.is_some() {
        part("running", findings, running::check);
        part("links", findings, links::of_running);
    } else {
        part("stage", findings, before::check);
        part("units", findings, brings::check);
        part("links", findings, links::of_coming);
    }
}

/// One version's findings.
struct Part {
    version: Version,
    title: String,
    is_running: bool,
    findings: Findings,
}

fn report(context: &Context, parts: &[Part], strict: bool) -> Result<Exit> {
    let count = |severity| parts.iter().map(|part| part.findings.count(severity)).sum();
    let (errors, warnings): (usize, usize) = (count(Severity::Error), count(Severity::Warning));
    let result = match (errors, warnings) {
        (0, 0) => "sound",
        (0, _) => "warnings",
        _ => "not-sound",
    };
    let checked: Vec<_> = parts
        .iter()
        .map(|part| {
            json!({
                "version": part.version, "runs": part.is_running,
                "findings": part.findings.list(),
            })
        })
        .collect();
    let mut report = Report::new("check deployment", result)
        .field("counts", json!({ "errors": errors, "warnings": warnings }))
        .field("checked", checked);
    for part in parts {
        report = report.line(format!("{}:", part.title));
        for line in part.findings.table(findings::terminal_width()) {
            report = report.line(line);
        }
        report = report.line("");
    }
    let last = match (errors, warnings) {
        (0, 0) => "All is as it should be.".to_owned(),
        (0, warnings) => format!("{}.", counted(warnings, "warning")),
        (errors, 0) => format!("{}.", counted(errors, "error")),
        (errors, warnings) => format!(
            "{}, {}.",
            counted(errors, "error"),
            counted(warnings, "warning")
        ),
    };
    context.print(&report.line(last))?;
    let exits = parts.iter().map(|part| part.findings.exit(strict));
    // An error of one part outweighs warnings of another.
    let mut failed: Vec<_> = exits.filter(|exit| *exit != Exit::Done).collect();
    if errors > 0 {
        failed = parts
            .iter()
            .map(|part| part.findings.exit(false))
            .filter(|exit| *exit != Exit::Done)
            .collect();
    }
    Ok(failed.first().copied().unwrap_or(Exit::Done))
}
