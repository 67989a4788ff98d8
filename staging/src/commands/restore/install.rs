//! From the area to their places: under the store's lock, each in one step.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use op_dbus_activator::files::{self, Durable};
use op_dbus_activator::layout::Layout;

use super::fresh::{discard_others, mark, set_mark};
use super::plan::Wanted;
use super::unpack::{Unpacked, is_wanted};
use crate::auditlog;
use crate::backup::contents::Contents;
use crate::backup::logs::CURRENT;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::pins;

/// What came to its place.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// Overlays and what is shared, by their places in the store.
    pub(super) places: Vec<String>,
    /// What of the backup did not come back, because its version did not.
    pub(super) left: Vec<String>,
    /// Name of the log that the device's own goes on from.
    pub(super) log: Option<String>,
}

impl Unpacked<'_> {
    /// Gives everything its place. Nothing selects any of it yet.
    pub(super) fn install(
        self,
        context: &Context,
        contents: &Contents,
        wanted: &[Wanted],
    ) -> Result<Restored> {
        let layout = &context.layout;
        let digest = contents.digest.to_string();
        let mut restored = Restored::default();
        let mut renames = Vec::new();
        discard_others(layout, &digest)?;
        for (held, path) in &self.streams {
            let place = layout.store.join(&held.stream.place);
            let hidden = prepare(path, &place, &digest)?;
            renames.push((hidden, place));
            restored.places.push(held.stream.place.clone());
        }
        // All of it is on the disk before any of it has a name.
        op_dbus_btrfs::sync_filesystem(&layout.store)?;
        for (hidden, place) in renames {
            name(&hidden, &place, &digest)?;
        }
        for (path, name) in &self.logs {
            rename(path, &layout.audit_dir().join(name))?;
        }
        restored.log = auditlog::kept_name(CURRENT, &digest)
            .filter(|name| self.logs.iter().any(|(_, kept)| kept == name));
        small(layout, contents, wanted)?;
        let left = contents.streams.iter().map(|held| &held.stream.place);
        let left = left.filter(|place| !is_wanted(place, wanted));
        restored.left = left.cloned().collect();
        Ok(restored)
    }
}

/// A writable copy of what was unpacked, beside its place under a hidden name, and
/// marked. Read-only subvolumes can't move, and what is received stays so.
fn prepare(unpacked: &Path, place: &Path, digest: &str) -> Result<PathBuf> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    if let Some(dir) = place.parent() {
        make_dir(dir)?;
    }
    // As an overlay that is being made is called: prune knows what that is.
    let hidden = place.with_file_name(format!(".new-restore-{name}"));
    if op_dbus_btrfs::is_subvolume(&hidden)? {
        op_dbus_btrfs::delete_subvolume(&hidden)?;
    }
    op_dbus_btrfs::snapshot(unpacked, &hidden, false)?;
    set_mark(&hidden, digest)
        .map_err(|why| Failure::io(format_args!("{}: mark", hidden.display()), why))?;
    Ok(hidden)
}

/// Gives a subvolume its name. What has it already is of a run that was cut short,
/// and is the same; or is shared and empty.
fn name(hidden: &Path, place: &Path, digest: &str) -> Result<()> {
    if op_dbus_btrfs::is_subvolume(place)? {
        if mark(place).as_deref() == Some(digest) {
            return Ok(op_dbus_btrfs::delete_subvolume(hidden)?);
        }
        op_dbus_btrfs::delete_subvolume(place)?;
    }
    rename(hidden, place)
}

/// Pins and plans.
fn small(layout: &Layout, contents: &Contents, wanted: &[Wanted]) -> Result<()> {
    for one in wanted {
        let version = &one.version;
        if contents.pins.contains(version) {
            pins::add(layout, version)
                .map_err(|why| Failure::io(format_args!("pin of {version}"), why))?;
        }
        if let Some(plan) = contents.plans.get(version) {
            make_dir(&layout.plans_dir())?;
            let path = layout.plan(version);
            files::replace(&path, plan, 0o600, Durable::Yes)
                .map_err(|why| Failure::io(format_args!("{}: write", path.display()), why))?;
        }
    }
    Ok(())
}

fn make_dir(dir: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => Err(Failure::io(
            format_args!("{}: create directory", dir.display()),
            why,
        )),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|why| Failure::io(format_args!("{}: rename", to.display()), why))
}
