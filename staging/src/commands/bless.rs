//! `bless`: the running version proved itself.

use op_dbus_bootstate::transition::{self, Blessed};

use super::running::{self, ThisBoot};
use crate::context::{Context, Report};
use crate::error::{Exit, Result};
use crate::session::Session;

/// Runs the command. With nothing active there is nothing to bless, which is no
/// failure: the unit also runs in a boot that ended in rescue.
pub(crate) fn run(context: &Context) -> Result<Exit> {
    Context::require_root()?;
    let running = match running::find(context)? {
        ThisBoot::Runs(running) => running,
        ThisBoot::Nothing(why) => {
            let report = Report::new("bless", "nothing-to-do")
                .field("reason", why)
                .line(format!("Nothing to bless: {why}."));
            context.print(&report)?;
            return Ok(Exit::Done);
        }
    };
    let mut session = Session::open(context)?;
    let blessed = session.apply(running.version.as_str(), |record| {
        transition::bless(record, &running)
    })?;
    session.keep_blessed();
    let version = &running.version;
    let (result, line) = match blessed {
        Blessed::Trial => ("trial", format!("{version} is good now.")),
        Blessed::Good => ("good", format!("{version} proved itself again.")),
        Blessed::Fallback => ("fallback", format!("{version} is good again.")),
        Blessed::Already => (
            "already",
            format!("Nothing to do: {version} is blessed already."),
        ),
    };
    let mut report = Report::new("bless", result)
        .field("version", version.as_str())
        .line(line);
    if let Some(fallback) = &session.record().fallback {
        report = report
            .field("fallback", fallback.version.as_str())
            .line(format!("The fallback is {}.", fallback.version));
    }
    context.print(&report)?;
    Ok(Exit::Done)
}
