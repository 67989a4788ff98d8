//! What a caller hands over: open files, never paths.
//!
//! A path would be opened by root: a caller could have any file of the system
//! looked at, and find parts of it in an error, or have a device or a FIFO
//! opened. A descriptor holds only what its caller could open. It is used as it
//! is, and never opened anew by way of /proc, which would ask root's rights again:
//! anybody may hold an `O_PATH` descriptor of a file they can't read.
//!
//! Even to look at a file may mean to wait for whoever serves its file system, and
//! that may be the caller. So all of it happens in a thread that can be given up.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fstatfs};

use super::error::{Error, Result};

/// Most bytes of a manifest: what `op-dbus-stage` takes, and one more, so that it
/// is the one to refuse a longer one.
const MANIFEST_MAX: u64 = (4 << 20) + 1;
/// Likewise of a signature.
const SIGNATURE_MAX: u64 = (64 << 10) + 1;
/// How long the files' file system may take for all of it.
const ANSWER: Duration = Duration::from_secs(10);
/// `f_type` of FUSE (statfs(2)).
const FUSE: i128 = 0x6573_5546;

/// What a caller handed over.
#[derive(Debug)]
pub struct Given {
    /// A release's manifest.
    pub manifest: OwnedFd,
    /// Its signature.
    pub signature: OwnedFd,
    /// One of its streams.
    pub stream: OwnedFd,
}

/// Looks at what was handed over, and copies manifest and signature below
/// `parent`, a directory that only root can enter: the caller may go on writing to
/// the files. Returns the copies, and the stream as it is.
pub fn take(parent: &Path, given: Given) -> Result<(Release, OwnedFd)> {
    take_within(parent.to_owned(), given, ANSWER)
}

fn take_within(parent: PathBuf, given: Given, limit: Duration) -> Result<(Release, OwnedFd)> {
    let (send, taken) = mpsc::channel();
    // Not joined: what waits for a file system ends with that, or with the service.
    thread::spawn(move || {
        let take = || {
            let stream = stream(given.stream)?;
            let release = Release::copy(&parent, given.manifest, given.signature)?;
            Ok((release, stream))
        };
        // Where nobody waits for it any more, the copies go with it.
        let _ = send.send(take());
    });
    let taken = taken.recv_timeout(limit);
    taken.unwrap_or_else(|_| {
        Err(unusable(
            "receive",
            &"the files' file system does not answer",
        ))
    })
}

/// A release's manifest and signature, copied into a directory of our own, which
/// goes when this is dropped.
#[derive(Debug)]
pub struct Release {
    directory: PathBuf,
}

/// In front of the directories' names; a number follows.
const COPIES: &str = "receive-";

impl Release {
    fn copy(parent: &Path, manifest: OwnedFd, signature: OwnedFd) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let manifest = regular("manifest", manifest)?;
        let signature = regular("signature", signature)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = parent.join(format!("{COPIES}{number}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&directory);
        made.map_err(|why| {
            Error::failed(format!("{}: {why}; see journalctl -b", directory.display()))
        })?;
        let made = Self { directory };
        copy("manifest", &manifest, &made.manifest(), MANIFEST_MAX)?;
        let mut beside = made.manifest().into_os_string();
        beside.push(".asc");
        copy("signature", &signature, Path::new(&beside), SIGNATURE_MAX)?;
        Ok(made)
    }

    /// The copy of the manifest; that of the signature is beside it.
    pub fn manifest(&self) -> PathBuf {
        self.directory.join("release.json")
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if let Err(why) = fs::remove_dir_all(&self.directory) {
            eprintln!("op-dbus-agent: {}: remove: {why}", self.directory.display());
        }
    }
}

/// A stream: a regular file, which is read from where the caller has read it to,
/// or a pipe.
fn stream(fd: OwnedFd) -> Result<OwnedFd> {
    let file = readable("stream", fd)?;
    let kind = file
        .metadata()
        .map_err(|why| unusable("stream", &why))?
        .file_type();
    if kind.is_file() || kind.is_fifo() {
        return Ok(file.into());
    }
    Err(unusable("stream", &"neither a regular file nor a pipe"))
}

fn regular(what: &str, fd: OwnedFd) -> Result<File> {
    let file = readable(what, fd)?;
    match file.metadata() {
        Ok(found) if found.is_file() => Ok(file),
        Ok(_) => Err(unusable(what, &"not a regular file")),
        Err(why) => Err(unusable(what, &why)),
    }
}

/// That it can be read without anybody's leave. A read from FUSE waits for a
/// program of the caller's, and can't be ended by a signal once that has begun to
/// answer: one call would hold everybody up, root too.
fn readable(what: &str, fd: OwnedFd) -> Result<File> {
    let flags = fcntl_getfl(&fd).map_err(|why| unusable(what, &why))?;
    if flags.contains(OFlags::PATH) || flags.contains(OFlags::WRONLY) {
        return Err(unusable(what, &"not open for reading"));
    }
    let system = fstatfs(&fd).map_err(|why| unusable(what, &why))?;
    if i128::from(system.f_type) == FUSE {
        return Err(unusable(
            what,
            &"on a FUSE file system; copy it to another one, or pass a pipe as the stream",
        ));
    }
    Ok(File::from(fd))
}

fn unusable(what: &str, why: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("{what}: {why}"))
}

/// From the file's beginning, wherever the caller has read it to.
fn copy(what: &str, from: &File, to: &Path, limit: u64) -> Result<()> {
    let failed = |why: io::Error| Error::failed(format!("{}: {why}", to.display()));
    let mut to_file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(failed)?;
    let mut chunk = vec![0; 64 << 10];
    let mut at = 0;
    while at < limit {
        let count = match from.read_at(&mut chunk, at) {
            Ok(0) => break,
            Ok(count) => count,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(unusable(what, &why)),
        };
        to_file
            .write_all(chunk.get(..count).unwrap_or_default())
            .map_err(failed)?;
        at += count as u64;
    }
    Ok(())
}

/// Makes the directory that only root can enter, and clears away what a service
/// that was killed has left in it.
pub fn private(directory: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let found = fs::symlink_metadata(directory)?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions());
    if !found.is_dir() || mode & 0o777 != 0o700 {
        return Err(io::Error::other(
            "is there, and not a directory of mode 0700; remove it",
        ));
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(COPIES) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
