//! `stage VERSION`: the next boot tries it.

use op_dbus_bootstate::transition::{self, Overrides, Staged};

use crate::cli::device::{self as cli, Override};
use crate::context::{Context, Report};
use crate::deployments::Deployments;
use crate::error::{Exit, Result};
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
    let limits = context.config()?.limits();
    let mut session = Session::open(context)?;
    let deployments = Deployments::read(&context.layout)?;
    let deployment = deployments.named(&context.layout, &args.version)?;
    let version = &deployment.version;
    let staged = session.apply(version.as_str(), |record| {
        transition::stage(
            record,
            &deployment,
            limits,
            args.overrides.into(),
            |digest| deployments.is_present(&context.layout, digest),
        )
    })?;
    let report = match staged {
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
    let report = report
        .field("version", version.as_str())
        .object("digest", &deployment.digest);
    context.print(&report)?;
    Ok(Exit::Done)
}
