//! The store-rw role: `ro` in fstab makes systemd-remount-fs turn the root's
//! superblock read-only, and with it a store of the same file system and the
//! overlay. Remounting the store writable undoes that and leaves the root's own
//! mount read-only (measured).

use std::os::fd::{AsFd as _, OwnedFd};

use op_dbus_bootstate::Slot;
use op_dbus_bootstate::transition::Running;

use crate::activation::Activation;
use crate::config::Config;
use crate::layout::Layout;
use crate::mount::MountPoint;
use crate::overlay::{self, Origin, shared, word};
use crate::session;

/// Makes the store writable if it can be, and looks at the overlay again. One
/// log line a finding; never an error a boot would fail for.
pub fn run(layout: &Layout, config: &Config) {
    match session::mounted(layout) {
        Ok(Some(_)) => {}
        Ok(None) => return log::info!("store-rw: the store is not mounted"),
        Err(why) => return log::warn!("store-rw: {why}"),
    }
    if let Err(why) = session::remount_writable(layout) {
        log::warn!("store-rw: {}: remount: {why}", layout.store.display());
    }
    let read_only = session::mounted(layout)
        .ok()
        .flatten()
        .is_none_or(|state| state.read_only.is_some());
    let report = match Activation::read(layout) {
        Ok(Some(report)) => report,
        Ok(None) => return,
        Err(why) => return log::warn!("store-rw: {why}"),
    };
    let looked_at = |word: &str| {
        [word::STORE_READ_ONLY, word::SHARED_PATH_MISSING].contains(&word)
            || word::OVERLAY.contains(&word)
    };
    let mut degraded: Vec<String> = report
        .degraded
        .iter()
        .filter(|word| !looked_at(word))
        .cloned()
        .collect();
    if read_only {
        degraded.push(word::STORE_READ_ONLY.to_owned());
    }
    degraded.extend(look_at_overlay(layout, config, &report, read_only));
    if report.running().is_some() {
        degraded.extend(mount_shared(layout, config));
    }
    if degraded.len() != report.degraded.len()
        || degraded.iter().any(|word| !report.degraded.contains(word))
    {
        let words = if degraded.is_empty() {
            "nothing".to_owned()
        } else {
            degraded.join(", ")
        };
        log::info!("store-rw: degraded now: {words}");
        let report = Activation { degraded, ..report };
        if let Err(why) = report.write(layout) {
            log::warn!("store-rw: {why}");
        }
    }
}

/// What is wrong with the overlay now, as a word; puts a better one in its place
/// where the boot had to do without.
fn look_at_overlay(
    layout: &Layout,
    config: &Config,
    report: &Activation,
    store_read_only: bool,
) -> Option<String> {
    let running = report.running()?;
    let before = report
        .degraded
        .iter()
        .find(|word| word::OVERLAY.contains(&word.as_str()));
    let state = || -> Result<Option<overlay::Degraded>, String> {
        let deployment = op_dbus_btrfs::open_dir(&layout.deployment(&running.version))
            .map_err(|why| why.to_string())?;
        let point = MountPoint::open(&layout.sysroot, &config.mounts.overlay)
            .map_err(|why| format!("{}: {why}", config.mounts.overlay.display()))?;
        // A trial without its overlay must not begin with what an earlier try left.
        if before.is_some() && !store_read_only && running.slot != Slot::Trial {
            return replace(layout, config, &running, &deployment, point);
        }
        Ok(overlay::probe(point.dir(), deployment.as_fd()))
    };
    match state() {
        Ok(found) => found.map(|found| {
            log::warn!("store-rw: {}: {}", found.word, found.why);
            found.word.to_owned()
        }),
        Err(why) => {
            log::warn!("store-rw: {why}");
            before.cloned()
        }
    }
}

/// Mounts what is shared and is not mounted yet: a new overlay has none of it, and
/// a read-only one had no directory for it.
fn mount_shared(layout: &Layout, config: &Config) -> Option<String> {
    if config.overlay.shared_paths.is_empty() {
        return None;
    }
    let missing = match MountPoint::open(&layout.sysroot, &config.mounts.overlay) {
        Ok(point) => {
            let missing = shared::attach(layout, point.dir(), &config.overlay.shared_paths)?;
            missing.why
        }
        Err(why) => format!("{}: {why}", config.mounts.overlay.display()),
    };
    log::warn!("store-rw: {}: {missing}", word::SHARED_PATH_MISSING);
    Some(word::SHARED_PATH_MISSING.to_owned())
}

/// Puts a writable overlay where a degraded one is. Services start later.
fn replace(
    layout: &Layout,
    config: &Config,
    running: &Running,
    deployment: &OwnedFd,
    old: MountPoint,
) -> Result<Option<overlay::Degraded>, String> {
    let (version, digest) = (&running.version, &running.digest);
    let unusable = overlay::prepare(layout, version, digest, &Origin::OWN).err();
    let (tree, found) = overlay::build(layout, version, deployment.as_fd(), false, unusable)
        .map_err(|why| why.to_string())?;
    if found.is_some() {
        return Ok(found);
    }
    let path = &config.mounts.overlay;
    let fail = |why: std::io::Error| format!("{}: replace the overlay: {why}", path.display());
    old.unmount().map_err(fail)?;
    let point = MountPoint::open(&layout.sysroot, path).map_err(fail)?;
    tree.attach(&point).map_err(fail)?.keep();
    Ok(None)
}
