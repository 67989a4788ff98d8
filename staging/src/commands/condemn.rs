//! `condemn`: the running version was judged unhealthy.

use std::process::Command;

use op_dbus_bootstate::record::Next;
use op_dbus_bootstate::transition;

use super::running::{self, ThisBoot};
use crate::cli::device as cli;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};
use crate::session::Session;

/// Runs the command. With nothing active there is nothing to condemn and
/// nothing a reboot would better.
pub(crate) fn run(context: &Context, args: &cli::Condemn) -> Result<Exit> {
    Context::require_root()?;
    let running = match running::find(context)? {
        ThisBoot::Runs(running) => running,
        ThisBoot::Nothing(why) => {
            let report = Report::new("condemn", "nothing-to-do")
                .field("next", "stay-up")
                .field("reason", why)
                .line(format!("Nothing to condemn: {why}."));
            context.print(&report)?;
            return Ok(Exit::Done);
        }
    };
    let mut session = Session::open(context)?;
    let reason = args.reason.as_deref().unwrap_or("judged unhealthy");
    let next = session.apply(running.version.as_str(), |record| {
        transition::condemn(record, &running, reason)
    })?;
    let version = &running.version;
    let is_quarantined = session.record().quarantine.contains(&running.digest);
    // The lock must be free before the reboot stops the units that need it.
    drop(session);
    let (result, word, line) = match next {
        _ if !running.counted => (
            "not-counted",
            "stay-up",
            format!(
                "{version} is unhealthy, but this boot was not counted: nothing is recorded, and the host stays up."
            ),
        ),
        Next::Reboot => (
            "condemned",
            "reboot",
            format!("{version} is condemned; a reboot brings a better choice."),
        ),
        Next::StayUp => (
            "condemned",
            "stay-up",
            format!(
                "{version} is condemned; a reboot would bring nothing better, so the host stays up."
            ),
        ),
    };
    let report = Report::new("condemn", result)
        .field("version", version.as_str())
        .field("quarantined", is_quarantined)
        .field("next", word)
        .line(line);
    context.print(&report)?;
    if args.reboot && next == Next::Reboot {
        reboot()?;
    }
    Ok(Exit::Done)
}

fn reboot() -> Result<()> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Failure,
            "systemctl reboot",
            why,
            "reboot by hand; the verdict is recorded",
        )
    };
    match Command::new("systemctl").arg("reboot").status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(&status)),
        Err(why) => Err(failed(&why)),
    }
}
