//! `pin VERSION` and `unpin VERSION`: prune leaves pinned versions alone.

use op_dbus_bootstate::Version;
use op_dbus_bootstate::audit::{Event, Kind};

use crate::context::{Context, Report};
use crate::deployments;
use crate::error::{Exit, Failure, Result};
use crate::pins;
use crate::session::Session;

/// Pins a version that is in the store.
pub(crate) fn pin(context: &Context, version: &Version) -> Result<Exit> {
    // The lock: a prune that has decided would not see the pin.
    let mut session = Session::open(context)?;
    let path = context.layout.deployment(version);
    // Not only what is whole: an altered version may be worth a look.
    if !op_dbus_btrfs::is_subvolume(&path)? {
        return Err(Failure::new(
            Exit::UnknownVersion,
            version,
            "is not in the store",
            "see: op-dbus-stage status",
        ));
    }
    let is_new = pins::add(&context.layout, version).map_err(|why| failure(context, why))?;
    if is_new {
        note(&mut session, context, Kind::Pinned, version)?;
    }
    let (result, line) = if is_new {
        (
            "pinned",
            format!("{version} is pinned: prune leaves it alone."),
        )
    } else {
        (
            "already",
            format!("Nothing to do: {version} is pinned already."),
        )
    };
    print(context, "pin", result, version, &line)
}

/// Takes a pin back, also of a version that is gone.
pub(crate) fn unpin(context: &Context, version: &Version) -> Result<Exit> {
    let mut session = Session::open(context)?;
    let was_there = pins::remove(&context.layout, version).map_err(|why| failure(context, why))?;
    if was_there {
        note(&mut session, context, Kind::Unpinned, version)?;
    }
    let (result, line) = if was_there {
        ("unpinned", format!("{version} is no longer pinned."))
    } else {
        (
            "nothing-to-do",
            format!("Nothing to do: {version} is not pinned."),
        )
    };
    print(context, "unpin", result, version, &line)
}

fn note(session: &mut Session<'_>, context: &Context, kind: Kind, version: &Version) -> Result<()> {
    let receipt = deployments::read_receipt(&context.layout, version).unwrap_or_default();
    let mut event = Event::general(kind, "");
    event.version = Some(version.clone());
    event.digest = receipt.map(|receipt| receipt.deployment.digest);
    session.note(vec![event])
}

fn failure(context: &Context, why: std::io::Error) -> Failure {
    Failure::io(
        format_args!("{}: change", context.layout.pins_dir().display()),
        why,
    )
}

fn print(
    context: &Context,
    command: &str,
    result: &str,
    version: &Version,
    line: &str,
) -> Result<Exit> {
    let report = Report::new(command, result)
        .field("version", version.as_str())
        .line(line);
    context.print(&report)?;
    Ok(Exit::Done)
}
