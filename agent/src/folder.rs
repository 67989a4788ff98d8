//! The executables of a folder that somebody fills by hand or from a package.
//!
//! They are run as root, so whoever can change one is root: it must be a regular
//! file of root's that nobody else may write to, in a folder of which the same is
//! true. A symbolic link is none: where it points may change, and whose it is does
//! not show.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What a package manager or an editor leaves beside a file.
const LEFTOVERS: [&str; 8] = [
    ".bak",
    ".dpkg-dist",
    ".dpkg-new",
    ".dpkg-old",
    ".orig",
    ".rpmnew",
    ".rpmsave",
    ".ucf-dist",
];
/// More entries than this are nobody's intention.
const ENTRIES_MAX: usize = 1000;

/// What a folder holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Folder {
    /// What may be run, in the order of the names.
    pub executables: Vec<PathBuf>,
    /// What is not run though it is there: a line each, with the reason and the
    /// remedy.
    pub refused: Vec<String>,
}

/// Looks through `directory`. One that does not exist is empty; one that can't be
/// trusted or read has nothing that may be run.
pub fn look(directory: &Path) -> Folder {
    look_as(directory, 0)
}

/// The same, for executables of another owner.
fn look_as(directory: &Path, owner: u32) -> Folder {
    let mut found = Folder::default();
    match entries(directory, owner) {
        Ok(names) => {
            for name in names {
                let path = directory.join(&name);
                match judge(&path, &name, owner) {
                    Ok(()) => found.executables.push(path),
                    Err(why) => found.refused.push(format!("{}: {why}", path.display())),
                }
            }
        }
        Err(why) => found
            .refused
            .push(format!("{}: {why}", directory.display())),
    }
    found
}

fn entries(directory: &Path, owner: u32) -> Result<Vec<String>, String> {
    let metadata = match fs::symlink_metadata(directory) {
        Ok(metadata) => metadata,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(why) => return Err(format!("can't be read: {why}")),
    };
    if !metadata.is_dir() {
        return Err("is no directory, so nothing in it is run".to_owned());
    }
    is_safe(&metadata, owner)?;
    let read = fs::read_dir(directory).map_err(|why| format!("can't be read: {why}"))?;
    let mut names = Vec::new();
    for entry in read.take(ENTRIES_MAX) {
        let entry = entry.map_err(|why| format!("can't be read: {why}"))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn judge(path: &Path, name: &str, owner: u32) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.starts_with('.') || !name.bytes().all(is_plain) {
        return Err(
            "its name is none for an executable; use letters, digits, '-', '_', '.'".to_owned(),
        );
    }
    if LEFTOVERS.iter().any(|suffix| name.ends_with(suffix)) {
        return Err("is a leftover by its name; remove it, or rename it".to_owned());
    }
    let metadata = fs::symlink_metadata(path).map_err(|why| format!("can't be read: {why}"))?;
    if metadata.is_symlink() {
        return Err("is a symbolic link; put the file itself here".to_owned());
    }
    if !metadata.is_file() {
        return Err("is no regular file".to_owned());
    }
    is_safe(&metadata, owner)?;
    if metadata.mode() & 0o100 == 0 {
        return Err("is not executable; chmod 0755, or remove it".to_owned());
    }
    Ok(())
}

fn is_safe(metadata: &Metadata, owner: u32) -> Result<(), String> {
    if metadata.uid() != owner {
        let uid = metadata.uid();
        return Err(format!(
            "belongs to user {uid}, who could have it run as root; chown root it"
        ));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err("others than its owner may write to it; chmod go-w it".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use tempfile::TempDir;

    fn put(dir: &TempDir, name: &str, mode: u32) -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn found(dir: &TempDir) -> Folder {
        look_as(dir.path(), fs::metadata(dir.path()).unwrap().uid())
    }

    /// The one that was refused, and why.
    fn refused(dir: &TempDir) -> String {
        let found = found(dir);
        assert_eq!((found.executables.len(), found.refused.len()), (0, 1));
        found.refused.concat()
    }

    #[test]
    fn a_missing_folder_is_empty() {
        assert_eq!(look(Path::new("/nonexistent/hooks.d")), Folder::default());
    }

    #[test]
    fn they_come_in_the_order_of_their_names() {
        let dir = TempDir::new().unwrap();
        let expected = ["10-b", "20-a.sh", "9", "a_b"].map(|name| put(&dir, name, 0o755));
        assert_eq!(found(&dir).executables, expected);
        assert!(found(&dir).refused.is_empty());
    }

    #[test]
    fn what_others_could_change_is_refused() {
        for mode in [0o775, 0o757] {
            let dir = TempDir::new().unwrap();
            put(&dir, "a", mode);
            assert!(refused(&dir).contains("chmod go-w"));
        }
        let dir = TempDir::new().unwrap();
        put(&dir, "a", 0o755);
        let stranger = look_as(dir.path(), u32::MAX - 1);
        assert!(stranger.executables.is_empty());
        assert!(stranger.refused.concat().contains("chown root"));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refused(&dir).contains("chmod go-w"));
    }

    #[test]
    fn what_is_no_executable_file_is_refused() {
        let dir = TempDir::new().unwrap();
        put(&dir, "a", 0o644);
        assert!(refused(&dir).contains("not executable"));

        let dir = TempDir::new().unwrap();
        symlink("/bin/true", dir.path().join("a")).unwrap();
        assert!(refused(&dir).contains("symbolic link"));

        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        assert!(refused(&dir).contains("no regular file"));
        assert!(
            look(&put(&dir, "file", 0o755))
                .refused
                .concat()
                .contains("no directory")
        );
    }

    #[test]
    fn odd_names_are_refused() {
        for name in [
            ".hidden",
            "a~",
            "a b",
            "#a#",
            "a.dpkg-old",
            "a.rpmsave",
            "ä",
        ] {
            let dir = TempDir::new().unwrap();
            put(&dir, name, 0o755);
            assert!(refused(&dir).contains("its name"), "{name}");
        }
    }
}
