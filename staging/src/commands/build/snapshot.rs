//! `snapshot VERSION`: freezes golden as a version.

use std::fs;
use std::io;

use super::area::{Area, Use};
use super::check;
use crate::cli::build::Snapshot;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Snapshot) -> Result<Exit> {
    Context::require_root()?;
    let area = Area::new(&args.place);
    area.require()?;
    let _lock = area.lock(Use::Shared)?;
    let path = area.version(&args.version);
    if path.symlink_metadata().is_ok() {
        return Err(taken(&path));
    }
    let golden = args.golden.clone().unwrap_or_else(|| area.golden());
    check::require(&golden, &args.expect)?;
    let versions = area.versions();
    match fs::create_dir(&versions) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Failure::io(
                format_args!("{}: create directory", versions.display()),
                why,
            ));
        }
        _ => {}
    }
    // The kernel makes it in one step and never over something else.
    op_dbus_btrfs::snapshot(&golden, &path, true).map_err(|why| match why.source.kind() {
        io::ErrorKind::AlreadyExists => taken(&path),
        io::ErrorKind::CrossesDevices => Failure::new(
            Exit::Refused,
            golden.display(),
            format_args!("is on another file system than {}", versions.display()),
            "a snapshot stays on its file system: name a build directory beside it, --build DIR",
        ),
        _ => why.into(),
    })?;
    op_dbus_btrfs::sync_filesystem(&path)?;
    let frozen = area.frozen(&args.version)?;
    let report = Report::new("snapshot", "frozen")
        .field("version", args.version.as_str())
        .field("path", path.to_string_lossy())
        .object("uuid", &frozen.sent_uuid())
        .line(format!("{} is frozen: {}", args.version, path.display()))
        .line(format!("Next: op-dbus-stage send {}", args.version));
    context.print(&report)?;
    Ok(Exit::Done)
}

fn taken(path: &std::path::Path) -> Failure {
    Failure::new(
        Exit::Refused,
        path.display(),
        "is there already, and a version is never replaced",
        "give the release a new version",
    )
}
