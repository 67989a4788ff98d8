//! What a power cut might still undo.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::call::Call;

/// A change that nothing has made durable yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Of a file's content or attributes.
    Content(PathBuf),
    /// Of a name: made, removed, moved.
    Name(PathBuf),
}

impl Change {
    /// What was changed.
    pub fn path(&self) -> &Path {
        match self {
            Self::Content(path) | Self::Name(path) => path,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(path) => write!(f, "the content of {}", path.display()),
            Self::Name(path) => write!(f, "the name {}", path.display()),
        }
    }
}

/// The changes of one file system, given as the directory it is mounted on.
#[derive(Debug, Clone)]
pub struct Unsynced {
    root: PathBuf,
    changes: BTreeSet<Change>,
}

impl Unsynced {
    /// Nothing was changed yet.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            changes: BTreeSet::new(),
        }
    }

    /// The changes below a directory or file of it.
    pub fn below(&self, path: &str) -> impl Iterator<Item = &Change> {
        let path = self.root.join(path);
        self.changes
            .iter()
            .filter(move |change| change.path().starts_with(&path))
    }

    /// Takes the next call.
    pub fn follow(&mut self, call: &Call) {
        let path = &call.path;
        match call.name {
            "write"
            | "pwrite64"
            | "writev"
            | "ftruncate"
            | "fallocate"
            | "copy_file_range"
            | "truncate"
            | "FICLONE"
            | "BTRFS_IOC_ENCODED_WRITE"
            | "BTRFS_IOC_SUBVOL_SETFLAGS"
            | "BTRFS_IOC_SET_RECEIVED_SUBVOL" => self.add(Change::Content(path.clone())),
            "creat"
            | "mkdir"
            | "mkdirat"
            | "symlink"
            | "symlinkat"
            | "BTRFS_IOC_SNAP_CREATE_V2"
            | "BTRFS_IOC_SUBVOL_CREATE_V2" => {
                self.add(Change::Name(path.clone()));
            }
            "unlink" | "rmdir" | "unlinkat" | "BTRFS_IOC_SNAP_DESTROY" => {
                // With what is gone, what was unsynced of it goes.
                self.changes
                    .retain(|change| !change.path().starts_with(path));
                self.add(Change::Name(path.clone()));
            }
            "rename" | "renameat" | "linkat" => self.renamed(call),
            "fsync" | "fdatasync" => self.changes.retain(|change| match change {
                Change::Content(of) => of != path,
                Change::Name(of) => Call::directory(of) != *path,
            }),
            "syncfs" | "BTRFS_IOC_SYNC" if path.starts_with(&self.root) => self.changes.clear(),
            _ => {}
        }
    }

    fn add(&mut self, change: Change) {
        if change.path().starts_with(&self.root) {
            self.changes.insert(change);
        }
    }

    fn renamed(&mut self, call: &Call) {
        let (from, Some(to)) = (&call.path, &call.other) else {
            return;
        };
        let moved: Vec<Change> = self
            .changes
            .iter()
            .filter(|change| change.path().starts_with(from))
            .cloned()
            .collect();
        for change in moved {
            let Ok(rest) = change.path().strip_prefix(from) else {
                continue;
            };
            // Without its trailing slash, which `join("")` would add.
            let new = if rest.as_os_str().is_empty() {
                to.clone()
            } else {
                to.join(rest)
            };
            if call.name != "linkat" {
                self.changes.remove(&change);
            }
            self.add(match change {
                Change::Content(_) => Change::Content(new),
                Change::Name(_) => Change::Name(new),
            });
        }
        if call.name != "linkat" {
            self.add(Change::Name(from.clone()));
        }
        self.add(Change::Name(to.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(calls: &[(&'static str, &str, &str)]) -> Vec<String> {
        let mut unsynced = Unsynced::new(Path::new("/fs"));
        for (name, path, other) in calls {
            unsynced.follow(&Call {
                name,
                path: path.into(),
                other: (!other.is_empty()).then(|| other.into()),
            });
        }
        unsynced.below("").map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_needs_its_fsync_and_its_name_that_of_the_directory() {
        let written = [
            ("creat", "/fs/a/.x", ""),
            ("write", "/fs/a/.x", ""),
            ("rename", "/fs/a/.x", "/fs/a/x"),
        ];
        let content = "the content of /fs/a/x";
        let names = ["the name /fs/a/.x", "the name /fs/a/x"];
        assert_eq!(left(&written), [&[content], &names[..]].concat());
        let fsync = [&written[..], &[("fsync", "/fs/a/x", "")]].concat();
        assert_eq!(left(&fsync), names);
        let both = [&fsync[..], &[("fsync", "/fs/a", "")]].concat();
        assert!(left(&both).is_empty());
        let directory = [&written[..], &[("fsync", "/fs/a", "")]].concat();
        assert_eq!(left(&directory), [content]);
        let all = [&written[..], &[("syncfs", "/fs/b", "")]].concat();
        assert!(left(&all).is_empty());
        let elsewhere = [&written[..], &[("syncfs", "/other", "")]].concat();
        assert_eq!(left(&elsewhere).len(), 3);
    }

    #[test]
    fn what_is_removed_needs_no_content() {
        let calls = [
            ("creat", "/fs/x", ""),
            ("write", "/fs/x", ""),
            ("unlink", "/fs/x", ""),
        ];
        assert_eq!(left(&calls), ["the name /fs/x"]);
        assert!(left(&[("write", "/elsewhere", "")]).is_empty());
    }
}
