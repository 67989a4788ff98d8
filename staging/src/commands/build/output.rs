//! Files that appear whole or not at all, and all together.
//!
//! A file is written without a name (`O_TMPFILE`, open(2)), so a run that is
//! killed leaves nothing. Names are given at the end, one after the other; for
//! that moment a hidden note in the directory lists them by inode, from which
//! the next run sees that one was cut off, and takes its files away. Where a
//! file system has no unnamed files, a hidden name does, held by a lock.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use op_dbus_activator::files;
use op_dbus_bootstate::Version;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Exit, Failure, Result};

/// Permission bits of what is written; the umask takes from them.
const MODE: u32 = 0o644;
/// Longest note, in bytes: some thousand names.
const NOTE_MAX: usize = 1 << 20;

/// A directory that releases are written to.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    dir: OwnedFd,
}

/// A file that has no name so far. Dropping it leaves nothing.
#[derive(Debug)]
pub(crate) struct Pending {
    name: String,
    file: File,
    hidden: Option<PathBuf>,
}

/// What a note lists.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    name: String,
    inode: u64,
}

impl Output {
    /// Opens the directory, and makes it if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|why| {
                Failure::io(format_args!("{}: create directory", path.display()), why)
            })?;
        Self::existing(path)
    }

    /// Opens a directory that is there.
    pub(crate) fn existing(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|why| Failure::io(format_args!("{}: open directory", path.display()), why))?;
        Ok(Self {
            path: path.to_owned(),
            dir,
        })
    }

    /// A file's path.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Refuses names that are taken, before any work is done.
    pub(crate) fn require_free(&self, names: &[String]) -> Result<()> {
        for name in names {
            let path = self.path(name);
            if path.symlink_metadata().is_ok() {
                return Err(taken(&path));
            }
        }
        Ok(())
    }

    /// Begins a file.
    pub(crate) fn create(&self, name: &str) -> Result<Pending> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let (file, hidden) = match rustix::fs::openat(&self.dir, ".", flags, Mode::from(MODE)) {
            Ok(file) => (File::from(file), None),
            // What file systems and kernels without unnamed files say (open(2)).
            Err(
                rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL,
            ) => {
                let hidden = self.hidden(name);
                (create_hidden(&hidden)?, Some(hidden))
            }
            Err(why) => {
                return Err(Failure::io(
                    format_args!("{}: create", self.path(name).display()),
                    why,
                ));
            }
        };
        Ok(Pending {
            name: name.to_owned(),
            file,
            hidden,
        })
    }

    /// Gives all files their names, in this order, durably; or none.
    pub(crate) fn publish(&self, version: &Version, pending: Vec<Pending>) -> Result<()> {
        for file in &pending {
            let synced = file.file.sync_all();
            synced.map_err(|why| self.failure(&file.name, "sync", why))?;
        }
        let _lock = self.lock()?;
        self.require_free(
            &pending
                .iter()
                .map(|file| file.name.clone())
                .collect::<Vec<_>>(),
        )?;
        let note = self.note(version);
        Self::write_note(&note, &pending)?;
        let result = self.name_all(pending);
        // Should this fail, the next run does it.
        let cleared = fs::remove_file(&note).and_then(|()| self.sync());
        result?;
        cleared.map_err(|why| Failure::io(format_args!("{}: sync", self.path.display()), why))
    }

    /// Writes a single file.
    pub(crate) fn publish_one(&self, name: &str, content: &[u8]) -> Result<()> {
        let mut file = self.create(name)?;
        let written = file.write(content).and_then(|()| file.file.sync_all());
        written.map_err(|why| self.failure(name, "write", why))?;
        let path = self.path(name);
        file.link(&path)
            .and_then(|()| self.sync())
            .map_err(|why| self.failure(name, "create", why))
    }

    fn name_all(&self, pending: Vec<Pending>) -> Result<()> {
        let mut named = Vec::new();
        let result = self.name_each(pending, &mut named);
        if result.is_err() {
            for path in named {
                let _ = fs::remove_file(path);
            }
        }
        result
    }

    fn name_each(&self, pending: Vec<Pending>, named: &mut Vec<PathBuf>) -> Result<()> {
        for file in pending {
            let path = self.path(&file.name);
            file.link(&path).map_err(|why| match why.kind() {
                io::ErrorKind::AlreadyExists => taken(&path),
                _ => Failure::io(format_args!("{}: create", path.display()), why),
            })?;
            named.push(path);
        }
        self.sync()
            .map_err(|why| Failure::io(format_args!("{}: sync", self.path.display()), why))
    }

    /// Takes away what a run left that was cut off while it made these names of
    /// this version. What it had finished stays.
    pub(crate) fn settle(&self, version: &Version, names: &[String]) -> Result<()> {
        for name in names {
            let hidden = self.hidden(name);
            let Ok(file) = File::open(&hidden) else {
                continue;
            };
            // A running one holds its lock.
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                fs::remove_file(&hidden).map_err(|why| {
                    Failure::io(format_args!("{}: remove leftover", hidden.display()), why)
                })?;
            }
        }
        let _lock = self.lock()?;
        let note = self.note(version);
        let fail = |why| Failure::io(format_args!("{}: read", note.display()), why);
        let text = match files::read_bounded(&note, NOTE_MAX) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(why) => return Err(fail(why)),
        };
        // A note that was cut off itself was written before any name was given.
        let noted: Vec<Noted> = serde_json::from_slice(&text).unwrap_or_default();
        let there = |noted: &Noted| {
            let found = self.path(&noted.name).symlink_metadata();
            is_plain(&noted.name) && found.is_ok_and(|found| found.ino() == noted.inode)
        };
        if !noted.iter().all(there) {
            for leftover in noted.iter().filter(|noted| there(noted)) {
                let path = self.path(&leftover.name);
                fs::remove_file(&path).map_err(|why| {
                    Failure::io(format_args!("{}: remove leftover", path.display()), why)
                })?;
            }
        }
        fs::remove_file(&note)
            .and_then(|()| self.sync())
            .map_err(fail)
    }

    fn write_note(note: &Path, pending: &[Pending]) -> Result<()> {
        let fail = |why| Failure::io(format_args!("{}: write", note.display()), why);
        let mut noted = Vec::new();
        for file in pending {
            let inode = file.file.metadata().map_err(fail)?.ino();
            noted.push(Noted {
                name: file.name.clone(),
                inode,
            });
        }
        let text = serde_json::to_vec(&noted).map_err(|why| fail(why.into()))?;
        files::replace(note, &text, 0o600, files::Durable::Yes).map_err(fail)
    }

    /// One run gives names in a directory at a time; it takes a moment.
    fn lock(&self) -> Result<OwnedFd> {
        let fail = |why: io::Error| Failure::io(format_args!("{}: lock", self.path.display()), why);
        let dir = op_dbus_btrfs::reopen_dir(&self.dir).map_err(fail)?;
        rustix::fs::flock(&dir, FlockOperation::LockExclusive).map_err(|why| fail(why.into()))?;
        Ok(dir)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.dir)?)
    }

    fn note(&self, version: &Version) -> PathBuf {
        self.path.join(format!(".{version}.unfinished"))
    }

    fn hidden(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}.part"))
    }

    fn failure(&self, name: &str, operation: &str, why: io::Error) -> Failure {
        Failure::io(
            format_args!("{}: {operation}", self.path(name).display()),
            why,
        )
    }
}

impl Pending {
    /// Its name-to-be.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A second descriptor, to write through.
    pub(crate) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes all of it.
    pub(crate) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.file.write_all(content)
    }

    /// Gives it its name, unless that is taken.
    fn link(mut self, path: &Path) -> io::Result<()> {
        match self.hidden.take() {
            None => {
                let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
            }
            Some(hidden) => {
                let renamed = rename_new(&hidden, path);
                if renamed.is_err() {
                    self.hidden = Some(hidden);
                }
                renamed?;
            }
        }
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // Should this fail, the next run does it.
            let _ = fs::remove_file(hidden);
        }
    }
}

/// Names in a note are our own, but the directory may be others' too.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}

fn create_hidden(path: &Path) -> Result<File> {
    let fail = |why| Failure::io(format_args!("{}: create", path.display()), why);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
        .map_err(fail)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|why| fail(why.into()))?;
    Ok(file)
}

/// Renames without replacing. Some network and FAT file systems can't promise
/// that: there a look beforehand must do.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if to.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        result => Ok(result?),
    }
}

fn taken(path: &Path) -> Failure {
    Failure::new(
        Exit::Refused,
        path.display(),
        "is there already, and a release is never overwritten",
        "name every --parent in one run, or another --output DIR",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> (tempfile::TempDir, Output) {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::open(&dir.path().join("made/on/the/way")).unwrap();
        (dir, output)
    }

    fn names(output: &Output) -> Vec<String> {
        let entries = fs::read_dir(&output.path).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn pending(output: &Output, names: &[&str]) -> Vec<Pending> {
        let mut all = Vec::new();
        for name in names {
            let mut file = output.create(name).unwrap();
            file.write(name.as_bytes()).unwrap();
            all.push(file);
        }
        all
    }

    /// Under a hidden name, as on a file system without unnamed files.
    fn named_beforehand(output: &Output, name: &str) -> Pending {
        let hidden = output.hidden(name);
        Pending {
            name: name.to_owned(),
            file: create_hidden(&hidden).unwrap(),
            hidden: Some(hidden),
        }
    }

    fn version() -> Version {
        "v1.0.0".parse().unwrap()
    }

    #[test]
    fn files_appear_together_and_not_before() {
        let (_dir, output) = output();
        let files = pending(&output, &["a", "b"]);
        assert!(names(&output).is_empty());
        output.publish(&version(), files).unwrap();
        assert_eq!(names(&output), ["a", "b"]);
        assert_eq!(fs::read_to_string(output.path("b")).unwrap(), "b");
    }

    #[test]
    fn one_name_that_is_taken_and_none_appears() {
        let (_dir, output) = output();
        let files = pending(&output, &["a", "b", "c"]);
        fs::write(output.path("c"), "mine").unwrap();
        let why = output.publish(&version(), files).unwrap_err();
        assert_eq!(why.kind, Exit::Refused);
        // Even if it is taken in the very last moment.
        let files = pending(&output, &["a", "b", "c"]);
        assert_eq!(output.name_all(files).unwrap_err().kind, Exit::Refused);
        assert_eq!(names(&output), ["c"]);
        assert_eq!(fs::read_to_string(output.path("c")).unwrap(), "mine");
    }

    /// A cut after each name that is given: the next run takes away what is
    /// there, and nothing else; once all are there, they stay.
    #[test]
    fn a_cut_between_two_names_is_settled() {
        for given in 0..=3 {
            let (_dir, output) = output();
            fs::write(output.path("other"), "mine").unwrap();
            let files = pending(&output, &["a", "b", "c"]);
            let note = output.note(&version());
            Output::write_note(&note, &files).unwrap();
            for file in files.into_iter().take(given) {
                let path = output.path(&file.name);
                file.link(&path).unwrap();
            }
            output.settle(&version(), &["a".to_owned()]).unwrap();
            let expected: &[&str] = if given == 3 {
                &["a", "b", "c", "other"]
            } else {
                &["other"]
            };
            assert_eq!(names(&output), expected, "after {given}");
            output.settle(&version(), &[]).unwrap();
        }
    }

    #[test]
    fn a_note_is_not_believed_blindly() {
        let (_dir, output) = output();
        fs::write(output.path("mine"), "").unwrap();
        fs::write(output.path.parent().unwrap().join("outside"), "").unwrap();
        let outside = output.path("../outside").metadata().unwrap().ino();
        let note = output.note(&version());
        for text in [
            r#"[{"name":"mine","inode":1},{"name":"x","inode":1}]"#.to_owned(),
            format!(r#"[{{"name":"../outside","inode":{outside}}},{{"name":"x","inode":1}}]"#),
            "[{".to_owned(),
        ] {
            fs::write(&note, text).unwrap();
            output.settle(&version(), &[]).unwrap();
            assert_eq!(names(&output), ["mine"]);
        }
        assert!(output.path("../outside").exists());
    }

    #[test]
    fn hidden_names_do_where_there_are_no_unnamed_files() {
        let (_dir, output) = output();
        let file = named_beforehand(&output, "a");
        assert_eq!(names(&output), [".a.part"]);
        // A run that goes on is left alone.
        output.settle(&version(), &["a".to_owned()]).unwrap();
        assert_eq!(names(&output), [".a.part"]);
        output.publish(&version(), vec![file]).unwrap();
        assert_eq!(names(&output), ["a"]);
        // Nothing is replaced, and nothing left.
        let file = named_beforehand(&output, "a");
        assert!(file.link(&output.path("a")).is_err());
        assert_eq!(names(&output), ["a"]);
        // What a killed run left goes.
        fs::write(output.hidden("b"), "").unwrap();
        output.settle(&version(), &["b".to_owned()]).unwrap();
        assert_eq!(names(&output), ["a"]);
    }
}
