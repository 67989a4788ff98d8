//! Where a version's overlay comes from.
//!
//! Every new overlay is made complete under a dot name and renamed: a power cut
//! leaves the old one, or none, or the new one, and never half of one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use op_dbus_bootstate::{Digest, Version};
use rustix::fs::XattrFlags;

use super::apply;
use super::origin::{Origin, Own, Source};
use super::report::{Begin, OverlayReport};
use crate::layout::Layout;

/// Names the content an overlay was made for, on its subvolume. An attribute,
/// because one can be set on a full disk, where a file can't be written (measured).
const OWNER: &str = "trusted.op-dbus.deployment";

/// Makes the overlay subvolume of a version ready: with `upper/` and `work/`.
pub fn prepare(
    layout: &Layout,
    version: &Version,
    digest: &Digest,
    origin: &Origin,
) -> Result<OverlayReport, String> {
    let path = layout.overlay(version);
    let exists = path.symlink_metadata().is_ok();
    let kept = match origin.own {
        Own::Stays => Some(Begin::Own),
        Own::GoesOn => Some(Begin::Kept),
        Own::IsOld | Own::HasFailed => None,
    };
    if let Some(begin) = kept.filter(|_| exists) {
        fill(&path, &layout.deployment(version))
            .map_err(|why| format!("{}: {why}", path.display()))?;
        return Ok(OverlayReport {
            origin: begin,
            plan: None,
        });
    }
    let new = beside(&path, ".new-", "");
    remove(&new)?;
    let source = begin(layout, origin.from.as_ref(), &new)?;
    fill(&new, &layout.deployment(version))
        .and_then(|()| set_owner(&new, digest))
        .map_err(|why| format!("{}: {why}", new.display()))?;
    let plan = source.filter(|source| source.planned).and_then(|source| {
        let over = &source.deployment.digest;
        apply::apply(layout, version, digest, over, &new.join("upper"))
    });
    if exists {
        // One of another content is no leftover of a try of this one.
        let failed = origin.own == Own::HasFailed && owner(&path) == Some(*digest);
        put_aside(&path, if failed { ".failed" } else { ".old" })?;
    }
    rename(&new, &path)?;
    Ok(OverlayReport {
        origin: match source {
            Some(_) => Begin::Carried,
            None => Begin::Empty,
        },
        plan,
    })
}

/// Sets a version's overlay aside as `<version>.old`, if there is one. Durable
/// when this returns.
pub fn set_aside(layout: &Layout, version: &Version) -> Result<(), String> {
    let path = layout.overlay(version);
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    put_aside(&path, ".old")?;
    op_dbus_btrfs::sync_filesystem(&layout.store).map_err(|why| why.to_string())
}

/// Puts it beside under another name, in place of what had that name before.
fn put_aside(path: &Path, suffix: &str) -> Result<(), String> {
    let aside = beside(path, "", suffix);
    remove(&aside)?;
    rename(path, &aside)
}

fn set_owner(overlay: &Path, digest: &Digest) -> io::Result<()> {
    let text = digest.to_string();
    rustix::fs::setxattr(overlay, OWNER, text.as_bytes(), XattrFlags::empty())?;
    Ok(())
}

/// The content an overlay was made for, if it says so.
fn owner(overlay: &Path) -> Option<Digest> {
    let mut text = [0; 64];
    let length = rustix::fs::lgetxattr(overlay, OWNER, &mut text).ok()?;
    std::str::from_utf8(text.get(..length)?).ok()?.parse().ok()
}

/// A snapshot of another version's overlay, or an empty one. Returns whose it
/// is a snapshot of.
fn begin<'s>(
    layout: &Layout,
    from: Option<&'s Source>,
    new: &Path,
) -> Result<Option<&'s Source>, String> {
    fs::create_dir_all(layout.overlays_dir())
        .map_err(|why| format!("{}: make: {why}", layout.overlays_dir().display()))?;
    if let Some(source) = from {
        let path = layout.overlay(&source.deployment.version);
        if op_dbus_btrfs::is_subvolume(&path).map_err(|why| why.to_string())? {
            op_dbus_btrfs::snapshot(&path, new, false).map_err(|why| why.to_string())?;
            return Ok(from);
        }
    }
    op_dbus_btrfs::create_subvolume(new).map_err(|why| why.to_string())?;
    Ok(None)
}

/// The two directories an overlay needs. The upper one is the overlay's root, so
/// it looks like the root of the version.
fn fill(overlay: &Path, deployment: &Path) -> io::Result<()> {
    if !op_dbus_btrfs::is_subvolume(overlay).map_err(|why| why.source)? {
        return Err(io::Error::other(
            "not a subvolume; move it away, and the next boot makes a new one",
        ));
    }
    if make_dir(&overlay.join("upper"))? {
        let like = fs::metadata(deployment)?;
        let upper = overlay.join("upper");
        std::os::unix::fs::lchown(&upper, Some(like.uid()), Some(like.gid()))?;
        fs::set_permissions(&upper, fs::Permissions::from_mode(like.mode() & 0o7777))?;
    }
    make_dir(&overlay.join("work"))?;
    Ok(())
}

/// Makes a directory; whether it was not there before.
fn make_dir(path: &Path) -> io::Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
            if path.symlink_metadata()?.is_dir() {
                Ok(false)
            } else {
                Err(why)
            }
        }
        Err(why) => Err(why),
    }
}

fn beside(path: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = OsString::from(before);
    name.push(path.file_name().unwrap_or_default());
    name.push(after);
    path.with_file_name(name)
}

fn rename(from: &Path, to: &Path) -> Result<(), String> {
    fs::rename(from, to)
        .map_err(|why| format!("{}: rename to {}: {why}", from.display(), to.display()))
}

/// Removes a subvolume, or whatever small thing stands in its place.
fn remove(path: &Path) -> Result<(), String> {
    let Ok(found) = path.symlink_metadata() else {
        return Ok(());
    };
    let fail = |why: String| format!("{}: remove: {why}", path.display());
    if !found.is_dir() {
        return fs::remove_file(path).map_err(|why| fail(why.to_string()));
    }
    if op_dbus_btrfs::is_subvolume(path).map_err(|why| why.to_string())? {
        return op_dbus_btrfs::delete_subvolume(path).map_err(|why| why.to_string());
    }
    // Not a tree walk: nothing of ours is a plain directory here.
    fs::remove_dir(path).map_err(|why| fail(why.to_string()))
}
