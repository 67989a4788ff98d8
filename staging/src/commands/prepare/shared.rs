//! The subvolumes of shared paths, with what the running version has there.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use op_dbus_activator::activation::Activation;
use op_dbus_activator::config::Config;
use op_dbus_activator::lock::Lock;
use op_dbus_activator::mount::is_mount_root;
use op_dbus_activator::overlay::beneath;
use rustix::fs::OFlags;

use super::Made;
use super::copy::{Counts, Layers, copy_tree};
use super::toplevel::TopLevel;
use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::session::{PATIENCE, lock_failure};

/// Makes the subvolumes that are missing. One that is there is left as it is:
/// what is in it is newer than whatever the overlay has below it.
pub(super) fn make(
    context: &Context,
    top: &TopLevel,
    config: &Config,
    made: &mut Made,
) -> Result<()> {
    if config.overlay.shared_paths.is_empty() {
        return Ok(());
    }
    let inside = context.with_store(&top.path(&config.store.subvolume));
    let _lock = Lock::acquire(&inside.layout, PATIENCE).map_err(lock_failure)?;
    let dir = inside.layout.shared_dir();
    match fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Failure::io(dir.display(), why));
        }
        _ => {}
    }
    let running = Running::find(context, &inside, config)?;
    for path in &config.overlay.shared_paths {
        make_one(&inside, path, running.as_ref(), made)?;
    }
    context.take_warnings(&inside);
    Ok(())
}

/// What the device runs.
struct Running {
    overlay: OwnedFd,
    /// The layers of its overlay, in the store.
    layers: [PathBuf; 2],
}

impl Running {
    fn find(context: &Context, inside: &Context, config: &Config) -> Result<Option<Self>> {
        let report = Activation::read(&context.layout)
            .map_err(|why| Failure::new(Exit::Failure, "what runs", why, "reboot"))?;
        let Some(running) = report.and_then(|report| report.running()) else {
            return Ok(None);
        };
        let path = context.layout.host(&config.mounts.overlay);
        let overlay = op_dbus_btrfs::open_dir(&path)?;
        if !is_mount_root(&overlay).map_err(|why| Failure::io(path.display(), why))? {
            return Ok(None);
        }
        let version = &running.version;
        Ok(Some(Self {
            overlay,
            layers: [
                inside.layout.upper(version),
                inside.layout.deployment(version),
            ],
        }))
    }

    /// The directory it has at a path, if it has one.
    fn open(&self, path: &str) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match beneath::open(&self.overlay, path.as_bytes(), flags) {
            Ok(dir) => Ok(Some(dir)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(Failure::new(
                Exit::Failure,
                format_args!("overlay.shared_paths: {path:?}: in the running version"),
                why,
                "share a directory that no symlink leads to",
            )),
        }
    }
}

fn make_one(
    inside: &Context,
    path: &str,
    running: Option<&Running>,
    made: &mut Made,
) -> Result<()> {
    let target = inside.layout.shared(path);
    if target.symlink_metadata().is_ok() {
        if op_dbus_btrfs::is_subvolume(&target)? {
            return Ok(());
        }
        return Err(Failure::new(
            Exit::Store,
            format_args!("overlay.shared_paths: {path:?}"),
            format_args!(
                "in the store, {} is not a subvolume",
                target.file_name().unwrap_or_default().to_string_lossy()
            ),
            "move it away, then run the command again",
        ));
    }
    let mut hidden = std::ffi::OsString::from(".new-");
    hidden.push(target.file_name().unwrap_or_default());
    let hidden = target.with_file_name(hidden);
    if hidden.symlink_metadata().is_ok() {
        op_dbus_btrfs::delete_subvolume(&hidden)?;
    }
    let source = running.map(|running| running.open(path)).transpose()?;
    op_dbus_btrfs::create_subvolume(&hidden)?;
    let counts = match fill(&hidden, path, running, source.flatten()) {
        Ok(counts) => counts,
        Err(why) => {
            // The error of copying is the one to report; the next run clears it too.
            let _ = op_dbus_btrfs::delete_subvolume(&hidden);
            return Err(Failure::new(
                Exit::Failure,
                format_args!("overlay.shared_paths: {path:?}: copy what is there"),
                why,
                "see to it, then run the command again",
            ));
        }
    };
    // Complete before it has its name: a boot mounts whatever has it.
    op_dbus_btrfs::sync_filesystem(&hidden)?;
    fs::rename(&hidden, &target).map_err(|why| Failure::io(target.display(), why))?;
    op_dbus_btrfs::sync_filesystem(&target)?;
    made.push(format!("shared path {path}"));
    if counts.files > 0 {
        inside.warn(format!(
            "{path}: {} files were copied as they are now; what is written there before the next boot stays behind in the overlay: stop what uses it, and reboot",
            counts.files
        ));
    }
    if counts.skipped > 0 {
        inside.warn(format!(
            "{path}: {} sockets and devices were not copied",
            counts.skipped
        ));
    }
    Ok(())
}

fn fill(
    hidden: &Path,
    path: &str,
    running: Option<&Running>,
    source: Option<OwnedFd>,
) -> io::Result<Counts> {
    let (Some(running), Some(source)) = (running, source) else {
        return Ok(Counts::default());
    };
    let layers = Layers::open(&running.layers, path);
    let target = op_dbus_btrfs::open_dir(hidden).map_err(|why| why.source)?;
    copy_tree(&source, &target, &layers)
}
