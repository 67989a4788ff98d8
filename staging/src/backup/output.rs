//! Where a backup goes: a file that appears whole and durable or not at all, or
//! standard output. Neither eats the room the device needs to run.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use op_dbus_activator::files::open_flags;
use rustix::fs::{Advice, AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::commands::receive::Interrupt;
use crate::error::{Exit, Failure, Result};

/// How often free space is looked at, in bytes written.
const LOOK: u64 = 1 << 20;

/// A file that is being written. Without a name, so that a run that is killed
/// leaves nothing; where a file system has no such files (open(2), `O_TMPFILE`),
/// under a hidden one, which the next run of the same name begins anew.
#[derive(Debug)]
pub(crate) struct Pending {
    path: PathBuf,
    file: File,
    hidden: Option<PathBuf>,
}

impl Pending {
    /// Begins a file that is not there yet.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        refuse_existing(path)?;
        let hidden = hidden(path)?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        match rustix::fs::open(parent(path), flags, mode) {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file: File::from(file),
                hidden: None,
            }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Self::named(path, hidden),
            Err(why) => Err(uncreated(path, why.into())),
        }
    }

    fn named(path: &Path, hidden: PathBuf) -> Result<Self> {
        let fail = |why| uncreated(path, why);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(open_flags(OFlags::NOFOLLOW))
            .open(&hidden)
            .map_err(fail)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(Failure::new(
                    Exit::Locked,
                    path.display(),
                    "another run is writing it",
                    "wait for it to end, or name another file",
                ));
            }
            Err(why) => return Err(fail(why.into())),
        }
        // A killed run's content.
        file.set_len(0).map_err(fail)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            hidden: Some(hidden),
        })
    }

    /// A second handle of the file, to write it with.
    pub(crate) fn handle(&self) -> Result<File> {
        self.file
            .try_clone()
            .map_err(|why| uncreated(&self.path, why))
    }

    /// Writes it out, and lets go of what is cached, so that whoever reads it now
    /// reads the disk.
    pub(crate) fn sync(&self) -> Result<File> {
        let fail = |why: io::Error| Failure::io(format_args!("{}: sync", self.path.display()), why);
        self.file.sync_all().map_err(fail)?;
        // Where the file system has no such advice, the cache will have to do.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        File::open(self.by_descriptor()).map_err(fail)
    }

    /// Gives it its name, durably.
    pub(crate) fn publish(mut self) -> Result<()> {
        let named = match self.hidden.take() {
            None => rustix::fs::linkat(
                CWD,
                self.by_descriptor(),
                CWD,
                &self.path,
                AtFlags::SYMLINK_FOLLOW,
            ),
            Some(hidden) => rename(&hidden, &self.path).inspect_err(|_| {
                let _ = fs::remove_file(&hidden);
            }),
        };
        match named {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(taken(&self.path)),
            Err(why) => {
                let what = format!("{}: give it its name", self.path.display());
                return Err(Failure::io(what, why));
            }
        }
        let dir = parent(&self.path);
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|why| Failure::io(format_args!("{}: sync", dir.display()), why))
    }

    /// A path that leads to the file, whatever its name.
    fn by_descriptor(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

/// Replaces nothing, where the file system can refuse to.
fn rename(from: &Path, to: &Path) -> std::result::Result<(), Errno> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if to.symlink_metadata().is_ok() {
                return Err(Errno::EXIST);
            }
            rustix::fs::rename(from, to)
        }
        done => done,
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            let _ = fs::remove_file(hidden);
        }
    }
}

fn uncreated(path: &Path, why: io::Error) -> Failure {
    match why.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::new(
            Exit::Failure,
            path.display(),
            why,
            "name a file in a directory that is there",
        ),
        _ => Failure::io(format_args!("{}: create", path.display()), why),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn hidden(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Failure::new(
            Exit::Usage,
            path.display(),
            "is no file's name",
            "name a file, or - for standard output",
        ));
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".part");
    Ok(path.with_file_name(hidden))
}

/// The last good backup is not to give way to one of a broken device.
fn refuse_existing(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_char_device() || found.file_type().is_fifo() => {
            Err(Failure::new(
                Exit::Failure,
                path.display(),
                "is no regular file",
                format_args!(
                    "write to standard output: backup create - > {}",
                    path.display()
                ),
            ))
        }
        Ok(_) => Err(taken(path)),
        Err(_) => Ok(()),
    }
}

fn taken(path: &Path) -> Failure {
    Failure::new(
        Exit::Refused,
        path.display(),
        "is there already, and a backup replaces nothing",
        "name another file, or remove it",
    )
}

/// Standard output, unless a person would have to look at it.
pub(crate) fn stdout() -> Result<File> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            "backup create -",
            "standard output is a terminal",
            "redirect it to a file or a program",
        ));
    }
    let fd = stdout.as_fd().try_clone_to_owned();
    Ok(File::from(
        fd.map_err(|why| Failure::io("standard output", why))?,
    ))
}

/// Room that must stay free, where the backup goes to the store's file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Bytes.
    pub(crate) headroom: u64,
}

/// Writes as long as there is room, and the run is not asked to end.
#[derive(Debug)]
pub(crate) struct Guarded {
    file: File,
    what: PathBuf,
    room: Option<Room>,
    interrupt: Interrupt,
    unlooked: u64,
    /// Bytes written.
    pub(crate) written: u64,
}

impl Guarded {
    /// Writes to a file.
    pub(crate) fn new(file: File, what: &Path, room: Option<Room>, interrupt: Interrupt) -> Self {
        Self {
            file,
            what: what.to_owned(),
            room,
            interrupt,
            unlooked: LOOK,
            written: 0,
        }
    }

    fn look(&mut self) -> io::Result<()> {
        if self.interrupt.asked() {
            return Err(io::Error::other(Failure::new(
                Exit::Failure,
                "backup",
                "interrupted by a signal; nothing was kept",
                "run the same command again",
            )));
        }
        let Some(room) = self.room.filter(|_| self.unlooked >= LOOK) else {
            return Ok(());
        };
        self.unlooked = 0;
        // What was written has its place on the disk only once it is written out.
        rustix::fs::fdatasync(&self.file)?;
        let found = rustix::fs::fstatvfs(&self.file)?;
        let available = found.f_bavail.saturating_mul(found.f_frsize);
        if available >= room.headroom.saturating_add(LOOK) {
            return Ok(());
        }
        Err(io::Error::other(Failure::new(
            Exit::NoSpace,
            self.what.display(),
            format_args!(
                "is in the store's own file system, of which {} MiB are kept free for the running system",
                room.headroom >> 20
            ),
            "write the backup elsewhere: to another disk, or with - to another machine",
        )))
    }
}

impl Write for Guarded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.look()?;
        let count = self.file.write(bytes)?;
        self.written = self.written.saturating_add(count as u64);
        self.unlooked = self.unlooked.saturating_add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_with_its_name_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let count = || fs::read_dir(dir.path()).unwrap().count();
        let named = || Pending::named(&path, hidden(&path).unwrap());
        // With a hidden name, where there are no files without any.
        let pending = named().unwrap();
        pending.handle().unwrap().write_all(b"content").unwrap();
        assert_eq!(named().unwrap_err().kind, Exit::Locked);
        assert!(!path.exists());
        drop(pending);
        assert_eq!(count(), 0);
        for number in 0..2 {
            // A killed run's.
            fs::write(dir.path().join(".b.part"), "long rubbish").unwrap();
            let pending = if number == 0 {
                named().unwrap()
            } else {
                Pending::create(&path).unwrap()
            };
            pending.handle().unwrap().write_all(b"content").unwrap();
            let mut text = String::new();
            let mut read = pending.sync().unwrap();
            io::Read::read_to_string(&mut read, &mut text).unwrap();
            assert_eq!(text, "content");
            assert!(!path.exists());
            pending.publish().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"content");
            assert_eq!(Pending::create(&path).unwrap_err().kind, Exit::Refused);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn nothing_gives_way_to_a_backup() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let pending = Pending::create(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert_eq!(pending.publish().unwrap_err().kind, Exit::Refused);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        for name in ["/dev/null", "/", "missing/b"] {
            assert!(Pending::create(&dir.path().join(name)).is_err(), "{name}");
        }
    }
}
