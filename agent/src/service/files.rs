//! What a caller hands over: open files, never paths.
//!
//! A path would be opened by root: a caller could have any file of the system
//! looked at, and find parts of it in an error, or have a device or a FIFO
//! opened. A descriptor holds only what its caller could open. It is used as it
//! is, and never opened anew by way of /proc, which would ask root's rights again:
//! anybody may hold an `O_PATH` descriptor of a file they can't read.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl, fstatfs};

use super::error::{Error, Result};

/// Most bytes of a manifest: what `op-dbus-stage` takes, and one more, so that it
/// is the one to refuse a longer one.
const MANIFEST_MAX: u64 = (4 << 20) + 1;
/// Likewise of a signature.
const SIGNATURE_MAX: u64 = (64 << 10) + 1;
/// `f_type` of FUSE (statfs(2)).
const FUSE: i128 = 0x6573_5546;

/// A release's manifest and signature, copied into a directory of our own, which
/// goes when this is dropped.
#[derive(Debug)]
pub struct Release {
    directory: PathBuf,
}

impl Release {
    /// Copies both below `parent`, a directory that only root can enter. A copy,
    /// since the caller may go on writing to the files.
    pub fn copy(parent: &Path, manifest: OwnedFd, signature: OwnedFd) -> Result<Self> {
        let manifest = regular("manifest", manifest)?;
        let signature = regular("signature", signature)?;
        let directory = parent.join("receive");
        let failed = |why: io::Error| {
            Error::failed(format!("{}: {why}; see journalctl -b", directory.display()))
        };
        // One that a killed service left. One receive at a time, so it is nobody's.
        clear(&directory).map_err(failed)?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(failed)?;
        let made = Self {
            directory: directory.clone(),
        };
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
        if let Err(why) = clear(&self.directory) {
            eprintln!("op-dbus-agent: {}: remove: {why}", self.directory.display());
        }
    }
}

fn clear(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// A stream: a regular file, which is read from where the caller has read it to,
/// or a pipe.
pub fn stream(fd: OwnedFd) -> Result<OwnedFd> {
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

/// Makes the directory that only root can enter.
pub fn private(directory: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let found = fs::symlink_metadata(directory)?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions());
    if found.is_dir() && mode & 0o777 == 0o700 {
        return Ok(());
    }
    Err(io::Error::other(
        "is there, and not a directory of mode 0700; remove it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    fn why<T: std::fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.name(), "org.opdbus.Deploy1.Error.InvalidArgument");
        error.message().to_owned()
    }

    #[test]
    fn only_what_the_caller_could_read_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        let flags = |bits: OFlags| {
            let mode = rustix::fs::Mode::empty();
            rustix::fs::open(&path, bits, mode).unwrap()
        };
        for fd in [flags(OFlags::PATH), flags(OFlags::WRONLY)] {
            assert!(why(stream(fd)).contains("not open for reading"));
        }
        assert!(stream(flags(OFlags::RDWR)).is_ok());
        assert!(why(stream(open(dir.path()))).contains("neither"));
        assert!(why(stream(open(Path::new("/dev/null")))).contains("neither"));
        let (reader, _writer) = io::pipe().unwrap();
        assert!(why(regular("manifest", reader.try_clone().unwrap().into())).contains("regular"));
        assert!(stream(reader.into()).is_ok());
    }

    #[test]
    fn the_copy_is_whole_bounded_private_and_goes() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("m"), vec![7; 200_000]).unwrap();
        // Sparse: no disk is filled by a test, nor by a caller.
        File::create(at("s")).unwrap().set_len(1 << 40).unwrap();
        // A service that was killed left this.
        fs::create_dir(at("receive")).unwrap();
        fs::write(at("receive/release.json"), "old").unwrap();
        let release = Release::copy(dir.path(), open(&at("m")), open(&at("s"))).unwrap();
        assert_eq!(fs::read(release.manifest()).unwrap(), vec![7; 200_000]);
        let signature = fs::metadata(at("receive/release.json.asc")).unwrap();
        assert!((SIGNATURE_MAX..SIGNATURE_MAX + (64 << 10)).contains(&signature.len()));
        let mode = fs::metadata(at("receive")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(release);
        assert!(!at("receive").exists());
    }

    #[test]
    fn a_directory_that_others_may_enter_is_not_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("a");
        private(&ours).unwrap();
        private(&ours).unwrap();
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(private(&ours).is_err());
        let link = dir.path().join("b");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(private(&link).is_err());
    }
}
