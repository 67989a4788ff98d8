//! Reading with a bound, and replacing atomically.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Reads a file of at most `max` bytes; a longer one is an error.
pub fn read_bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("longer than {max} bytes"),
        ));
    }
    Ok(bytes)
}

/// Like [`read_bounded`], for text.
pub fn read_text(path: &Path, max: usize) -> io::Result<String> {
    let bytes = read_bounded(path, max)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

/// `open(2)` flags in the type the standard library takes them in.
pub const fn open_flags(flags: OFlags) -> i32 {
    i32::from_ne_bytes(flags.bits().to_ne_bytes())
}

/// The temporary name a file is written under before it replaces `path`.
fn temporary(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    Ok(path.with_file_name(hidden))
}

/// Whether a replacement must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// Synced before and after the rename.
    Yes,
    /// For files in `/run`, which no power cut leaves anything of.
    No,
}

/// Replaces a file in one step: readers see the old content or the new.
pub fn replace(path: &Path, content: &[u8], mode: u32, durable: Durable) -> io::Result<()> {
    let hidden = temporary(path)?;
    let result = write_and_rename(&hidden, path, content, mode, durable);
    if result.is_err() {
        // The error of writing is the one to report.
        let _ = fs::remove_file(&hidden);
    }
    result
}

fn write_and_rename(
    hidden: &Path,
    path: &Path,
    content: &[u8],
    mode: u32,
    durable: Durable,
) -> io::Result<()> {
    match fs::remove_file(hidden) {
        Ok(()) => {}
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        Err(why) => return Err(why),
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(hidden)?;
    file.write_all(content)?;
    if durable == Durable::Yes {
        file.sync_all()?;
    }
    fs::rename(hidden, path)?;
    if durable == Durable::Yes {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_exact() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, [1; 10]).unwrap();
        assert_eq!(read_bounded(&path, 10).unwrap().len(), 10);
        let error = read_bounded(&path, 9).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(read_bounded(Path::new("/dev/zero"), 4096).is_err());
    }

    #[test]
    fn replacing_leaves_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for (content, durable) in [(b"one", Durable::No), (b"two", Durable::Yes)] {
            replace(&path, content, 0o644, durable).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
