//! `stage VERSION`: the next boot tries it.

use op_dbus_activator::config::Config;
use op_dbus_bootstate::Deployment;
use op_dbus_bootstate::transition::{self, Overrides, Staged};
use serde_json::{Value, json};

use super::overlay::outlook::{self, Outlook};
use super::overlay::{lint, table};
use crate::cli::device::{self as cli, Override};
use crate::context::{Context, Report};
use crate::deployments::Deployments;
use crate::error::{Exit, Failure, Result};
use crate::overlay::plan;
use crate::overlay::policy::Policies;
use crate::session::Session;

impl From<Override> for Overrides {
    fn from(given: Override) -> Self {
        Self {
            quarantined: given.allow_quarantined,
            old_epoch: given.allow_old_epoch,
        }
    }
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &cli::Stage) -> Result<Exit> {
    Context::require_root()?;
    let config = context.config()?;
    let limits = config.limits();
    let policies = match args.winner {
        Some(winner) => Policies::only(winner.into()),
        None => Policies::load(context)?,
    };
    let mut session = Session::open(context)?;
    let deployments = Deployments::read(&context.layout)?;
    let deployment = deployments.named(&context.layout, &args.version)?;
    let version = &deployment.version;
    let stage = |record: &_| {
        let overrides = args.overrides.into();
        transition::stage(record, &deployment, limits, overrides, |digest| {
            deployments.is_present(&context.layout, digest)
        })
    };
    // The changes are looked at once nothing else is in the way.
    let expected = stage(session.record());
    let is_trial = matches!(&expected, Ok(change) if change.outcome != Staged::AlreadyGood);
    let overlay = if is_trial {
        overlay(context, &config, &session, &deployment, &policies)?
    } else {
        Overlay::default()
    };
    let staged = session.apply(version.as_str(), stage)?;
    let mut report = match staged {
        Staged::OnTrial { replaced } => {
            let report = Report::new("stage", "on-trial")
                .line(format!(
                    "{version} is on trial: the next boot activates it ({} tries).",
                    limits.tries
                ))
                .field("tries", limits.tries);
            match replaced {
                Some(old) => report
                    .line(format!("{old}, staged before, gave way to it."))
                    .field("replaced", old.as_str()),
                None => report,
            }
        }
        Staged::AlreadyGood => Report::new("stage", "already-good").line(format!(
            "Nothing to do: {version} is the good version already."
        )),
        Staged::AlreadyStaged => Report::new("stage", "already-staged").line(format!(
            "Nothing to do: {version} is staged already; reboot to try it."
        )),
    };
    if let Some(line) = overlay.line {
        report = report.line(line);
    }
    let report = report
        .field("version", version.as_str())
        .field("overlay", overlay.json)
        .object("digest", &deployment.digest);
    context.print(&report)?;
    Ok(Exit::Done)
}

/// What is to be told of the changes to the good version.
#[derive(Default)]
struct Overlay {
    line: Option<String>,
    json: Value,
}

/// Looks at the changes to the good version, and leaves the plan for them: what
/// is not planned stays the user's.
fn overlay(
    context: &Context,
    config: &Config,
    session: &Session<'_>,
    deployment: &Deployment,
    policies: &Policies,
) -> Result<Overlay> {
    let layout = &context.layout;
    let version = &deployment.version;
    // A plan of an earlier staging must not outlive what it was made of.
    let without_plan = || {
        plan::remove(layout, version).map_err(|why| {
            let path = layout.plan(version);
            Failure::io(format_args!("{}: remove", path.display()), why)
        })
    };
    let good = match outlook::source(session.record(), config, deployment) {
        Ok(good) => good,
        Err(needless) => {
            without_plan()?;
            let json = json!({"compared": false, "reason": needless.word()});
            return Ok(Overlay { line: None, json });
        }
    };
    let mut outlook = match Outlook::new(layout, config, good, version, policies) {
        Ok(outlook) => outlook,
        Err(why) if policies.may_refuse() => {
            return Err(Failure::new(
                Exit::Refused,
                version,
                format_args!("[lint] may refuse changes, and they could not be looked at: {why}"),
                format_args!("say who wins: stage {version} --overlay keep-mine"),
            ));
        }
        Err(why) => {
            context.warn(format!(
                "the changes to {} could not be looked at, and stay as they are: {why}",
                good.version
            ));
            without_plan()?;
            let json = json!({"compared": false, "reason": "unreadable"});
            return Ok(Overlay { line: None, json });
        }
    };
    if let Some(refusal) = outlook.refusal() {
        let report = lint::report(context, Report::new("stage", "refused"), &outlook);
        context.print(&report)?;
        return Err(refusal);
    }
    table::warn_unseen(context, &outlook.findings.unseen);
    for path in outlook.hiding() {
        context.warn(format!(
            "{path}: a copy of what {} has, too large for a plan, hides what {version} has; once that runs: op-dbus-stage overlay reset {path}",
            outlook.over
        ));
    }
    let count = outlook.findings.count();
    let unplanned = outlook.unplanned();
    let planned = outlook.drafted.entries.len();
    if let Err(why) = outlook.write(layout, deployment.digest) {
        context.warn(format!(
            "{}: the plan could not be written, so every change stays as it is: {why}",
            layout.plan(version).display()
        ));
        without_plan()?;
    }
    let line = (count > 0).then(|| {
        let clash = if count == 1 { "clashes" } else { "clash" };
        let rest = if unplanned > 0 {
            format!("; in {unplanned} of them yours stays, as no plan can be made")
        } else {
            String::new()
        };
        format!(
            "{} to {} {clash} with it{rest}. What becomes of them: op-dbus-stage overlay lint {version}",
            table::count(count, "change"),
            outlook.over
        )
    });
    let json = json!({
        "compared": true,
        "over": outlook.over,
        "conflicts": count,
        "planned": planned,
        "unplanned": unplanned,
    });
    Ok(Overlay { line, json })
}
