//! Reads the key directory, and refuses what others could have put there.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::process::{getegid, geteuid};

use crate::{MAX_CERTIFICATE, MAX_FILES, TrustError};

/// How a certificate file's name ends.
const ENDINGS: [&str; 3] = ["asc", "pgp", "gpg"];

/// A file's bytes, or why they are not used: `<why>; <remedy>`.
type Read = Result<Vec<u8>, String>;

/// The certificate files of a directory, in the order of their names.
pub(crate) fn read(dir: &Path) -> Result<Vec<(PathBuf, Read)>, TrustError> {
    let io = |errno: rustix::io::Errno| TrustError::Io {
        path: dir.to_owned(),
        source: errno.into(),
    };
    let unsafe_because = |why: String| TrustError::Unsafe {
        path: dir.to_owned(),
        why,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = openat(CWD, dir, flags, Mode::empty()).map_err(io)?;
    only_the_owner(&fstat(&handle).map_err(io)?).map_err(unsafe_because)?;

    let mut names = Vec::new();
    for entry in Dir::read_from(&handle).map_err(io)? {
        let name = entry.map_err(io)?.file_name().to_owned();
        if !is_certificate(OsStr::from_bytes(name.to_bytes())) {
            continue;
        }
        if names.len() == MAX_FILES {
            return Err(unsafe_because(format!(
                "it holds more than {MAX_FILES} certificate files; remove the ones no longer needed"
            )));
        }
        names.push(name);
    }
    names.sort();
    let files = names.iter().map(|name| {
        let path = dir.join(OsStr::from_bytes(name.to_bytes()));
        (path, read_file(&handle, name))
    });
    Ok(files.collect())
}

fn is_certificate(name: &OsStr) -> bool {
    let path = Path::new(name);
    let ending = path.extension().and_then(OsStr::to_str);
    !name.as_bytes().starts_with(b".") && ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

fn read_file(dir: impl std::os::fd::AsFd, name: &std::ffi::CStr) -> Read {
    // A link could lead to where others may write; a FIFO would block.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(dir, name, flags, Mode::empty());
    let file = match opened {
        Ok(file) => file,
        Err(rustix::io::Errno::LOOP) => {
            return Err("it is a symbolic link; copy the certificate itself".to_owned());
        }
        Err(errno) => return Err(format!("{errno}; make it readable for who runs this")),
    };
    let failed = |error: std::io::Error| format!("{error}; see the kernel log (journalctl -k)");
    let stat = fstat(&file).map_err(|errno| failed(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is not a regular file; copy the certificate itself".to_owned());
    }
    only_the_owner(&stat)?;
    let mut bytes = Vec::new();
    // One byte more tells that it is too long.
    let limit = u64::try_from(MAX_CERTIFICATE)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    File::from(file)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// Who may write here decides which releases this device runs.
fn only_the_owner(stat: &Stat) -> Result<(), String> {
    let owner = rustix::fs::Uid::from_raw(stat.st_uid);
    if !owner.is_root() && owner != geteuid() {
        return Err(format!(
            "it belongs to user {}, not to root; chown it to root",
            stat.st_uid
        ));
    }
    if stat.st_mode & 0o002 != 0 {
        return Err("anybody may write to it; chmod it o-w".to_owned());
    }
    // The caller's own group is private on many systems, another's is not.
    let own = stat.st_gid == 0 || stat.st_gid == getegid().as_raw();
    if stat.st_mode & 0o020 != 0 && !own {
        return Err(format!(
            "group {} may write to it; chmod it g-w",
            stat.st_gid
        ));
    }
    Ok(())
}
