//! From a checked subvolume in `incoming/` to a version in `deploy/`.

use op_dbus_activator::files::{self, Durable};
use op_dbus_activator::identity::{self, Check};
use op_dbus_bootstate::audit::{Event, Kind};
use op_dbus_bootstate::receipt::{self, Receipt};
use op_dbus_bootstate::{Deployment, Digest, Record, Version};
use op_dbus_sendstream::Summary;

use super::incoming::Received;
use crate::auditlog::{self, AuditLog};
use crate::context::Context;
use crate::deployments;
use crate::error::{Exit, Failure, Result};
use crate::session::Session;

/// Removes a subvolume in `deploy/` that never became a version: a run ended
/// between its snapshot and its receipt. Without a receipt nothing can name it.
pub(crate) fn clear_unacknowledged(context: &Context, version: &Version) -> Result<()> {
    let path = context.layout.deployment(version);
    if context.layout.receipt(version).symlink_metadata().is_ok()
        || !op_dbus_btrfs::is_subvolume(&path)?
    {
        return Ok(());
    }
    let session = Session::open(context)?;
    // The lock was not held above: a receipt may be there by now.
    let is_named = session
        .record()
        .deployments()
        .any(|(_, known)| known.version == *version);
    if is_named || context.layout.receipt(version).symlink_metadata().is_ok() {
        return Ok(());
    }
    op_dbus_btrfs::delete_subvolume(&path)?;
    Ok(())
}

/// The version, if it is in the store already, intact, and the same one. One
/// that was altered or lost may be received anew, unless it is running.
pub(crate) fn already_there(
    context: &Context,
    version: &Version,
    summary: &Summary,
) -> Result<Option<Deployment>> {
    let path = context.layout.deployment(version);
    let receipt = match deployments::read_receipt(&context.layout, version) {
        Ok(Some(receipt)) => receipt,
        Ok(None) if path.symlink_metadata().is_ok() => return Err(foreign(context, version)),
        Ok(None) => return Ok(None),
        Err(damaged) if damaged.kind == Exit::Verification => {
            refuse_running(context, version, &damaged.why)?;
            return Ok(None);
        }
        Err(failure) => return Err(failure),
    };
    let deployment = receipt.deployment;
    match identity::check(&path, &deployment.identity) {
        Check::Intact if deployment.identity.received_uuid.0 == summary.uuid => {
            log_if_missing(context, &deployment)?;
            Ok(Some(deployment))
        }
        Check::Intact => Err(Failure::new(
            Exit::Refused,
            version,
            "another release of this name is in the store already",
            "a version is never replaced; give the release a new version",
        )),
        Check::Missing(_) => Ok(None),
        Check::Altered(why) => {
            refuse_running(context, version, &why)?;
            Ok(None)
        }
        Check::Unreadable(why) => Err(Failure::new(
            Exit::Failure,
            version,
            why,
            "check the medium (journalctl -k)",
        )),
    }
}

/// What runs is not taken away, whatever is wrong with it.
fn refuse_running(context: &Context, version: &Version, why: &str) -> Result<()> {
    let running = context
        .activation()?
        .and_then(|activation| activation.version);
    if running.as_ref() != Some(version) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Refused,
        version,
        format_args!("{why}, and it is running"),
        "boot another version first",
    ))
}

fn foreign(context: &Context, version: &Version) -> Failure {
    Failure::new(
        Exit::Refused,
        context.layout.deployment(version).display(),
        "something else is in the place of this version",
        "look at it, and remove it if nobody needs it",
    )
}

/// Publishes. Returns the receipt, durable by then.
pub(crate) fn publish(
    context: &Context,
    version: &Version,
    received: &Received,
) -> Result<Receipt> {
    let mut session = Session::open(context)?;
    let path = context.layout.deployment(version);
    if op_dbus_btrfs::is_subvolume(&path)? {
        // Altered, as `already_there` found, or just published by nobody: only
        // one run receives at a time.
        op_dbus_btrfs::delete_subvolume(&path)?;
    }
    op_dbus_btrfs::snapshot(&received.path, &path, true)?;
    let result = acknowledge(context, version, received);
    let receipt = match result {
        Ok(receipt) => receipt,
        Err(failure) => {
            // Should this fail too, the next run finds it without a receipt.
            let _ = op_dbus_btrfs::delete_subvolume(&path);
            return Err(failure);
        }
    };
    let detail = format!(
        "{} bytes, epoch {}",
        receipt.bytes, receipt.deployment.epoch
    );
    let event = Event::about(Kind::Received, &receipt.deployment, detail);
    log(context, &mut session, &receipt.deployment, event)?;
    Ok(receipt)
}

fn acknowledge(context: &Context, version: &Version, received: &Received) -> Result<Receipt> {
    let path = context.layout.deployment(version);
    op_dbus_btrfs::sync_filesystem(&path)?;
    let info = op_dbus_btrfs::info_of(&path)?;
    let identity = identity::of(&info);
    if !info.is_read_only() || identity.received_uuid.is_nil() {
        return Err(Failure::new(
            Exit::Verification,
            path.display(),
            "the published snapshot lost its identity",
            "run the command again, and report this with the kernel's version",
        ));
    }
    let receipt = Receipt {
        schema: receipt::SCHEMA,
        deployment: Deployment {
            version: version.clone(),
            digest: received.tree.digest,
            identity,
            epoch: received.epoch,
        },
        bytes: received.tree.bytes,
        received_at: auditlog::now(),
    };
    let file = context.layout.receipt(version);
    let fail = |why| Failure::io(format_args!("{}: write", file.display()), why);
    let mut text = serde_json::to_vec_pretty(&receipt).map_err(|why| fail(why.into()))?;
    text.push(b'\n');
    files::replace(&file, &text, 0o600, Durable::Yes).map_err(fail)?;
    Ok(receipt)
}

/// Logs it. A version of the record that was altered or lost, and now is back
/// whole, is recognised by its digest and gets its new identity.
fn log(
    context: &Context,
    session: &mut Session<'_>,
    deployment: &Deployment,
    event: Event,
) -> Result<()> {
    let Some(record) = with_identity(session.record(), deployment) else {
        return session.note(vec![event]);
    };
    let version = &deployment.version;
    let repaired = Event::about(
        Kind::Repaired,
        deployment,
        "received again; the boot record has its new identity",
    );
    session.amend(record, vec![event, repaired])?;
    context.warn(format!(
        "{version} is in the boot record; it is whole again"
    ));
    Ok(())
}

fn with_identity(record: &Record, deployment: &Deployment) -> Option<Record> {
    let mut next = record.clone();
    let slots = [
        next.good.as_mut(),
        next.fallback.as_mut(),
        next.trial.as_mut().map(|trial| &mut trial.deployment),
    ];
    for known in slots.into_iter().flatten() {
        if known.digest == deployment.digest && known.version == deployment.version {
            known.identity = deployment.identity;
        }
    }
    (next != *record).then_some(next)
}

/// A power cut between receipt and log leaves a version the log does not tell of.
fn log_if_missing(context: &Context, deployment: &Deployment) -> Result<()> {
    if is_logged(context, &deployment.digest)? {
        return Ok(());
    }
    let mut session = Session::open(context)?;
    let event = Event::about(
        Kind::Received,
        deployment,
        "was in the store, but not in this log",
    );
    log(context, &mut session, deployment, event)
}

fn is_logged(context: &Context, digest: &Digest) -> Result<bool> {
    let log = AuditLog::new(&context.layout.store);
    let mut found = false;
    log.salvage(|line| found |= line.event == Kind::Received && line.digest == Some(*digest))
        .map_err(|why| Failure::io(format_args!("{}: read", log.path().display()), why))?;
    Ok(found)
}
