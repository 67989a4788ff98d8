//! The certificates that may sign releases: checked, then copied into the keys'
//! directory. What is there stays: a key is taken away by hand, or by revoking it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use op_dbus_activator::files::{self, Durable};
use op_dbus_trust::{Keyring, MAX_CERTIFICATE, MAX_FILES};

use super::{Made, make_dir};
use crate::cli::device as cli;
use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::settings::Settings;
use crate::signed::said;

/// Suffixes a keyring's files have.
const SUFFIXES: [&str; 3] = ["asc", "pgp", "gpg"];

/// A certificate file that was checked.
pub(crate) struct Key {
    from: PathBuf,
    bytes: Vec<u8>,
}

/// Reads and checks what `--key` names, before anything is made.
pub(crate) fn read(args: &cli::Prepare) -> Result<Vec<Key>> {
    args.key.iter().map(|path| read_one(path)).collect()
}

fn read_one(path: &Path) -> Result<Key> {
    let bytes = files::read_bounded(path, MAX_CERTIFICATE)
        .map_err(|why| Failure::io(format_args!("{}: read", path.display()), why))?;
    let keyring =
        Keyring::from_bytes(&bytes, path).map_err(|why| said(Exit::Verification, path, &why))?;
    // A revoked one is taken: its revocation has to reach the device somehow.
    if let Some(other) = keyring.certificates().iter().find(|held| !held.can_sign) {
        return Err(Failure::new(
            Exit::Verification,
            path.display(),
            format_args!("the key of {} can't sign", other.fingerprint),
            "export the certificate whose key signs releases",
        ));
    }
    Ok(Key {
        from: path.to_owned(),
        bytes,
    })
}

/// Makes the directory and copies what is not in it yet.
pub(crate) fn make(
    context: &Context,
    settings: &Settings,
    keys: &[Key],
    made: &mut Made,
) -> Result<()> {
    let dir = context.layout.host(&settings.keys);
    if !dir.is_dir() {
        make_dir(&dir, 0o755)?;
        made.push(format!("directory {}", settings.keys.display()));
    }
    for key in keys {
        let Some(path) = place(&dir, key)? else {
            continue;
        };
        files::replace(&path, &key.bytes, 0o644, Durable::Yes)
            .map_err(|why| Failure::io(format_args!("{}: write", path.display()), why))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        made.push(format!("release key {name}"));
    }
    Ok(())
}

/// A free name for a certificate; none if it is there already. One that was
/// extended or revoked has its old name and another content: both stay, because
/// the keyring takes them together, and a revocation must not be lost.
fn place(dir: &Path, key: &Key) -> Result<Option<PathBuf>> {
    let mut free = None;
    for number in 1..=MAX_FILES {
        let path = dir.join(name(&key.from, &key.bytes, number));
        match files::read_bounded(&path, MAX_CERTIFICATE) {
            Ok(bytes) if bytes == key.bytes => return Ok(None),
            Ok(_) => {}
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                free.get_or_insert(path);
                break;
            }
            Err(why) => {
                return Err(Failure::io(format_args!("{}: read", path.display()), why));
            }
        }
    }
    let count = fs::read_dir(dir)
        .map_err(|why| Failure::io(format_args!("{}: read", dir.display()), why))?
        .count();
    match free.filter(|_| count < MAX_FILES) {
        Some(path) => Ok(Some(path)),
        None => Err(Failure::new(
            Exit::Refused,
            dir.display(),
            format_args!("holds {count} files, and at most {MAX_FILES} are read"),
            "remove certificates that are used no more",
        )),
    }
}

/// `release.asc`, `release-2.asc` …: with a suffix that the keyring reads.
fn name(from: &Path, bytes: &[u8], number: usize) -> String {
    let given = from.extension().and_then(OsStr::to_str);
    let suffix = given.filter(|suffix| SUFFIXES.contains(suffix)).unwrap_or(
        if bytes.starts_with(b"-----") {
            "asc"
        } else {
            "pgp"
        },
    );
    let stem = from.file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.trim_start_matches('.');
    match number {
        1 => format!("{stem}.{suffix}"),
        number => format!("{stem}-{number}.{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(from: &str, bytes: &[u8]) -> Key {
        Key {
            from: from.into(),
            bytes: bytes.to_vec(),
        }
    }

    #[test]
    fn a_certificate_gets_a_name_the_keyring_reads() {
        for (from, bytes, expected) in [
            ("/x/release.asc", &b"-----"[..], "release.asc"),
            ("release.gpg", b"\x98", "release.gpg"),
            ("release.key", b"-----", "release.asc"),
            ("release", b"\x98", "release.pgp"),
            (".hidden.asc", b"-----", "hidden.asc"),
        ] {
            assert_eq!(name(Path::new(from), bytes, 1), expected);
        }
    }

    #[test]
    fn what_is_there_is_neither_copied_again_nor_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(dir.path().join(name));
        let place = |bytes: &[u8]| place(dir.path(), &key("/x/r.asc", bytes)).unwrap();
        assert_eq!(place(b"one"), at("r.asc"));
        fs::write(dir.path().join("r.asc"), "one").unwrap();
        assert_eq!(place(b"one"), None);
        assert_eq!(place(b"two"), at("r-2.asc"));
        fs::write(dir.path().join("r-2.asc"), "two").unwrap();
        assert_eq!(place(b"two"), None);
    }
}
