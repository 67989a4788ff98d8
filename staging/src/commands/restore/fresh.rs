//! Whether a device is one that a backup may be restored on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::Record;
use op_dbus_bootstate::audit::{Kind, Line};
use op_dbus_bootstate::record::Choice;
use rustix::fs::XattrFlags;

use crate::auditlog::AuditLog;
use crate::backup::contents::Contents;
use crate::backup::kept;
use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::session::Session;

/// Names the backup a subvolume was restored from, until the boot record is
/// written: a run that was cut short knows by it what is its own.
const MARK: &str = "trusted.op-dbus.restored";
/// What to do with a device that is in use.
const REMEDY: &str = "restore on an empty store: docs/BACKUP.md tells how to put the old one aside";

/// What a store is to a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing on it would be lost.
    Fresh,
    /// It is restored from this very backup, and nothing has happened since.
    Restored,
}

/// Looks at a store under its lock. One in use is refused.
pub(super) fn look(context: &Context, session: &Session<'_>, contents: &Contents) -> Result<State> {
    let record = session.record();
    if is_used(record) {
        if is_restored(context, record, contents)? {
            return Ok(State::Restored);
        }
        let mut versions: Vec<_> = record
            .deployments()
            .map(|(slot, held)| format!("{slot} {}", held.version))
            .collect();
        if versions.is_empty() {
            versions.push("versions in quarantine, or booted before".to_owned());
        }
        let what = format!("the device is in use: it has {}", versions.join(", "));
        return Err(refused(&context.layout, &what));
    }
    for (path, name) in children(&context.layout.overlays_dir())? {
        // What was being made when somebody was killed belongs to nobody.
        if !name.starts_with('.') && mark(&path).is_none() {
            let what = format!("overlays/{name} is there already");
            return Err(refused(&context.layout, &what));
        }
    }
    for (path, name) in children(&context.layout.shared_dir())? {
        let is_ours = mark(&path).is_some();
        if !name.starts_with('.') && !is_ours && !children(&path)?.is_empty() {
            let what = format!("shared/{name} is there already, and not empty");
            return Err(refused(&context.layout, &what));
        }
    }
    Ok(State::Fresh)
}

/// Somebody was faster.
pub(super) fn changed(context: &Context) -> Failure {
    refused(&context.layout, "another run changed it meanwhile")
}

fn refused(layout: &Layout, why: &str) -> Failure {
    Failure::new(Exit::Refused, layout.store.display(), why, REMEDY)
}

/// Whether a record tells of more than a device on which nothing has happened.
fn is_used(record: &Record) -> bool {
    let has_booted = record
        .last_boot
        .as_ref()
        .is_some_and(|last| last.choice != Choice::Rescue);
    record.deployments().next().is_some() || !record.quarantine.entries().is_empty() || has_booted
}

/// Whether the last thing that happened is that this backup was restored. A boot
/// since then may not be in the log yet, but it is in the record.
fn is_restored(context: &Context, record: &Record, contents: &Contents) -> Result<bool> {
    let has_booted = contents.record().is_none_or(|(then, _)| {
        (&record.last_boot, &record.attempts) != (&then.last_boot, &then.attempts)
    });
    if has_booted {
        return Ok(false);
    }
    let log = AuditLog::new(&context.layout);
    let mut last: Option<Line> = None;
    log.salvage(|line| last = Some(line.clone()))
        .map_err(|why| Failure::io(format_args!("{}: read", log.path().display()), why))?;
    Ok(last.is_some_and(|line| {
        line.n == record.audit.length
            && line.event == Kind::Restored
            && line.detail.starts_with(&kept::beginning(&contents.digest))
    }))
}

/// Marks a subvolume as restored from a backup.
pub(super) fn set_mark(path: &Path, digest: &str) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(
        path,
        MARK,
        digest.as_bytes(),
        XattrFlags::empty(),
    )?)
}

/// Which backup a subvolume was restored from.
pub(super) fn mark(path: &Path) -> Option<String> {
    let mut text = [0; 64];
    let length = rustix::fs::lgetxattr(path, MARK, &mut text).ok()?;
    Some(std::str::from_utf8(text.get(..length)?).ok()?.to_owned())
}

/// Deletes what a run that was cut short restored from another backup.
pub(super) fn discard_others(layout: &Layout, digest: &str) -> Result<()> {
    for dir in [layout.overlays_dir(), layout.shared_dir()] {
        for (path, _) in children(&dir)? {
            if mark(&path).is_some_and(|mark| mark != digest) {
                op_dbus_btrfs::delete_subvolume(&path)?;
            }
        }
    }
    Ok(())
}

/// Takes all marks away. What one is left on is no worse for it.
pub(super) fn clear_marks(context: &Context) {
    let layout = &context.layout;
    for dir in [layout.overlays_dir(), layout.shared_dir()] {
        for (path, _) in children(&dir).unwrap_or_default() {
            let _ = rustix::fs::lremovexattr(&path, MARK);
        }
    }
    let _ = op_dbus_btrfs::sync_filesystem(&layout.store);
}

/// What is in a directory; none there has nothing in it.
fn children(dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let fail = |why: io::Error| Failure::io(format_args!("{}: read", dir.display()), why);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        // Whatever else stands there has nothing in it either.
        Err(why) if why.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        Err(why) => return Err(fail(why)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        found.push((entry.path(), name));
    }
    found.sort();
    Ok(found)
}
