//! The writable overlay over a version.
//!
//! Nothing here is ever an activation error: a version whose overlay can't be
//! had runs read-only, and the boot says so.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use op_dbus_bootstate::Version;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::layout::Layout;
use crate::mount::{self, Detached};

mod apply;
pub mod beneath;
pub mod entry;
mod origin;
pub mod plan;
mod prepare;
mod report;
pub mod shared;

pub use origin::{Origin, Own, Source};
pub use prepare::{prepare, set_aside};
pub use report::{Begin, KEPT_MAX, OverlayReport, PlanReport};

/// The new name the probe makes and removes.
const PROBE: &str = ".op-dbus-probe";
/// Longest value `fsconfig(2)` takes, in bytes, without its end.
const OPTION_MAX: usize = 255;
/// Given explicitly, whatever the kernel's or the distribution's defaults are:
/// layers change underneath from version to version, and these four keep what
/// would not survive that (kernel documentation, "Changes to underlying
/// filesystems").
const FIXED: [(&str, &str); 4] = [
    ("index", "off"),
    ("metacopy", "off"),
    ("xino", "off"),
    ("redirect_dir", "off"),
];

/// What works less well than it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded {
    /// A stable word for `activation.json`.
    pub word: &'static str,
    /// The reason, for people.
    pub why: String,
}

/// The words for [`Degraded`].
pub mod word {
    /// The store takes no writes.
    pub const STORE_READ_ONLY: &str = "store-read-only";
    /// The overlay shows its changes but takes no new ones.
    pub const OVERLAY_READ_ONLY: &str = "overlay-read-only";
    /// The overlay is mounted writable, and writing fails.
    pub const OVERLAY_NOT_WRITABLE: &str = "overlay-not-writable";
    /// There is no overlay; the version stands in its place as published.
    pub const OVERLAY_MISSING: &str = "overlay-missing";
    /// A shared path is not mounted; what is there is the version's own.
    pub const SHARED_PATH_MISSING: &str = "shared-path-missing";
    /// The boot could not be counted.
    pub const NOT_COUNTED: &str = "not-counted";
    /// The configuration has a mistake; only what booting needs was taken from it.
    pub const CONFIG_INVALID: &str = "configuration-invalid";
    /// Every word about an overlay.
    pub const OVERLAY: [&str; 3] = [OVERLAY_READ_ONLY, OVERLAY_NOT_WRITABLE, OVERLAY_MISSING];
}

fn degraded(word: &'static str, why: impl Into<String>) -> Degraded {
    Degraded {
        word,
        why: why.into(),
    }
}

/// The overlay of a version, detached, as good as it can be had; and what is
/// less than good about it. `deployment` is the version's directory.
///
/// `unusable`: why the version's overlay subvolume could not be prepared.
pub fn build(
    layout: &Layout,
    version: &Version,
    deployment: BorrowedFd<'_>,
    store_read_only: bool,
    unusable: Option<String>,
) -> io::Result<(Detached, Option<Degraded>)> {
    if let Some(why) = unusable {
        let tree = Detached::read_only_clone(deployment)?;
        return Ok((tree, Some(degraded(word::OVERLAY_MISSING, why))));
    }
    let mut why = "the store is read-only".to_owned();
    if !store_read_only {
        match writable(layout, version) {
            Ok(tree) => {
                let found = probe(tree.root(), deployment);
                return Ok((tree, found));
            }
            Err(error) => why = format!("mount the overlay: {error}"),
        }
    }
    // Changes of earlier boots can still be shown.
    if let Ok(tree) = read_only(layout, version) {
        return Ok((tree, Some(degraded(word::OVERLAY_READ_ONLY, why))));
    }
    let tree = Detached::read_only_clone(deployment)?;
    Ok((tree, Some(degraded(word::OVERLAY_MISSING, why))))
}

/// A path as the value of an overlay option, which has separators of its own.
fn option_value(path: &Path) -> io::Result<&str> {
    path.to_str()
        .filter(|text| !text.contains([':', ',', '\\']))
        .ok_or_else(|| {
            io::Error::other("the store's path has a character overlay options can't hold")
        })
}

fn overlay(layers: &[(&str, &str)], read_only: bool) -> io::Result<Detached> {
    if layers.iter().any(|(_, value)| value.len() > OPTION_MAX) {
        return Err(io::Error::other(
            "the store's path is too long for overlay options",
        ));
    }
    let mut options = vec![("source", "op-dbus")];
    options.extend(layers);
    options.extend(FIXED);
    Detached::overlay(&options, read_only)
}

fn writable(layout: &Layout, version: &Version) -> io::Result<Detached> {
    let (lower, upper, work) = (
        layout.deployment(version),
        layout.upper(version),
        layout.work(version),
    );
    let layers = [
        ("lowerdir", option_value(&lower)?),
        ("upperdir", option_value(&upper)?),
        ("workdir", option_value(&work)?),
    ];
    overlay(&layers, false)
}

/// The changes as a second read-only layer: what a store without writes still allows.
fn read_only(layout: &Layout, version: &Version) -> io::Result<Detached> {
    let (lower, upper) = (layout.deployment(version), layout.upper(version));
    if !fs::symlink_metadata(&upper)?.is_dir() {
        return Err(io::Error::other("the overlay has no changes to show"));
    }
    let layers = format!("{}:{}", option_value(&upper)?, option_value(&lower)?);
    overlay(&[("lowerdir", &layers)], true)
}

/// Whether an overlay takes writes. On a full disk it mounts with success, but
/// read-only (measured), so the flag is looked at first; then a *new* name is
/// made and removed, because removing an existing one would leave a whiteout.
pub fn probe(root: BorrowedFd<'_>, deployment: BorrowedFd<'_>) -> Option<Degraded> {
    match mount::is_read_only(root) {
        Ok(false) => {}
        Ok(true) => {
            return Some(degraded(
                word::OVERLAY_READ_ONLY,
                "the kernel mounted the overlay read-only; the store may be full",
            ));
        }
        Err(why) => return Some(degraded(word::OVERLAY_NOT_WRITABLE, why.to_string())),
    }
    match touch(root, deployment) {
        Ok(()) => None,
        Err(why) => Some(degraded(
            word::OVERLAY_NOT_WRITABLE,
            format!("making a file in it: {why}"),
        )),
    }
}

/// Makes and removes a new name.
fn touch(root: BorrowedFd<'_>, deployment: BorrowedFd<'_>) -> io::Result<()> {
    let create = || {
        rustix::fs::openat(
            root,
            PROBE,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    match create() {
        Ok(_) => {}
        Err(Errno::EXIST) => {
            let published =
                rustix::fs::statat(deployment.as_fd(), PROBE, AtFlags::SYMLINK_NOFOLLOW);
            if published.is_ok() {
                return Err(io::Error::other(format!(
                    "the version holds a file named {PROBE}"
                )));
            }
            // Left by a power cut between the two steps.
            rustix::fs::unlinkat(root, PROBE, AtFlags::empty())?;
            create()?;
        }
        Err(why) => return Err(why.into()),
    }
    rustix::fs::unlinkat(root, PROBE, AtFlags::empty())?;
    Ok(())
}
