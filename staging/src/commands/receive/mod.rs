//! `receive FILE`: from a stream to a published version.
//!
//! 1. The whole stream is vetted. Nothing has been written yet.
//! 2. `btrfs receive` gets it, command by command, vetted once more, and may
//!    write below its own directory in `incoming/` only.
//! 3. syncfs; then what came out is checked and its content digest taken from
//!    what the disk holds.
//! 4. Under the store's lock: a read-only snapshot in `deploy/`, synced; its
//!    identity; the receipt, which is what makes it a version; the audit log.
//!
//! The transfer itself holds only the lock of `incoming/`: a verdict on the
//! running version need not wait for a download. Whatever ends a run before the
//! receipt leaves nothing but a log line; the next run clears what a kill left.

mod child;
mod incoming;
mod publish;
mod source;

use std::path::Path;

use op_dbus_bootstate::audit::{Event, Kind};
use op_dbus_bootstate::receipt::Receipt;
use op_dbus_bootstate::{Deployment, Version};
use op_dbus_sendstream::{Policy, Summary};

use crate::cli::device as cli;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};
use crate::session::Session;

use incoming::Incoming;
use source::{Source, Vetted};

/// Runs the command.
pub(crate) fn run(context: &Context, args: &cli::Receive) -> Result<Exit> {
    Context::require_root()?;
    context.require_store()?;
    match receive(context, args) {
        Ok(exit) => Ok(exit),
        Err(failure) => {
            log_refusal(context, &args.file, &failure);
            Err(failure)
        }
    }
}

fn receive(context: &Context, args: &cli::Receive) -> Result<Exit> {
    let mut source = Source::open(&args.file)?;
    let incoming = Incoming::lock(context)?;
    // What would stop the end of a long transfer stops it before its beginning.
    drop(Session::open(context)?);
    incoming.clear()?;
    publish::settle(context)?;
    let policy = Policy::default();
    let vetted = source.vet(&policy)?;
    let version = version_of(args, &vetted.summary)?;
    if let Some(deployment) = publish::already_there(context, &version, &vetted.summary)? {
        let report = report("already-there", &deployment).line(format!(
            "Nothing to do: {version} is in the store already and intact."
        ));
        context.print(&report)?;
        return Ok(Exit::Done);
    }
    let available = incoming.available();
    let transferred = transfer(
        context,
        args,
        &mut source,
        &vetted,
        &policy,
        &incoming,
        &version,
    );
    if matches!(&transferred, Err(failure) if failure.kind == Exit::NoSpace) {
        incoming.reclaim(available);
    }
    let receipt = transferred?;
    let report = report("received", &receipt.deployment)
        .field("bytes", receipt.bytes)
        .line(format!(
            "{version} is in the store ({} bytes, digest {}).",
            receipt.bytes,
            receipt.deployment.digest.short()
        ))
        .line(format!("Next: op-dbus-stage stage {version}"));
    context.print(&report)?;
    Ok(Exit::Done)
}

/// From a vetted stream to a published version. The area, and what it holds, is
/// gone when this returns.
fn transfer(
    context: &Context,
    args: &cli::Receive,
    source: &mut Source,
    vetted: &Vetted,
    policy: &Policy,
    incoming: &Incoming,
    version: &Version,
) -> Result<Receipt> {
    let area = incoming.area(version)?;
    child::receive(&args.btrfs, source, vetted, policy, area.path())?;
    let received = area.check(&vetted.summary)?;
    publish::publish(context, version, &received)
}

fn report(result: &str, deployment: &Deployment) -> Report {
    Report::new("receive", result)
        .field("version", deployment.version.as_str())
        .field("epoch", deployment.epoch)
        .object("digest", &deployment.digest)
}

fn version_of(args: &cli::Receive, summary: &Summary) -> Result<Version> {
    if let Some(version) = &args.version {
        return Ok(version.clone());
    }
    summary.name.parse().map_err(|why| {
        Failure::new(
            Exit::Verification,
            format_args!(
                "{}: name of the subvolume that was sent",
                args.file.display()
            ),
            why,
            "name the version: --version VERSION",
        )
    })
}

/// A failure leaves one line in the log. Where even that is not possible, the
/// failure itself is what is reported.
fn log_refusal(context: &Context, file: &Path, failure: &Failure) {
    if matches!(failure.kind, Exit::Locked | Exit::Record) {
        return;
    }
    let event = Event::general(
        Kind::Refused,
        format!("receive {}: {failure}", file.display()),
    );
    let noted = Session::open(context).and_then(|mut session| session.note(vec![event]));
    if let Err(why) = noted {
        context.warn(format!("the failure could not be logged: {why}"));
    }
}
