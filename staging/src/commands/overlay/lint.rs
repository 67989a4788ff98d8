//! `overlay lint [VERSION]`: what of the changes to good clashes with a version.

use op_dbus_activator::overlay::plan::Action;
use op_dbus_bootstate::{Record, Version};
use serde_json::{Value, json};

use super::outlook::{self, Outlook};
use super::table::{self, Table};
use crate::cli::overlay as cli;
use crate::context::{Context, Report};
use crate::deployments::Deployments;
use crate::error::{Exit, Failure, Result};
use crate::overlay::classify::{Clash, Policy, Verdict};
use crate::overlay::lint::Finding;
use crate::overlay::name::shown;
use crate::overlay::policy::Policies;

/// Runs the command.
pub(super) fn run(context: &Context, args: &cli::Lint) -> Result<Exit> {
    let layout = &context.layout;
    let config = context.config()?;
    let record = super::record(context);
    let deployments = Deployments::read(layout)?;
    let version = match &args.version {
        Some(version) => version.clone(),
        None => usual(&record, &deployments)?,
    };
    let deployment = deployments.named(layout, &version)?;
    let policies = match args.winner {
        Some(winner) => Policies::only(winner.into()),
        None => Policies::load(context)?,
    };
    let good = match outlook::source(&record, &config, &deployment) {
        Ok(good) => good,
        Err(needless) => {
            let report = Report::new("overlay-lint", "not-compared")
                .field("version", version.as_str())
                .field("reason", needless.word())
                .line(needless.sentence(&version));
            context.print(&report)?;
            return Ok(Exit::Done);
        }
    };
    deployments.check(layout, good)?;
    let outlook = Outlook::new(layout, &config, good, &version, &policies)
        .map_err(|why| Failure::io("overlay", why))?;
    let refusal = outlook.refusal();
    let count = outlook.findings.count();
    let result = match (&refusal, count) {
        (Some(_), _) => "refused",
        (None, 0) => "no-conflicts",
        (None, _) => "settled",
    };
    let mut report = report(context, Report::new("overlay-lint", result), &outlook);
    if refusal.is_none() && count > 0 {
        report = report.line(format!(
            "All settled: {version} can be staged, and its first boot does this."
        ));
    }
    context.print(&report)?;
    refusal.map_or(Ok(Exit::Done), Err)
}

/// The trial, else the newest version that is not good.
fn usual(record: &Record, deployments: &Deployments) -> Result<Version> {
    if let Some(trial) = &record.trial {
        return Ok(trial.deployment.version.clone());
    }
    let good = record.good.as_ref().map(|good| good.digest);
    let mut known = deployments.receipts().iter();
    let newest = known.find(|receipt| Some(receipt.deployment.digest) != good);
    newest
        .map(|receipt| receipt.deployment.version.clone())
        .ok_or_else(|| {
            Failure::new(
                Exit::UnknownVersion,
                "overlay lint",
                "no version but the good one is in the store",
                "receive one: op-dbus-stage receive FILE",
            )
        })
}

/// Adds the conflicts to a report, for people and as JSON.
pub(crate) fn report(context: &Context, report: Report, outlook: &Outlook) -> Report {
    let found = &outlook.findings;
    let (version, over) = (&outlook.version, &outlook.over);
    let mut report = report
        .field("version", version.as_str())
        .field("over", over.as_str())
        .line(format!(
            "{} between the changes to {over} and {version}.",
            table::count(found.count(), "conflict")
        ));
    let mut rows = Table::new(["CONFLICT", "YOURS", "NEW", "OUTCOME", "BY", "PATH"]);
    let mut list = Vec::new();
    let mut kept = outlook.drafted.kept.iter().peekable();
    for (index, finding) in found.list.iter().enumerate() {
        let unplanned = kept.next_if(|(place, _)| *place == index);
        let unplanned = unplanned.map(|(_, why)| why.as_str());
        rows.row(row(finding, unplanned));
        list.push(json(finding, unplanned));
    }
    for line in rows.lines() {
        report = report.line(line);
    }
    if found.more > 0 {
        report = report.line(format!(
            "  … and {} more, which a plan can't hold: yours stays there.",
            found.more
        ));
    }
    let report = report
        .field("conflicts", list)
        .field("more", found.more)
        .field("refused", found.refused)
        .field("entries", found.entries);
    table::unseen(context, report, &found.unseen)
}

fn word(clash: Clash) -> &'static str {
    match clash {
        Clash::HiddenDirectory => "hidden-directory",
        Clash::DeletedCameBack => "deleted-came-back",
        Clash::TypeChanged => "type-changed",
        Clash::BothChanged => "both-changed",
        Clash::BothAdded => "both-added",
        Clash::OwnerChanged => "owner-changed",
        Clash::StaleCopy => "stale-copy",
    }
}

/// What becomes of it, as a word and for people.
fn outcome(verdict: Verdict, unplanned: Option<&str>) -> (&'static str, String) {
    if let Some(why) = unplanned {
        return ("kept", format!("yours stays: {why}"));
    }
    let (word, text) = match verdict {
        Verdict::Refuse => ("refused", "refused"),
        Verdict::Keep(None) => ("kept", "yours stays"),
        Verdict::Keep(Some(_)) => ("offered", "yours stays, new as .new"),
        Verdict::Take(Action::SetAside) => ("set-aside", "new, yours as .mine"),
        Verdict::Take(Action::Unhide) => ("unhidden", "new shows again"),
        Verdict::Take(Action::TakeOwner | Action::OfferNew) => {
            ("owner-taken", "owner and mode of new")
        }
    };
    (word, text.to_owned())
}

fn by(finding: &Finding) -> &str {
    match &finding.rule {
        _ if finding.clash == Clash::StaleCopy => "-",
        Some(rule) => rule,
        None => "default",
    }
}

fn row(finding: &Finding, unplanned: Option<&str>) -> [String; 6] {
    let [_, mine, new] = &finding.looks;
    // What is different of it.
    let what = match finding.clash {
        Clash::OwnerChanged => table::owner,
        _ => table::size,
    };
    [
        word(finding.clash).to_owned(),
        what(mine),
        what(new),
        outcome(finding.verdict, unplanned).1,
        by(finding).to_owned(),
        shown(&finding.path),
    ]
}

fn json(finding: &Finding, unplanned: Option<&str>) -> Value {
    let [old, mine, new] = &finding.looks;
    let policy: Option<Policy> = (finding.clash != Clash::StaleCopy).then_some(finding.policy);
    let fields = json!({
        "conflict": finding.clash,
        "policy": policy,
        "rule": finding.rule,
        "outcome": outcome(finding.verdict, unplanned).0,
        "why": unplanned,
        "old": table::entry(old),
        "mine": table::entry(mine),
        "new": table::entry(new),
    });
    table::at(&finding.path, fields)
}
