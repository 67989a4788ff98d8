//! Whether a directory can be written to, and how much space is left.
//!
//! A dead disk, a frozen file system or a server that is gone hold a process in
//! the kernel, where not even SIGKILL reaches it; a thread so held would keep
//! this whole program from ending. So each look is a process of its own
//! (`op-dbus-agent look`), which is left behind if need be.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open, statvfs};

use super::judge::Finding;
use crate::child::{How, Job, Runner};

/// This program, also when its file was replaced since.
const THIS: &str = "/proc/self/exe";
/// What is written to see whether it can be: more than what Btrfs keeps beside
/// its metadata, so that there must be space for data.
const PROBE: [u8; 4096] = [0; 4096];
/// Where a file without a name is not to be had.
const NAME: &str = ".op-dbus-health";
const MIB: u64 = 1024 * 1024;

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum Disk {
    /// Whether files can be made and written in a directory
    Writable {
        /// The directory
        path: PathBuf,
    },
    /// Whether so much space is left for anybody
    Free {
        /// Something on the file system
        path: PathBuf,
        /// How much, in MiB
        min_mib: u64,
    },
}

impl Disk {
    fn words(&self) -> Vec<OsString> {
        match self {
            Self::Writable { path } => vec!["writable".into(), "--".into(), path.into()],
            Self::Free { path, min_mib } => vec![
                "free".into(),
                "--".into(),
                path.into(),
                min_mib.to_string().into(),
            ],
        }
    }
}

/// One look, by a process of its own.
pub fn look(runner: &Runner, disk: &Disk, limit: Duration) -> Finding {
    let mut argv: Vec<OsString> = vec![THIS.into(), "look".into()];
    argv.extend(disk.words());
    let ended = runner.run(&Job {
        argv,
        stdin: Vec::new(),
        limit,
        keep: 1024,
    });
    match ended.how {
        How::Exited(0) => Finding::well(),
        How::TimedOut => Finding::NotYet(format!(
            "no answer within {} s; is the medium dead, or the file system frozen?",
            limit.as_secs()
        )),
        How::Exited(_) => Finding::NotYet(ended.last_line(200)),
        how => Finding::NotYet(how.to_string()),
    }
}

/// What that process does. The error is in words.
pub fn probe(disk: &Disk) -> Result<(), String> {
    match disk {
        Disk::Writable { path } => write(path).map_err(|why| match why.kind() {
            io::ErrorKind::ReadOnlyFilesystem => "is read-only".to_owned(),
            io::ErrorKind::StorageFull => "is full".to_owned(),
            io::ErrorKind::NotFound => "is not there".to_owned(),
            _ => why.to_string(),
        }),
        Disk::Free { path, min_mib } => {
            let found = statvfs(path).map_err(|why| io::Error::from(why).to_string())?;
            // What is reserved for root does not count.
            let free = found.f_bavail.saturating_mul(found.f_frsize) / MIB;
            if free >= *min_mib {
                return Ok(());
            }
            Err(format!("{free} MiB are left, {min_mib} are asked for"))
        }
    }
}

/// A new file, with data that must reach the medium.
fn write(directory: &Path) -> io::Result<()> {
    let mut file = new_file(directory)?;
    file.write_all(&PROBE)?;
    file.sync_all()
}

/// Without a name, so that nothing is left of it whenever this process ends. Not
/// every file system has that (open(2)); then with one, which goes at once.
fn new_file(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let path = directory.join(NAME);
            match fs::remove_file(&path) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
                _ => {}
            }
            let file = File::options().write(true).create_new(true).open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        }
        Err(why) => Err(why.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_written_to_and_nothing_left() {
        let dir = tempfile::tempdir().unwrap();
        let writable = |path: &Path| {
            probe(&Disk::Writable {
                path: path.to_owned(),
            })
        };
        assert_eq!(writable(dir.path()), Ok(()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(
            writable(&dir.path().join("missing")),
            Err("is not there".to_owned())
        );
        // Nobody can make a file there.
        assert!(writable(Path::new("/proc/self")).is_err());
    }

    #[test]
    fn space_is_compared() {
        let free = |min_mib| {
            probe(&Disk::Free {
                path: "/".into(),
                min_mib,
            })
        };
        assert_eq!(free(0), Ok(()));
        let why = free(u64::MAX).unwrap_err();
        assert!(why.contains("MiB are left"), "{why}");
    }
}
