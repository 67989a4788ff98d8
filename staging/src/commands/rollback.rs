//! `rollback [VERSION]`: back to an earlier version.

use op_dbus_bootstate::transition::{self, RolledBack};

use crate::cli;
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
    // With a trial active it is only taken back, so the target need not exist.
    let wanted = match (
        &session.record().trial,
        &args.version,
        &session.record().fallback,
    ) {
        (Some(_), ..) => None,
        (None, Some(version), _) => Some(version.clone()),
        // The fallback itself, as recorded, must be intact as well.
        (None, None, fallback) => fallback.as_ref().map(|fallback| fallback.version.clone()),
    };
    let target = match &wanted {
        Some(version) => Some(deployments.named(&context.layout, version)?),
        None => None,
    };
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
