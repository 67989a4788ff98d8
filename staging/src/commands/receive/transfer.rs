//! The pass itself: from a stream's file to a checked subvolume, and on to a
//! published version.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use op_dbus_bootstate::receipt::Receipt;
use op_dbus_release::chunks::{ChunkError, Verified};
use op_dbus_release::manifest::{Allow, Stream};
use op_dbus_release::tree::{self, Cache, Privileged};
use op_dbus_sendstream::{Begin, Destination, Incoming as Parsed, Policy, StreamError};

use super::incoming::Incoming;
use super::interrupt::Interrupt;
use super::source::Reader;
use super::{Run, publish, read_first, space};
use crate::error::{Exit, Failure, Result};
use crate::progress::Word;
use crate::signed::Signed;

/// What to do after a stream was refused.
const AGAIN: &str = "nothing was kept; fetch the release again";
/// What to do when the disk does not give back what was written.
const MEDIUM: &str = "nothing was kept; check the medium (journalctl -k), then run the command again, or take the full stream";

/// A stream's file, the first part of which may have been read already.
pub(crate) struct Input {
    what: PathBuf,
    first: Vec<u8>,
    rest: Reader,
}

/// One transfer.
pub(crate) struct Transfer<'t, 'c> {
    pub(crate) run: &'t Run<'c>,
    pub(crate) signed: &'t Signed,
    pub(crate) stream: &'t Stream,
    /// What the stream builds on.
    pub(crate) parent: Option<OwnedFd>,
    /// Rules that were overridden, for the audit log.
    pub(crate) overridden: &'static str,
}

impl Input {
    /// A file of which is known which stream it is to be.
    pub(crate) fn of(file: File, what: &Path, interrupt: &Interrupt) -> Self {
        Self {
            what: what.to_owned(),
            first: Vec::new(),
            rest: Reader::new(file, interrupt.clone()),
        }
    }

    /// Finds out by its first chunk which of a manifest's streams a file is.
    pub(crate) fn recognise<'s>(
        file: File,
        what: &Path,
        signed: &'s Signed,
        interrupt: &Interrupt,
    ) -> Result<(&'s Stream, Self)> {
        let mut input = Self::of(file, what, interrupt);
        input.first = read_first(&mut input.rest, signed.manifest.chunk_size)
            .map_err(|why| Failure::io(format_args!("{}: read", what.display()), why))?;
        match signed.manifest.stream_by_first_chunk(&input.first) {
            Some(stream) => Ok((stream, input)),
            None => Err(unrecognised(what, signed)),
        }
    }
}

/// By its name it may be known what it should be.
pub(crate) fn unrecognised(what: &Path, signed: &Signed) -> Failure {
    let name = what.file_name().unwrap_or_default().to_string_lossy();
    let version = &signed.manifest.version;
    let why = if signed.manifest.stream_by_file(&name).is_some() {
        format!(
            "does not begin as the manifest of {version} says: it was altered, cut off, or is of another build"
        )
    } else {
        format!("is none of the streams in the manifest of {version}")
    };
    Failure::new(Exit::Verification, what.display(), why, AGAIN)
}

/// What a manifest allows a stream to hold. Which paths is checked on the tree.
pub(crate) fn policy(allow: &Allow) -> Policy {
    Policy {
        devices: !allow.devices.is_empty(),
        setuid: !allow.setuid.is_empty(),
        capabilities: !allow.capabilities.is_empty(),
        ..Policy::default()
    }
}

/// That a stream is about what its manifest says.
pub(crate) fn agrees(begin: &Begin, stream: &Stream) -> std::result::Result<(), String> {
    if begin.uuid != stream.uuid.0 {
        return Err("it is of another subvolume than the manifest says".to_owned());
    }
    let found = begin.parent.as_ref().map(|parent| parent.uuid);
    let wanted = stream.parent.as_ref().map(|parent| parent.uuid.0);
    if found != wanted {
        return Err("it builds on another subvolume than the manifest says".to_owned());
    }
    Ok(())
}

/// Why a stream could not be read to its end: the medium it comes from, or itself.
pub(crate) fn failure(what: &Path, why: &StreamError) -> Failure {
    let refuse =
        |why: &dyn std::fmt::Display| Failure::new(Exit::Verification, what.display(), why, AGAIN);
    let Some(error) = why.as_io() else {
        return refuse(why);
    };
    match ChunkError::of(error) {
        Some(ChunkError::Read { why, .. } | ChunkError::Begin(why)) => {
            Failure::io(format_args!("{}: read", what.display()), same(why))
        }
        Some(chunk) => refuse(chunk),
        // Whatever else the file system can't do (a name that exists, a missing
        // directory), another stream would not have asked for.
        None if !is_medium(error) => refuse(why),
        None => Failure::io(what.display(), same(error)),
    }
}

/// Whether it is the disk that failed, and not what was asked of it.
fn is_medium(error: &io::Error) -> bool {
    use io::ErrorKind;
    let io = rustix::io::Errno::IO.raw_os_error();
    error.raw_os_error() == Some(io)
        || matches!(
            error.kind(),
            ErrorKind::StorageFull
                | ErrorKind::QuotaExceeded
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::OutOfMemory
        )
}

/// The same error once more: errors can't be copied.
fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl Transfer<'_, '_> {
    /// Applies, checks, publishes. The area, and what it holds, is gone when
    /// this returns.
    pub(crate) fn complete(self, input: Input, incoming: &Incoming) -> Result<Receipt> {
        let version = &self.signed.manifest.version;
        let area = incoming.area(version.as_str())?;
        let configured = self.run.settings.headroom_mib;
        let floor = space::floor(space::headroom(incoming.size(), configured));
        self.apply(input, area.path(), floor)?;
        self.run.done("apply");
        let path = area.path().join(version.as_str());
        self.check(area.path(), &path, floor)?;
        self.run.interrupt.check()?;
        let progress = self.run.progress;
        let _phase = progress.step(Word::Publishing, "publishing it", None);
        let receipt = publish::publish(self.run.context, self.signed, &path, &self.detail())?;
        self.run.done("publish");
        Ok(receipt)
    }

    fn apply(&self, input: Input, area: &Path, floor: u64) -> Result<()> {
        let manifest = &self.signed.manifest;
        let Input { what, first, rest } = input;
        let stream = self.stream;
        let doing = match &stream.parent {
            Some(parent) => format!("receiving {} on {}", manifest.version, parent.version),
            None => format!("receiving {}", manifest.version),
        };
        let phase = self
            .run
            .progress
            .step(Word::Receiving, doing, Some(stream.size));
        let meter = phase.meter();
        meter.add(first.len() as u64);
        let source = io::Cursor::new(first).chain(rest.measured(meter));
        let source = space::Watched::new(source, area, floor);
        let verified = Verified::new(source, stream, manifest.chunk_size);
        let fail = |why: StreamError| failure(&what, &why);
        let parsed = Parsed::open(verified, &policy(&manifest.allow)).map_err(fail)?;
        agrees(parsed.begin(), stream)
            .map_err(|why| Failure::new(Exit::Verification, what.display(), why, AGAIN))?;
        let area = op_dbus_btrfs::open_dir(area)?;
        let destination = Destination {
            area: area.as_fd(),
            name: OsStr::new(manifest.version.as_str()),
            parent: self.parent.as_ref().map(OwnedFd::as_fd),
        };
        parsed.apply(&destination).map_err(fail)?;
        Ok(())
    }

    /// Commits what was received and checks it: the one subvolume, read-only,
    /// marked as received; its content; and what in it is privileged. And that the
    /// system has its room now that all of it is on the disk.
    fn check(&self, area: &Path, path: &Path, floor: u64) -> Result<()> {
        let phase = self
            .run
            .progress
            .step(Word::Writing, "writing to the disk", None);
        op_dbus_btrfs::sync_filesystem(area)?;
        drop(phase);
        self.run.done("sync");
        space::require(area, floor).map_err(|why| Failure::io(&self.stream.file, why))?;
        self.run.interrupt.check()?;
        let refuse = |why: &dyn std::fmt::Display| {
            Failure::new(Exit::Verification, &self.stream.file, why, AGAIN)
        };
        let info = op_dbus_btrfs::info_of(path)?;
        if !info.is_read_only() || info.received_uuid != self.stream.uuid.0 {
            return Err(refuse(&"the subvolume was not received completely"));
        }
        let privileged = self.privileged(path)?;
        self.run.done("read-back");
        let allow = &self.signed.manifest.allow;
        allow.permits(&privileged).map_err(|why| refuse(&why))
    }

    /// Reads the tree back, unless the operator does without.
    fn privileged(&self, path: &Path) -> Result<Vec<Privileged>> {
        let fail = |why: tree::TreeError| {
            // Without the kernel's word it is the tree that is beyond a limit.
            let remedy = match why.source.raw_os_error() {
                Some(_) => MEDIUM,
                None => AGAIN,
            };
            let why = format!("what was received can't be read back: {why}");
            Failure::new(Exit::Verification, &self.stream.file, why, remedy)
        };
        if self.run.args.no_read_back {
            return tree::survey(path).map_err(fail);
        }
        let _phase =
            self.run
                .progress
                .step(Word::ReadingBack, "reading it back from the disk", None);
        let found = tree::digest(path, Cache::Drop).map_err(fail)?;
        let wanted = &self.signed.manifest.tree;
        if found.tree == *wanted {
            return Ok(found.privileged);
        }
        Err(Failure::new(
            Exit::Verification,
            &self.stream.file,
            format_args!(
                "what the disk holds has digest {}, {} bytes and {} entries; the manifest says {}, {} and {}",
                found.tree.digest.short(),
                found.tree.bytes,
                found.tree.entries,
                wanted.digest.short(),
                wanted.bytes,
                wanted.entries,
            ),
            MEDIUM,
        ))
    }

    /// For the audit log.
    fn detail(&self) -> String {
        let read_back = if self.run.args.no_read_back {
            "not read back (--no-read-back)"
        } else {
            "read back"
        };
        let manifest = &self.signed.manifest;
        format!(
            "{} bytes, epoch {}, signed by {}, {read_back}{}",
            manifest.tree.bytes, manifest.epoch, self.signed.signer.fingerprint, self.overridden
        )
    }
}
