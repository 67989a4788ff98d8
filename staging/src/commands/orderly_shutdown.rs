//! `orderly-shutdown`: marks that this boot ends in order, and gives an
//! unfinished trial its try back.

use op_dbus_bootstate::Version;
use op_dbus_bootstate::audit::Event;
use op_dbus_bootstate::transition::{self, Change};

use super::running::{self, ThisBoot};
use crate::context::{Context, Report};
use crate::ended::report::{self, Told};
use crate::error::{Exit, Result};
use crate::session::Session;
use crate::verdict::{self, Verdict};

/// Runs the command. The mark comes last, since it says that all is well, but it
/// is made whatever becomes of the rest: a try that can't be given back makes no
/// power cut of a shutdown.
pub(crate) fn run(context: &Context) -> Result<Exit> {
    Context::require_root()?;
    context.require_store()?;
    let boots = report::find(context)?;
    // Usually nothing: boot-report has told.
    let told = boots.weigh(context);
    let refunded = match refund(context, &told) {
        Ok((refunded, true)) => {
            boots.finish(context, told, true);
            refunded
        }
        Ok((refunded, false)) => {
            boots.end(context);
            refunded
        }
        Err(why) => {
            boots.end(context);
            return Err(why);
        }
    };
    let report = match refunded {
        Some(version) => Report::new("orderly-shutdown", "refunded")
            .field("version", version.as_str())
            .line(format!("The trial of {version} got its try back.")),
        None => Report::new("orderly-shutdown", "nothing-to-do").line("No try to give back."),
    };
    context.print(&report)?;
    Ok(Exit::Done)
}

/// Gives the try back, and logs what was told beside it: which version got it,
/// and whether the log holds it.
fn refund(context: &Context, told: &Told) -> Result<(Option<Version>, bool)> {
    let ThisBoot::Runs(running) = running::find(context)? else {
        return Ok((None, told.ended.is_empty()));
    };
    let mut session = Session::open(context)?;
    let before = session.record().audit.length;
    let refunded = session.apply(running.version.as_str(), |record| {
        let Change {
            record,
            mut events,
            outcome,
        } = transition::orderly_shutdown(record, &running);
        // One more try for what is not known is asked for by a reboot.
        if let Verdict::Unknown(what, _) = verdict::read(context, &running) {
            for Event { detail, .. } in &mut events {
                detail.push_str("; not known: ");
                detail.push_str(&what);
            }
        }
        let ended = told.events();
        Ok(Change {
            record,
            events: ended.into_iter().chain(events).collect(),
            outcome: outcome.then(|| running.version.clone()),
        })
    })?;
    let is_logged = told.ended.is_empty() || session.record().audit.length > before;
    Ok((refunded, is_logged))
}
