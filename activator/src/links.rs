//! The links role: symlinks of the host that point into the running version.
//!
//! A link is ours exactly if it is a symlink that points below one of the two
//! mount points; nothing else is ever replaced or removed. Which links there
//! were before is remembered in the store, as a hint only: before one is
//! removed, it is looked at again. The list is written before a link is made, and
//! forgets one only after its removal is durable: a power cut leaves no link that
//! nobody knows of.
//!
//! A link whose target the active version has not got is taken away until a
//! version has it again. With no version mounted, links stay as they are.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Mounts};
use crate::files::{self, Durable};
use crate::layout::Layout;

/// Longest list of links a reader accepts, in bytes.
const LIST_MAX: usize = 2 * 1024 * 1024;

/// What happened to one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It was right already.
    Kept,
    /// It was made, or turned to its target.
    Made,
    /// It is no longer wanted and was removed.
    Removed,
    /// Something that is not ours stands in its place, or the host refused.
    Refused(String),
}

/// The links that were made, kept in the store.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    links: BTreeSet<PathBuf>,
}

/// Runs the role: one log line a change or refusal.
pub fn run(layout: &Layout, config: &Config) {
    for (path, done) in reconcile(layout, config) {
        let path = path.display();
        match done {
            Done::Kept => {}
            Done::Made => log::info!("links: made {path}"),
            Done::Removed => log::info!("links: removed {path}"),
            Done::Refused(why) => log::warn!("links: {path}: {why}"),
        }
    }
}

/// Brings the links in line with the configuration.
pub fn reconcile(layout: &Layout, config: &Config) -> Vec<(PathBuf, Done)> {
    let list_path = layout.store.join("links.json");
    let before = read_list(&list_path);
    let mut report = Vec::new();
    let wanted: BTreeSet<_> = config.links.iter().map(|link| link.path.clone()).collect();
    let mut known = &before.links | &wanted;
    if known != before.links {
        write_list(layout, &list_path, &known);
    }
    for link in &config.links {
        let target = config.link_target(link);
        let done = bring_in_line(layout, &config.mounts, &link.path, &target)
            .unwrap_or_else(|why| Done::Refused(why.to_string()));
        report.push((link.path.clone(), done));
    }
    let mut forgotten = false;
    for path in before.links.difference(&wanted) {
        match remove(layout, &config.mounts, path) {
            Ok(removed) => {
                forgotten |= known.remove(path);
                if removed {
                    report.push((path.clone(), Done::Removed));
                }
            }
            Err(why) => report.push((path.clone(), Done::Refused(why.to_string()))),
        }
    }
    if forgotten {
        write_list(layout, &list_path, &known);
    }
    report
}

fn read_list(path: &Path) -> List {
    files::read_bounded(path, LIST_MAX)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Without the list, links that are given up later stay; that is worth a line
/// and nothing more.
fn write_list(layout: &Layout, path: &Path, links: &BTreeSet<PathBuf>) {
    if !layout.boot_dir().is_dir() {
        return;
    }
    let links = links.clone();
    let written = serde_json::to_vec(&List { links })
        .map_err(io::Error::from)
        .and_then(|text| files::replace(path, &text, 0o600, Durable::Yes));
    if let Err(why) = written {
        log::warn!("links: {}: {why}", path.display());
    }
}

/// The directory of a link, found below the host's root and never outside.
fn parent<'a>(layout: &Layout, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let root = op_dbus_btrfs::open_dir(&layout.sysroot).map_err(|why| why.source)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let dir = rustix::fs::openat2(&root, parent, flags, Mode::empty(), resolve)
        .map_err(|why| io::Error::other(format!("its directory: {}", io::Error::from(why))))?;
    Ok((dir, name))
}

/// What stands in a link's place.
enum Found {
    Nothing,
    /// A symlink below one of our mount points.
    Ours(PathBuf),
    Foreign,
}

fn look(dir: BorrowedFd<'_>, name: &OsStr, mounts: &Mounts) -> io::Result<Found> {
    match rustix::fs::readlinkat(dir, name, Vec::new()) {
        Ok(target) => {
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            let plain = target
                .components()
                .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            let inside = [&mounts.lower, &mounts.overlay]
                .into_iter()
                .any(|mount| target.starts_with(mount));
            Ok(if plain && inside {
                Found::Ours(target)
            } else {
                Found::Foreign
            })
        }
        Err(Errno::NOENT) => Ok(Found::Nothing),
        // Not a symlink.
        Err(Errno::INVAL) => Ok(Found::Foreign),
        Err(why) => Err(why.into()),
    }
}

/// Places the link if the active version has its target, or takes it away.
fn bring_in_line(layout: &Layout, mounts: &Mounts, path: &Path, target: &Path) -> io::Result<Done> {
    let mount = layout.host(&mounts.lower);
    // An empty mount point: no version is active.
    let is_active = mount
        .read_dir()
        .is_ok_and(|mut names| names.next().is_some());
    if !is_active || layout.host(target).symlink_metadata().is_ok() {
        return place(layout, mounts, path, target);
    }
    if remove(layout, mounts, path)? {
        return Ok(Done::Removed);
    }
    let why = format!("the version has no {}", target.display());
    Ok(Done::Refused(why))
}

/// Takes away what a power cut left between the two steps of turning a link.
fn sweep(dir: BorrowedFd<'_>, name: &OsStr, mounts: &Mounts) -> io::Result<OsString> {
    let mut hidden = OsString::from(".op-dbus-");
    hidden.push(name);
    if let Ok(Found::Ours(_)) = look(dir, &hidden, mounts) {
        rustix::fs::unlinkat(dir, &hidden, AtFlags::empty())?;
    }
    Ok(hidden)
}

fn place(layout: &Layout, mounts: &Mounts, path: &Path, target: &Path) -> io::Result<Done> {
    let (dir, name) = parent(layout, path)?;
    let hidden = sweep(dir.as_fd(), name, mounts)?;
    match look(dir.as_fd(), name, mounts)? {
        Found::Ours(current) if current == target => return Ok(Done::Kept),
        Found::Foreign => {
            return Ok(Done::Refused(
                "is not a link of ours and stays as it is; move it away".to_owned(),
            ));
        }
        Found::Ours(_) => {
            rustix::fs::symlinkat(target, &dir, &hidden)?;
            rustix::fs::renameat(&dir, &hidden, &dir, name)?;
        }
        // Made in one step, and never over something that came meanwhile.
        Found::Nothing => rustix::fs::symlinkat(target, &dir, name)?,
    }
    Ok(Done::Made)
}

fn remove(layout: &Layout, mounts: &Mounts, path: &Path) -> io::Result<bool> {
    let Ok((dir, name)) = parent(layout, path) else {
        return Ok(false);
    };
    sweep(dir.as_fd(), name, mounts)?;
    let is_ours = matches!(look(dir.as_fd(), name, mounts)?, Found::Ours(_));
    if is_ours {
        rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
    }
    // Of one that is gone, too: perhaps a power cut came before its removal was durable.
    rustix::fs::fsync(&dir)?;
    Ok(is_ours)
}

#[cfg(test)]
mod tests;
