//! `overlay reset PATH [VERSION]`: takes a change back.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use op_dbus_activator::lock::Lock;
use op_dbus_bootstate::Version;

use crate::cli::overlay as cli;
use crate::commands::prune;
use crate::context::{Context, Report};
use crate::deployments::Deployments;
use crate::error::{Exit, Failure, Result};
use crate::overlay::disk::{Dirs, Disk};
use crate::overlay::find::{Found, find};
use crate::overlay::name::{JsonPath, shown};
use crate::overlay::reset::{Done, Keep, Mounted, Unmounted};
use crate::overlay::{Shared, relative};
use crate::session::{PATIENCE, lock_failure};

/// `f_type` of an overlay (`OVERLAYFS_SUPER_MAGIC` of `uapi/linux/magic.h`).
const OVERLAYFS: u64 = 0x794c_7630;

/// Runs the command.
pub(super) fn run(context: &Context, args: &cli::Reset) -> Result<Exit> {
    let layout = &context.layout;
    let config = context.config()?;
    let path = relative(&args.path, &config.mounts.overlay).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            args.path.display(),
            "is no path within the version",
            format_args!(
                "name it relative to the version's tree, or below {}",
                config.mounts.overlay.display()
            ),
        )
    })?;
    let named = shown(&path);
    if Shared::new(&config.overlay.shared_paths).reaches(&path) {
        return Err(Failure::new(
            Exit::Refused,
            named,
            "is a shared path, or holds one: what is there is no version's",
            "restore its content by hand",
        ));
    }
    let version = match &args.version {
        Some(version) => version.clone(),
        None => super::usual(context)?,
    };
    // Nobody may stage, receive or prune meanwhile.
    let _lock = Lock::acquire(layout, PATIENCE).map_err(lock_failure)?;
    Deployments::read(layout)?.named(layout, &version)?;
    let fail = |why: io::Error| Failure::io(format_args!("{named}: reset"), why);
    let there = match look(context, &version, &path).map_err(fail)? {
        Found::There(there) => there,
        Found::Nothing => return finish(context, &version, &path, Done::Nothing),
        Found::HiddenBy(above) => {
            let above = shown(&above);
            return Err(Failure::new(
                Exit::Refused,
                named,
                format_args!("{above} was removed or replaced"),
                format_args!("take that back: op-dbus-stage overlay reset {above}"),
            ));
        }
    };
    let keep = if args.discard {
        Keep::Not
    } else {
        Keep::Beside
    };
    let overlay = layout.overlay(&version);
    let done = if prune::is_mounted(&layout.store, &overlay)? {
        let root = mounted(context, &version, &layout.host(&config.mounts.overlay))?;
        Mounted { root }.reset(&path, &there, keep)
    } else if let Some(above) = &there.replaced {
        let above = shown(above);
        return Err(Failure::new(
            Exit::Refused,
            named,
            format_args!("it is in {above}, which was replaced"),
            format_args!("take that back: op-dbus-stage overlay reset {above} {version}"),
        ));
    } else {
        let upper = layout.upper(&version);
        let unmounted = Unmounted {
            overlay: &overlay,
            upper: &upper,
        };
        unmounted.reset(&path, &there, keep)
    };
    // Also what was done before an error is to be as durable as it can be.
    let synced = op_dbus_btrfs::sync_filesystem(&layout.store);
    let done = done.map_err(fail)?;
    synced?;
    let trial = super::record(context).trial;
    if let Some(trial) = trial.filter(|trial| trial.attempts == 0) {
        let staged = &trial.deployment.version;
        context.warn(format!(
            "{staged} is staged already, by what was changed before; stage it again: op-dbus-stage stage {staged}"
        ));
    }
    finish(context, &version, &path, done)
}

fn look(context: &Context, version: &Version, path: &[u8]) -> io::Result<Found<Dirs>> {
    let layout = &context.layout;
    let upper = layout.upper(version);
    match upper.symlink_metadata() {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        found => found.map(|_| ())?,
    }
    let (mut disk, root) = Disk::open(&upper, &layout.deployment(version), None)?;
    find(&mut disk, root, path)
}

/// The root of the mounted overlay, if it is this version's: what runs may be
/// changed only through it.
fn mounted(context: &Context, version: &Version, point: &Path) -> Result<OwnedFd> {
    let refuse = |why: &str, remedy: &str| {
        let what = format!("overlay of {version}");
        Err(Failure::new(Exit::Refused, what, why, remedy))
    };
    let runs = super::running(context);
    if runs.as_ref() != Some(version) {
        return refuse(
            "it is mounted somewhere, and not as the version that runs",
            "unmount it (findmnt -t overlay), and run the command again",
        );
    }
    let fail = |why: io::Error| Failure::io(format_args!("{}: open", point.display()), why);
    let root = op_dbus_btrfs::open_dir(point).map_err(|why| fail(why.source))?;
    let kind = rustix::fs::fstatfs(&root).map_err(|why| fail(why.into()))?;
    if u64::try_from(kind.f_type).ok() != Some(OVERLAYFS) {
        return refuse(
            "it is in use, and not mounted where it belongs",
            "see what is mounted: findmnt -t overlay",
        );
    }
    Ok(root)
}

fn finish(context: &Context, version: &Version, path: &[u8], done: Done) -> Result<Exit> {
    let named = shown(path);
    let (result, kept, line) = match done {
        Done::Refused(why) => {
            return Err(Failure::new(
                Exit::Refused,
                named,
                why,
                format_args!(
                    "take back what is in it one by one (op-dbus-stage overlay diff), or run the command while another version runs"
                ),
            ));
        }
        Done::Nothing => (
            "nothing-to-do",
            None,
            format!("Nothing to do: {named} is {version}'s own."),
        ),
        Done::Reset(None) => ("reset", None, format!("{named} is {version}'s own again.")),
        Done::Reset(Some(kept)) => {
            let line = format!(
                "{named} is {version}'s own again; yours is {}.",
                shown(&kept)
            );
            ("reset", Some(JsonPath(kept)), line)
        }
    };
    let report = Report::new("overlay-reset", result)
        .field("version", version.as_str())
        .object("reset", &JsonPath(path.to_owned()))
        .object("kept", &kept)
        .line(line);
    context.print(&report)?;
    Ok(Exit::Done)
}
