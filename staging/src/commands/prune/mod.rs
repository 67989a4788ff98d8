//! `prune`: deletes versions that nothing needs any more, and what killed runs left.
//!
//! What may go is decided by [`op_dbus_bootstate::retention`]; this is what it
//! decides on, gathered under the store's lock and that of `incoming/`: nobody
//! stages, boots a version into a slot, or receives on top of one meanwhile.

mod mounts;
mod namespaces;
mod remove;
mod report;
mod sizes;
mod survey;

use std::num::NonZeroUsize;

use op_dbus_bootstate::retention::{self, Decision, Needs, Running};

use crate::cli::prune::Prune;
use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::pins;
use crate::session::Session;

use super::receive::{Incoming, settle};
use mounts::Uses;
use remove::{Done, Plan};
use sizes::Scale;
use survey::Survey;

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Prune) -> Result<Exit> {
    Context::require_root()?;
    context.require_store()?;
    // In this order, as receive takes them.
    let incoming = Incoming::lock(context)?;
    let mut session = Session::open(context)?;
    let survey = Survey::read(&context.layout)?;
    for path in &survey.foreign {
        context.warn(format!(
            "{} is nothing of ours; it is left alone",
            path.display()
        ));
    }
    let uses = namespaces::scan(&context.layout.store)?;
    let decisions = decide(context, args, &session, &survey, &uses)?;
    let plan = Plan {
        versions: retention::removals(&decisions),
        leftovers: remove::unused(&survey, &uses)?,
        survey: &survey,
    };
    let unfinished = incoming.leftovers()?;
    let mut done = Done::default();
    if !args.dry_run {
        // A copy of the record that is lost or old may be all that is left of it
        // one day, and it may name what goes now.
        session.repair()?;
        incoming.clear()?;
        done = plan.run(context, &mut session)?;
        settle(context)?;
    }
    // What is left to do needs no lock.
    drop(session);
    drop(incoming);
    let report = report::Report {
        dry_run: args.dry_run,
        decisions: &decisions,
        plan: &plan,
        unfinished: &unfinished,
        done: &done,
        sizes: args.dry_run.then(Scale::new),
    };
    report.print(context)?;
    done.failure.map_or(Ok(Exit::Done), Err)
}

/// Gathers what needs what, and decides.
fn decide(
    context: &Context,
    args: &Prune,
    session: &Session<'_>,
    survey: &Survey,
    uses: &Uses,
) -> Result<Vec<Decision>> {
    let record = session.certain_record().ok_or_else(|| in_doubt(context))?;
    let activation = context.activation()?;
    let running = activation.map(|activation| Running {
        version: activation.version,
        digest: activation.digest,
    });
    let (pinned, foreign) = pins::read(&context.layout).map_err(|why| {
        Failure::io(
            format_args!("{}: read", context.layout.pins_dir().display()),
            why,
        )
    })?;
    for name in foreign {
        context.warn(format!("pins/{name} is no version's name; it pins nothing"));
    }
    let needs = Needs {
        record: Some(record),
        blessed: session.blessed_record(),
        running: running.as_ref(),
        mounted: &survey.mounted(uses)?,
        pinned: &pinned,
        keep: NonZeroUsize::new(usize::from(args.keep)).unwrap_or(NonZeroUsize::MIN),
    };
    Ok(retention::decide(&survey.candidates(), &needs))
}

fn in_doubt(context: &Context) -> Failure {
    Failure::new(
        Exit::Record,
        context.layout.boot_dir().display(),
        "the boot record was lost or can't be read, so nobody knows what the next boot needs, and nothing was deleted",
        "a boot or op-dbus-stage cancel rebuilds it from what is left: look at what status says then, and run this again",
    )
}

/// Whether any mount in any namespace uses a subvolume of the store: the kernel
/// does not tell, and lets it be changed underneath.
pub(crate) fn is_mounted(store: &std::path::Path, subvolume: &std::path::Path) -> Result<bool> {
    survey::is_in_use(subvolume, &namespaces::scan(store)?)
}
