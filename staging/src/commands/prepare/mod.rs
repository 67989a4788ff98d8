//! `prepare`: the store, its record, the mount points and the configuration.
//!
//! Everything is made through a mount of the file system's top level that is
//! attached nowhere ([`toplevel`]), so nothing stays mounted however this ends.
//! Only the last step attaches something: the store, at its place. What is there
//! already is left as it is, so a second run has nothing to do.

mod checks;
mod configuration;
mod copy;
mod device;
mod keys;
mod mount;
mod shared;
mod store;
mod toplevel;
mod way;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use op_dbus_activator::config::{Config, Way};

use crate::cli::device as cli;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};
use crate::settings::Settings;
use crate::settings::audit::Audit;
use crate::settings::metrics::Metrics;

use toplevel::TopLevel;

/// What was made, in the order of making.
type Made = Vec<String>;

/// Runs the command.
pub(crate) fn run(context: &Context, args: &cli::Prepare) -> Result<Exit> {
    Context::require_root()?;
    let keys = keys::read(args)?;
    let existing = configuration::existing(context)?;
    let filesystem = device::find(context, args, existing.as_ref())?;
    let (config, text) = configuration::wanted(context, args, existing.as_ref(), &filesystem)?;

    let mut made = Made::new();
    let top = TopLevel::open(&filesystem)?;
    store::make(context, &top, &config.store.subvolume, &mut made)?;
    for point in [&config.mounts.lower, &config.mounts.overlay] {
        mount_point(context, point, &mut made)?;
    }
    configuration::write(context, existing.as_ref(), &text, &mut made)?;
    store::reserve(context, &top, &config.store.subvolume, &mut made)?;
    shared::make(context, &top, &config, &mut made)?;
    let settings = Settings::load(context)?;
    Metrics::load(context)?;
    Audit::load(context)?;
    keys::make(context, &settings, &keys, &mut made)?;
    if !args.no_mount {
        mount::store(context, &top, &config, &mut made)?;
    }
    checks::warn(context, &config);
    checks::warn_of_keys(context, &settings);

    let result = if made.is_empty() {
        "nothing-to-do"
    } else {
        "prepared"
    };
    let way = match config.activation.way {
        Way::Initrd => "initrd",
        Way::Generator => "generator",
    };
    let mut report = Report::new("prepare", result)
        .object("made", &made)
        .field("device", config.store.device.to_string())
        .field("subvolume", config.store.subvolume.as_str())
        .field("way", way);
    for what in &made {
        report = report.line(format!("made {what}"));
    }
    let report = if made.is_empty() {
        report.line("Nothing to do: the store is prepared.")
    } else {
        report.line(next(&config))
    };
    context.print(&report)?;
    Ok(Exit::Done)
}

fn next(config: &Config) -> &'static str {
    match config.activation.way {
        Way::Initrd => {
            "Next: bring the initramfs up to date (dracut --force), then receive a version: op-dbus-stage receive FILE"
        }
        Way::Generator => "Next: receive a version: op-dbus-stage receive FILE",
    }
}

/// A directory to mount on. In the initramfs the root is read-only, so it must
/// be there beforehand.
fn mount_point(context: &Context, point: &Path, made: &mut Made) -> Result<()> {
    let path = context.layout.host(point);
    match path.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::new(
            Exit::Failure,
            path.display(),
            "is not a directory, but a version is to be mounted there",
            "move it away, or set other [mounts] in the configuration",
        )),
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            make_dir(&path, 0o755)?;
            made.push(format!("mount point {}", point.display()));
            Ok(())
        }
        Err(why) => Err(Failure::io(path.display(), why)),
    }
}

/// Makes a directory and its parents.
fn make_dir(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|why| Failure::io(format_args!("{}: create directory", path.display()), why))
}
