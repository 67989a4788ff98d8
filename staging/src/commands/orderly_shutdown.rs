//! `orderly-shutdown`: gives an unfinished trial its try back.

use op_dbus_bootstate::transition::{self, Change};

use super::running::{self, ThisBoot};
use crate::context::{Context, Report};
use crate::error::{Exit, Result};
use crate::session::Session;
use crate::verdict::{self, Verdict};

/// Runs the command.
pub(crate) fn run(context: &Context) -> Result<Exit> {
    Context::require_root()?;
    let refunded = match running::find(context)? {
        ThisBoot::Runs(running) => {
            let mut session = Session::open(context)?;
            session.apply(running.version.as_str(), |record| {
                let Change {
                    record,
                    mut events,
                    outcome,
                } = transition::orderly_shutdown(record, &running);
                // One more try for what is not known is asked for by a reboot.
                if let Verdict::Unknown(what) = verdict::read(context, &running) {
                    for event in &mut events {
                        event.detail.push_str("; not known: ");
                        event.detail.push_str(&what);
                    }
                }
                Ok(Change {
                    record,
                    events,
                    outcome: outcome.then(|| running.version.clone()),
                })
            })?
        }
        ThisBoot::Nothing(_) => None,
    };
    let report = match refunded {
        Some(version) => Report::new("orderly-shutdown", "refunded")
            .field("version", version.as_str())
            .line(format!("The trial of {version} got its try back.")),
        None => Report::new("orderly-shutdown", "nothing-to-do")
            .line("Nothing to do: no try to give back."),
    };
    context.print(&report)?;
    Ok(Exit::Done)
}
