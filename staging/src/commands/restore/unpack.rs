//! Overlays and logs, out of the backup into `incoming/`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use op_dbus_backup::{BackupError, Entry, Reader};
use op_dbus_sendstream::{Destination, Incoming, Policy};

use super::plan::Wanted;
use crate::auditlog;
use crate::backup::contents::{Contents, Held, Source, stream_error};
use crate::backup::failure;
use crate::backup::gather::overlay_version;
use crate::backup::member::Member;
use crate::cli::backup::Restore;
use crate::commands::backup::size;
use crate::commands::receive::{Interrupt, headroom};
use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::progress::Progress;
use crate::settings::Settings;

/// What a command of a stream costs on the disk at most, about: an inode with its
/// names takes some five of them.
const COMMAND: u64 = 1024;
/// Checksums and extent items, as a part of the content.
const CONTENT_PART: u64 = 128;

/// A stream of the backup that is to be unpacked.
#[derive(Debug)]
pub(super) struct Chosen<'c> {
    /// Which one.
    pub(super) held: &'c Held,
    /// What it is called in the area.
    pub(super) name: OsString,
}

/// What lies unpacked in the area.
#[derive(Debug)]
pub(super) struct Unpacked<'c> {
    /// Subvolumes, read-only.
    pub(super) streams: Vec<(&'c Held, PathBuf)>,
    /// Logs, with the name they are to have.
    pub(super) logs: Vec<(PathBuf, String)>,
}

/// The streams to unpack: what versions share, and what belongs to a version that
/// comes back.
pub(super) fn choose<'c>(contents: &'c Contents, wanted: &[Wanted]) -> Vec<Chosen<'c>> {
    let is_wanted = |held: &&Held| is_wanted(&held.stream.place, wanted);
    let chosen = contents.streams.iter().filter(is_wanted).enumerate();
    chosen
        .map(|(number, held)| Chosen {
            held,
            name: format!("{number:04}").into(),
        })
        .collect()
}

/// Whether what was at a place comes back.
pub(super) fn is_wanted(place: &str, wanted: &[Wanted]) -> bool {
    match place.strip_prefix("overlays/") {
        Some(name) => {
            let version = overlay_version(name);
            wanted
                .iter()
                .any(|one| Some(&one.version) == version.as_ref())
        }
        None => true,
    }
}

/// That the streams fit, with something left for the running system.
pub(super) fn require_space(context: &Context, chosen: &[Chosen<'_>]) -> Result<()> {
    let store = &context.layout.store;
    let found = rustix::fs::statvfs(store).map_err(|why| Failure::io(store.display(), why))?;
    let settings = Settings::load(context)?;
    let filesystem = found.f_blocks.saturating_mul(found.f_frsize);
    let available = found.f_bavail.saturating_mul(found.f_frsize);
    let reserved = headroom(filesystem, settings.headroom_mib);
    let needed = chosen.iter().map(|one| {
        let bytes = one.held.content;
        bytes
            .saturating_add(bytes / CONTENT_PART)
            .saturating_add(one.held.commands.saturating_mul(COMMAND))
    });
    let needed = needed.fold(0, u64::saturating_add);
    if available >= needed.saturating_add(reserved) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::NoSpace,
        store.display(),
        format_args!(
            "the backup's overlays need about {}, and {} are kept free for the running system, but the store has {} left",
            size(needed),
            size(reserved),
            size(available)
        ),
        "make the store's file system larger, or lower [receive] headroom_mib",
    ))
}

/// Reads the backup once more and unpacks it. What this returns is what was
/// checked before, to the last bit.
pub(super) fn unpack<'c>(
    context: &Context,
    args: &Restore,
    contents: &Contents,
    chosen: &[Chosen<'c>],
    file: File,
    interrupt: &Interrupt,
    area: &Path,
) -> Result<Unpacked<'c>> {
    let length = file.metadata().map(|found| found.len()).ok();
    let phase = Progress::new(context).phase("unpacking overlays", length);
    let source = Source::new(file, phase.meter(), interrupt.clone());
    let digest = contents.digest.to_string();
    let mut unpacked = Unpacked {
        streams: Vec::new(),
        logs: Vec::new(),
    };
    let run = || -> op_dbus_backup::Result<Unpacked<'c>> {
        let mut reader = Reader::new(source)?;
        let mut numbers = chosen.iter();
        let mut next = numbers.next();
        while let Some(entry) = reader.next_entry()? {
            match entry {
                Entry::File(name, _) => {
                    if let Some(Member::Log(log)) = Member::parse(&name) {
                        unpacked
                            .logs
                            .extend(keep(&mut reader, &log, &digest, area)?);
                    }
                }
                Entry::Stream(name) => {
                    if let Some(one) = next.filter(|one| one.held.stream.member == name) {
                        apply(&mut reader, one, area)?;
                        unpacked.streams.push((one.held, area.join(&one.name)));
                        next = numbers.next();
                    }
                }
            }
        }
        if reader.finish()? != contents.digest || next.is_some() {
            return Err(BackupError::Damaged(
                "it changed while it was being restored".to_owned(),
            ));
        }
        Ok(unpacked)
    };
    let unpacked = run().map_err(|why| failure(&args.file, &why))?;
    let _phase = Progress::new(context).phase("writing to the disk", None);
    op_dbus_btrfs::sync_filesystem(area)?;
    Ok(unpacked)
}

/// Applies one stream, to a subvolume of its own.
fn apply<R: io::Read>(
    reader: &mut Reader<R>,
    one: &Chosen<'_>,
    area: &Path,
) -> op_dbus_backup::Result<()> {
    let dir = op_dbus_btrfs::open_dir(area).map_err(|why| BackupError::Io(why.source))?;
    let destination = Destination {
        area: dir.as_fd(),
        name: &one.name,
        parent: None,
    };
    let applied = Incoming::open(reader.content(), &Policy::overlay())
        .and_then(|incoming| incoming.apply(&destination));
    match applied {
        Ok(_) => Ok(()),
        Err(why) => Err(match why.problem {
            op_dbus_sendstream::Problem::Apply { source, .. } => BackupError::Io(source),
            _ => stream_error(reader, &one.held.stream.place, &why),
        }),
    }
}

/// Copies a log out of the backup.
fn keep<R: io::Read>(
    reader: &mut Reader<R>,
    log: &str,
    digest: &str,
    area: &Path,
) -> op_dbus_backup::Result<Option<(PathBuf, String)>> {
    let Some(name) = auditlog::kept_name(log, digest) else {
        return Ok(None);
    };
    let path = area.join(&name);
    // The area is this run's own: what is there already is a segment before this one.
    let is_first = !path.try_exists()?;
    let mut file = File::options()
        .append(true)
        .create_new(is_first)
        .mode(0o600)
        .open(&path)?;
    let copied = io::copy(&mut reader.content(), &mut file);
    copied.map_err(|why| reader.failed(&why))?;
    file.sync_all()?;
    Ok(is_first.then_some((path, name)))
}
