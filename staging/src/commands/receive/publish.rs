//! From a checked subvolume in `incoming/` to a version in `deploy/`.
//!
//! A read-only subvolume can't move to another directory, so a read-only
//! snapshot is taken in `deploy/`, under a hidden name: it keeps `received_uuid`
//! and `ctransid`. Then manifest and signature, sync, receipt, rename, sync. A
//! receipt beside a hidden snapshot means that only the rename is missing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use op_dbus_activator::files::{self, Durable};
use op_dbus_activator::identity::{self, Check};
use op_dbus_bootstate::audit::{Event, Kind};
use op_dbus_bootstate::receipt::{self, Receipt};
use op_dbus_bootstate::{Deployment, Digest, Record, Version};
use op_dbus_trust::Keyring;

use super::rules;
use crate::auditlog::{self, AuditLog};
use crate::context::Context;
use crate::deployments;
use crate::error::{Exit, Failure, Result};
use crate::session::Session;
use crate::signed::Signed;

/// How long a finished transfer waits for the store's lock.
const PATIENCE: Duration = Duration::from_secs(30);

/// Name in `deploy/` under which a version is made; no version begins with a dot.
fn hidden(context: &Context, version: &Version) -> PathBuf {
    context
        .layout
        .deploy_dir()
        .join(format!(".{version}{HIDDEN_SUFFIX}"))
}

const HIDDEN_SUFFIX: &str = ".new";

/// Settles what a killed run left: with its receipt written a version is complete
/// and only lacks its name; without, it is removed, and so is its manifest.
pub(crate) fn settle(context: &Context) -> Result<()> {
    settle_deployments(context)?;
    let dir = context.layout.manifests_dir();
    let fail = |why| Failure::io(format_args!("{}: read", dir.display()), why);
    for entry in fs::read_dir(&dir).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let version = name.to_str().and_then(|name| {
            let name = name.strip_suffix(".asc").unwrap_or(name);
            name.strip_suffix(".json")?.parse::<Version>().ok()
        });
        // A receipt's own name is that of no manifest: see `rules::name`.
        if let Some(version) = version.filter(|version| rules::name(version).is_ok()) {
            let receipt = context.layout.receipt(&version).symlink_metadata();
            if receipt.is_err_and(|why| why.kind() == io::ErrorKind::NotFound) {
                remove(&dir.join(&name))?;
            }
        }
    }
    Ok(())
}

fn settle_deployments(context: &Context) -> Result<()> {
    let dir = context.layout.deploy_dir();
    let fail = |why| Failure::io(format_args!("{}: read", dir.display()), why);
    for entry in fs::read_dir(&dir).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let name = name.to_string_lossy();
        let Some(version) = name
            .strip_prefix('.')
            .and_then(|name| name.strip_suffix(HIDDEN_SUFFIX))
        else {
            continue;
        };
        match version.parse() {
            Ok(version) => settle_one(context, &version)?,
            Err(_) => op_dbus_btrfs::delete_subvolume(&dir.join(name.as_ref()))?,
        }
    }
    Ok(())
}

fn settle_one(context: &Context, version: &Version) -> Result<()> {
    let from = hidden(context, version);
    let to = context.layout.deployment(version);
    // A damaged receipt acknowledges nothing.
    let receipt = deployments::read_receipt(&context.layout, version).unwrap_or_default();
    let is_complete = receipt.is_some_and(|receipt| {
        matches!(
            identity::check(&from, &receipt.deployment.identity),
            Check::Intact
        )
    });
    if is_complete && to.symlink_metadata().is_err() {
        return rename(&from, &to);
    }
    op_dbus_btrfs::delete_subvolume(&from)?;
    Ok(())
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            Err(Failure::io(format_args!("{}: remove", path.display()), why))
        }
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
        .map_err(|why| Failure::io(format_args!("{}: rename", to.display()), why))?;
    op_dbus_btrfs::sync_filesystem(to)?;
    Ok(())
}

/// The version, if it is in the store already, intact, and the same one. One
/// that was altered or lost may be received anew, unless it is running.
pub(crate) fn already_there(
    context: &Context,
    signed: &Signed,
    keyring: &Keyring,
    record: &Record,
) -> Result<Option<Deployment>> {
    let version = &signed.manifest.version;
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
        Check::Intact if deployment.digest == signed.manifest.tree.digest => {
            note_if_missing(context, record, &deployment)?;
            // The one that was kept may be lost, or of a key that counts no more.
            if Signed::read(&context.layout.manifest(version), keyring).is_err() {
                keep(context, signed, Durable::Yes)?;
            }
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

/// Publishes a checked subvolume. Returns the receipt, durable by then.
pub(crate) fn publish(
    context: &Context,
    signed: &Signed,
    received: &Path,
    detail: &str,
) -> Result<Receipt> {
    // A transfer may have taken long; it is worth waiting for the lock.
    let mut session = Session::open_patiently(context, PATIENCE)?;
    let version = &signed.manifest.version;
    let made = hidden(context, version);
    op_dbus_btrfs::snapshot(received, &made, true)?;
    let receipt = match acknowledge(context, signed, &made) {
        Ok(receipt) => receipt,
        Err(failure) => {
            // Should this fail too, the next run settles it.
            let _ = op_dbus_btrfs::delete_subvolume(&made);
            let _ = settle(context);
            return Err(failure);
        }
    };
    let path = context.layout.deployment(version);
    if op_dbus_btrfs::is_subvolume(&path)? {
        // Altered, as `already_there` found; its name goes to the whole one.
        op_dbus_btrfs::delete_subvolume(&path)?;
    }
    rename(&made, &path)?;
    let deployment = &receipt.deployment;
    if let Some(why) = identity::difference(&op_dbus_btrfs::info_of(&path)?, &deployment.identity) {
        return Err(Failure::new(
            Exit::Verification,
            path.display(),
            why,
            "run the command again",
        ));
    }
    let event = Event::about(Kind::Received, deployment, detail);
    log(context, &mut session, deployment, event)?;
    Ok(receipt)
}

/// Commits the snapshot and what belongs to it, then writes the receipt.
fn acknowledge(context: &Context, signed: &Signed, made: &Path) -> Result<Receipt> {
    // The sync of the snapshot makes them durable too.
    keep(context, signed, Durable::No)?;
    op_dbus_btrfs::sync_filesystem(made)?;
    let info = op_dbus_btrfs::info_of(made)?;
    let identity = identity::of(&info);
    if !info.is_read_only() || identity.received_uuid.is_nil() {
        return Err(Failure::new(
            Exit::Verification,
            made.display(),
            "the published snapshot lost its identity",
            "run the command again, and report this with the kernel's version",
        ));
    }
    let manifest = &signed.manifest;
    let receipt = Receipt {
        schema: receipt::SCHEMA,
        deployment: Deployment {
            version: manifest.version.clone(),
            digest: manifest.tree.digest,
            identity,
            epoch: manifest.epoch,
        },
        bytes: manifest.tree.bytes,
        received_at: auditlog::now(),
    };
    let file = context.layout.receipt(&manifest.version);
    let mut text = serde_json::to_vec_pretty(&receipt)
        .map_err(|why| Failure::io(format_args!("{}: write", file.display()), why))?;
    text.push(b'\n');
    write(&file, &text, Durable::Yes)?;
    Ok(receipt)
}

/// Writes the manifest and its signature, byte for byte.
fn keep(context: &Context, signed: &Signed, durable: Durable) -> Result<()> {
    let version = &signed.manifest.version;
    let (manifest, signature) = (&signed.bytes, &signed.signature);
    write(&context.layout.manifest(version), manifest, durable)?;
    write(&context.layout.signature(version), signature, durable)
}

fn write(file: &Path, content: &[u8], durable: Durable) -> Result<()> {
    files::replace(file, content, 0o600, durable)
        .map_err(|why| Failure::io(format_args!("{}: write", file.display()), why))
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

/// A power cut after the receipt leaves a version the log does not tell of, or
/// one that was mended while the record still knows it by its old identity.
fn note_if_missing(context: &Context, record: &Record, deployment: &Deployment) -> Result<()> {
    let is_known = with_identity(record, deployment).is_none();
    if is_known && is_logged(context, &deployment.digest)? {
        return Ok(());
    }
    let mut session = Session::open(context)?;
    let event = Event::about(
        Kind::Received,
        deployment,
        "was in the store, but this was not noted yet",
    );
    log(context, &mut session, deployment, event)
}

fn is_logged(context: &Context, digest: &Digest) -> Result<bool> {
    let log = AuditLog::new(&context.layout);
    let mut found = false;
    log.salvage(|line| found |= line.event == Kind::Received && line.digest == Some(*digest))
        .map_err(|why| Failure::io(format_args!("{}: read", log.path().display()), why))?;
    Ok(found)
}
