//! `cancel`: takes the trial back.

use op_dbus_bootstate::transition::{self, Change};

use crate::context::{Context, Report};
use crate::error::{Exit, Result};
use crate::session::Session;

/// Runs the command.
pub(crate) fn run(context: &Context) -> Result<Exit> {
    let mut session = Session::open(context)?;
    let cancelled = session.apply("cancel", |record| {
        let Change {
            record,
            events,
            outcome,
        } = transition::cancel(record);
        Ok(Change {
            record,
            events,
            outcome,
        })
    })?;
    let report = match cancelled {
        Some(version) => Report::new("cancel", "cancelled")
            .field("version", version.as_str())
            .line(format!(
                "{version} is no longer on trial; the next boot activates the good version."
            )),
        None => {
            Report::new("cancel", "nothing-to-do").line("Nothing to do: no version is on trial.")
        }
    };
    context.print(&report)?;
    Ok(Exit::Done)
}
