//! `backup create FILE`.
//!
//! The snapshots are taken under the store's lock, in a moment; the device goes
//! on while they are written. What was written is read back from the disk and
//! checked as `backup verify` does before it gets its name.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;

use nix::fcntl::OFlag;
use op_dbus_backup::{BackupError, Digest, INFO, StreamWriter, Writer};
use op_dbus_sendstream::walk::Walker;
use op_dbus_sendstream::wire::{Attr, Command};

use super::size;
use crate::backup::area::Area;
use crate::backup::contents::Contents;
use crate::backup::failure;
use crate::backup::gather::{Gathered, Small, gather};
use crate::backup::output::{self, Guarded, Pending, Room};
use crate::cli::backup::Create;
use crate::commands::receive::{Interrupt, headroom};
use crate::context::{self, Context, Report};
use crate::error::{Exit, Failure, Result};
use crate::progress::{Meter, Progress};
use crate::settings::Settings;

/// `OVERLAYFS_SUPER_MAGIC`, as `statfs` reports it.
const OVERLAYFS: u64 = 0x794C_7630;

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Create) -> Result<Exit> {
    Context::require_root()?;
    context.require_store()?;
    let interrupt = Interrupt::install()?;
    let name = &args.file;
    let pending = if name == Path::new("-") {
        None
    } else {
        Some(Pending::create(name)?)
    };
    let file = match &pending {
        Some(pending) => pending.handle()?,
        None => output::stdout()?,
    };
    let room = room(context, &file)?;
    if room.is_some() {
        context.warn(format!(
            "{} is in the store's own file system, or in an overlay: it may not outlive the store",
            name.display()
        ));
    }
    let area = Area::make(&context.layout)?;
    let gathered = gather(context, &area)?;
    let guarded = Guarded::new(file, name, room, interrupt.clone());
    let (guarded, digest) = write(context, gathered, guarded).map_err(|why| failure(name, &why))?;
    let written = guarded.written;
    drop(guarded);
    drop(area);
    let Some(pending) = pending else {
        // Standard output has the backup itself.
        if context.json {
            let object = serde_json::json!({ "digest": digest.to_string(), "bytes": written });
            context::say_plainly(&object.to_string());
        } else {
            context::say(&format!("wrote {}, digest {digest}", size(written)));
        }
        return Ok(Exit::Done);
    };
    let contents = super::read(
        context,
        name,
        pending.sync()?,
        &interrupt,
        "checking what was written",
    )?;
    if contents.digest != digest {
        return Err(Failure::new(
            Exit::Verification,
            name.display(),
            "the disk does not hold what was written",
            "check the medium (journalctl -k), and write the backup to another one",
        ));
    }
    pending.publish()?;
    context.print(&report(name, written, &contents))?;
    Ok(Exit::Done)
}

/// What must stay free, if the backup goes to the store's file system.
fn room(context: &Context, file: &File) -> Result<Option<Room>> {
    let store = op_dbus_btrfs::open_dir(&context.layout.store)?;
    let uuid = |fd| op_dbus_btrfs::filesystem_uuid(fd).unwrap_or_default();
    let own = uuid(store.as_fd());
    let is_own = own.is_some() && uuid(file.as_fd()) == own;
    // An overlay shows the room of what it writes to, which may well be the store.
    let is_overlay = rustix::fs::fstatfs(file)
        .is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|magic| magic == OVERLAYFS));
    if !is_own && !is_overlay {
        return Ok(None);
    }
    let fail = |why: rustix::io::Errno| Failure::io(context.layout.store.display(), why);
    let found = rustix::fs::fstatvfs(&store).map_err(fail)?;
    let filesystem = found.f_blocks.saturating_mul(found.f_frsize);
    // A mistake in the configuration is no reason to have no backup.
    let settings = Settings::load(context).unwrap_or_default();
    Ok(Some(Room {
        headroom: headroom(filesystem, settings.headroom_mib),
    }))
}

fn report(name: &Path, written: u64, contents: &Contents) -> Report {
    let report = Report::new("backup-create", "created")
        .field("file", name.to_string_lossy())
        .field("bytes", written);
    let overlays = contents.streams.len();
    super::summary(report, contents)
        .line(format!(
            "{} ({}) holds everything of this device but the versions themselves; overlays and shared directories: {overlays}.",
            name.display(),
            size(written)
        ))
        .line(format!("Digest: {}", contents.digest))
        .line("Keep it away from this device, with the signed releases of its versions: what is in it is not encrypted.")
}

/// Writes all of it.
fn write(
    context: &Context,
    gathered: Gathered,
    guarded: Guarded,
) -> op_dbus_backup::Result<(Guarded, Digest)> {
    let progress = Progress::new(context);
    let mut total = None;
    if progress.shows_what_is_left() {
        let _phase = progress.phase("looking at the overlays", None);
        let lengths = gathered.snapshots.iter().map(|path| length(path));
        total = lengths.sum();
    }
    let phase = progress.phase("writing the backup", total);
    let mut writer = Writer::new(guarded)?;
    writer.file(INFO, &gathered.info.encode()?)?;
    for (name, small) in gathered.small {
        match small {
            Small::Bytes(bytes) => writer.file(&name, &bytes)?,
            Small::Open(file, length) => writer.copy(&name, length, file)?,
        }
    }
    for (stream, snapshot) in gathered.info.streams.iter().zip(&gathered.snapshots) {
        let mut out = writer.stream(&stream.member)?;
        send(snapshot, &mut out, &phase.meter())?;
        out.finish()?;
    }
    writer.finish()
}

/// Has the kernel send a snapshot.
fn sending<T>(
    snapshot: &Path,
    with_data: bool,
    read: impl FnOnce(File) -> io::Result<T>,
) -> io::Result<T> {
    let subvolume = op_dbus_btrfs::open_dir(snapshot).map_err(|why| why.source)?;
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    thread::scope(|scope| {
        // When this side ends early, the kernel's write fails, and so does the call.
        let sender = scope.spawn(move || op_dbus_btrfs::send(&subvolume, &theirs, with_data));
        let result = read(File::from(ours));
        let sent = sender
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("sending ended unexpectedly")));
        // What it was stopped by says more than that it was stopped.
        let result = result?;
        sent?;
        Ok(result)
    })
}

fn send<W: io::Write>(
    snapshot: &Path,
    out: &mut StreamWriter<'_, W>,
    meter: &Meter,
) -> op_dbus_backup::Result<()> {
    let copied = sending(snapshot, true, |pipe| {
        io::copy(&mut Measured(pipe, meter), out)
    });
    copied.map(drop).map_err(BackupError::Io)
}

/// About how long a stream will be. None: it can't be told, and the stream itself
/// will say why.
fn length(snapshot: &Path) -> Option<u64> {
    let measured = sending(snapshot, false, |pipe| {
        let mut walker = Walker::new(BufReader::new(pipe)).map_err(io::Error::other)?;
        let mut bytes: u64 = 0;
        loop {
            let frame = walker.next_frame().map_err(io::Error::other)?;
            bytes = bytes.saturating_add(frame.raw.len() as u64);
            match frame.parsed.command {
                Command::UpdateExtent => {
                    let size = frame.parsed.u64(Attr::Size).map_err(io::Error::other)?;
                    bytes = bytes.saturating_add(size);
                }
                Command::End => return Ok(bytes),
                _ => {}
            }
        }
    });
    measured.ok()
}

/// Counts what is read.
struct Measured<'m>(File, &'m Meter);

impl Read for Measured<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.add(count as u64);
        Ok(count)
    }
}
