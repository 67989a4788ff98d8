//! `rollback [VERSION]`: back to an earlier version.

use op_dbus_bootstate::transition::{self, RolledBack};

use crate::cli::device as cli;
use crate::context::{Context, Report};
use crate::deployments::Deployments;
use crate::error::{Exit, Result};
use crate::session::Session;

/// Runs the command.
pub(crate) fn run(context: &Context, args: &cli::Rollback) -> Result<Exit> {
    Context::require_root()?;
    let limits = context.config()?.limits();
    let mut session = Session::open(context)?;
    let deployments = Deployments::read(&context.layout)?;
    let record = session.record();
    let target = match (&record.trial, &args.version) {
        // The trial is only taken back, so no target need exist.
        (Some(_), _) => None,
        (None, Some(version)) => Some(deployments.named(&context.layout, version)?),
        (None, None) => record.fallback.clone(),
    };
    if let Some(target) = &target {
        deployments.check(&context.layout, target)?;
    }
    let outcome = session.apply("rollback", |record| {
        transition::rollback(
            record,
            target.as_ref(),
            limits,
            args.overrides.into(),
            |digest| deployments.is_present(&context.layout, digest),
        )
    })?;
    let (result, version, line) = match outcome {
        RolledBack::CancelledTrial(version) => {
            let line = format!(
                "{version} is no longer on trial; the next boot activates the good version."
            );
            ("cancelled-trial", version, line)
        }
        RolledBack::OnTrial(version) => {
            let line = format!(
                "{version} is on trial: the next boot activates it. The good version stays until it is blessed."
            );
            ("on-trial", version, line)
        }
        RolledBack::AlreadyGood(version) => {
            let line = format!("Nothing to do: {version} is the good version already.");
            ("already-good", version, line)
        }
    };
    context.print(
        &Report::new("rollback", result)
            .field("version", version.as_str())
            .line(line),
    )?;
    Ok(Exit::Done)
}
