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

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use op_dbus_bootstate::retention::{self, Needs, Running};
use op_dbus_bootstate::{Record, Version};

use crate::cli::prune::Prune;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};
use crate::pins;
use crate::reserve::{self, State};
use crate::session::Session;
use crate::settings::prune::Prune as Settings;

use super::receive::{Incoming, settle};
use remove::{Done, Plan};
use sizes::Scale;
use survey::Survey;

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Prune) -> Result<Exit> {
    Context::require_root()?;
    context.require_store()?;
    let settings = Settings::load(context)?;
    if !args.after_bless {
        return prune(context, args, &settings).map(|()| Exit::Done);
    }
    let skipped = if settings.after_bless {
        match prune(context, args, &settings) {
            // A receive may hold its lock for hours. The next bless prunes as well.
            Err(busy) if busy.kind == Exit::Locked => format!("{}: {}", busy.what, busy.why),
            other => return other.map(|()| Exit::Done),
        }
    } else {
        "after_bless is off in [prune]".to_owned()
    };
    skip(context, &skipped)?;
    Ok(Exit::Done)
}

/// Says why nothing is done after a bless.
fn skip(context: &Context, why: &str) -> Result<()> {
    let report = Report::new("prune", "skipped")
        .field("reason", why)
        .line(format!("Nothing was pruned: {why}."));
    context.print(&report)
}

fn prune(context: &Context, args: &Prune, settings: &Settings) -> Result<()> {
    // In this order, as receive takes them.
    let incoming = Incoming::lock(context)?;
    let mut session = Session::open(context)?;
    let record = session.certain_record().ok_or_else(|| in_doubt(context))?;
    let activation = context.activation()?;
    let running = activation.map(|activation| Running {
        version: activation.version,
        digest: activation.digest,
    });
    if args.after_bless && !is_blessed(record, running.as_ref()) {
        return skip(context, "what runs is not the good version");
    }
    let mut survey = Survey::read(&context.layout)?;
    survey.add_served(record, !args.after_bless);
    for path in &survey.foreign {
        context.warn(format!(
            "{} is nothing of ours; it is left alone",
            path.display()
        ));
    }
    let uses = namespaces::scan(&context.layout.store)?;
    let pinned = pinned(context)?;
    let keep = args.keep.unwrap_or(settings.keep);
    let needs = Needs {
        record: Some(record),
        blessed: session.blessed_record(),
        running: running.as_ref(),
        mounted: &survey.mounted(&uses)?,
        pinned: &pinned,
        parents: &settings.parents,
        keep: NonZeroUsize::new(usize::from(keep)).unwrap_or(NonZeroUsize::MIN),
    };
    let decisions = retention::decide(&survey.candidates(), &needs);
    let plan = Plan {
        versions: retention::removals(&decisions),
        leftovers: remove::unused(&survey, &uses)?,
        survey: &survey,
    };
    let unfinished = incoming.leftovers()?;
    let mut done = Done::default();
    let mut reserve = None;
    if !args.dry_run {
        // A copy of the record that is lost or old may be all that is left of it
        // one day, and it may name what goes now.
        session.repair()?;
        incoming.clear()?;
        done = plan.run(context, &mut session)?;
        settle(context)?;
        reserve = make_reserve(context, settings);
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
        reserve: reserve.as_ref(),
        sizes: args.dry_run.then(Scale::new),
    };
    report.print(context)?;
    done.failure.map_or(Ok(()), Err)
}

/// Makes again what was spent of the reserve, where there is room. That it can't is
/// no failure of what was to be deleted.
fn make_reserve(context: &Context, settings: &Settings) -> Option<State> {
    let made = reserve::settle_in(context, settings);
    let warning = match &made {
        Ok(state) => state.warning(),
        Err(why) => Some(why.to_string()),
    };
    if let Some(warning) = warning {
        context.warn(warning);
    }
    made.ok()
}

/// Whether what runs is the good version: a boot that ended in rescue, or runs what
/// the command line chose, is followed by no bless, and nothing is tidied up then.
fn is_blessed(record: &Record, running: Option<&Running>) -> bool {
    let digest = running.and_then(|running| running.digest);
    digest.is_some() && digest == record.good.as_ref().map(|good| good.digest)
}

fn pinned(context: &Context) -> Result<BTreeSet<Version>> {
    let (pinned, foreign) = pins::read(&context.layout).map_err(|why| {
        Failure::io(
            format_args!("{}: read", context.layout.pins_dir().display()),
            why,
        )
    })?;
    for name in foreign {
        context.warn(format!("pins/{name} is no version's name; it pins nothing"));
    }
    Ok(pinned)
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
