//! A copy of the repository to change things in.
//!
//! Cargo goes by times of modification. So a file whose content is the same is
//! left alone, and what was built of it last time counts again.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// Which state of the repository is copied.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// The tracked files as they stand.
    Worktree,
    /// A commit: what others are just editing does not matter.
    Commit(String),
}

/// One copy, with its build directory beside it.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The copy.
    pub(crate) root: PathBuf,
    /// `CARGO_TARGET_DIR` for it.
    pub(crate) build: PathBuf,
}

impl Tree {
    /// Brings a copy below `work` up to date, whatever an interrupted run left there.
    pub(crate) fn fresh(repository: &Path, source: &Source, work: &Path) -> Result<Self> {
        let tree = Self {
            root: work.join("tree"),
            build: work.join("build"),
        };
        fs::create_dir_all(&tree.root).map_err(Error::io("make", &tree.root))?;
        fs::create_dir_all(&tree.build).map_err(Error::io("make", &tree.build))?;
        match source {
            Source::Worktree => {
                let names = tracked(repository)?;
                tree.take(repository, &names)?;
            }
            Source::Commit(commit) => {
                let exported = work.join("export");
                export(repository, commit, &exported)?;
                let names = files(&exported)?;
                tree.take(&exported, &names)?;
            }
        }
        Ok(tree)
    }

    /// Makes the copy consist of these files of `from`.
    fn take(&self, from: &Path, names: &BTreeSet<PathBuf>) -> Result<()> {
        for gone in files(&self.root)?.difference(names) {
            let path = self.root.join(gone);
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        for name in names {
            copy(&from.join(name), &self.root.join(name))?;
        }
        Ok(())
    }
}

/// Copies a file or a symlink, unless it is there already.
fn copy(old: &Path, new: &Path) -> Result<()> {
    if let Ok(target) = fs::read_link(old) {
        if fs::read_link(new).is_ok_and(|there| there == target) {
            return Ok(());
        }
        make_parent(new)?;
        match fs::remove_file(new) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", new)(why));
            }
            _ => {}
        }
        return std::os::unix::fs::symlink(&target, new).map_err(Error::io("link", new));
    }
    let content = match fs::read(old) {
        Ok(content) => content,
        // Tracked, and just deleted.
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(Error::io("read", old)(why)),
    };
    if fs::read(new).is_ok_and(|there| there == content) {
        return Ok(());
    }
    make_parent(new)?;
    fs::write(new, content).map_err(Error::io("write", new))?;
    let like = fs::metadata(old).map_err(Error::io("read", old))?;
    fs::set_permissions(new, like.permissions()).map_err(Error::io("write", new))
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(Error::io("make", parent))
}

fn tracked(repository: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(["ls-files", "-z"])
        .output()
        .map_err(|why| git(&why))?;
    if !output.status.success() {
        return Err(git(&String::from_utf8_lossy(&output.stderr).trim()));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    let names = names.split('\0').filter(|name| !name.is_empty());
    Ok(names.map(PathBuf::from).collect())
}

fn export(repository: &Path, commit: &str, to: &Path) -> Result<()> {
    match fs::remove_dir_all(to) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove", to)(why));
        }
        _ => fs::create_dir_all(to).map_err(Error::io("make", to))?,
    }
    let mut archive = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(["archive", "--format=tar", commit])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|why| git(&why))?;
    let stdin = archive.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let unpacked = Command::new("tar")
        .arg("-C")
        .arg(to)
        .arg("-x")
        .stdin(stdin)
        .status();
    let archived = archive.wait().map_err(|why| git(&why))?;
    if archived.success() && unpacked.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(git(&format!("{commit} can't be exported")))
}

fn git(why: &dyn std::fmt::Display) -> Error {
    Error::Program {
        program: "git",
        why: why.to_string(),
        remedy: "mutants are made of a git repository's files",
    }
}

/// Every file below a directory, relative to it.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).map_err(Error::io("read", &dir))? {
            let entry = entry.map_err(Error::io("read", &dir))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(Error::io("read", &path))?;
            if kind.is_dir() {
                dirs.push(path);
            } else if let Ok(name) = path.strip_prefix(root) {
                found.insert(name.to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn content(root: &Path) -> BTreeMap<PathBuf, String> {
        let names = files(root).unwrap();
        names
            .into_iter()
            .map(|name| {
                let text = fs::read_to_string(root.join(&name)).unwrap();
                (name, text)
            })
            .collect()
    }

    #[test]
    fn a_copy_is_brought_up_to_date_and_untouched_files_keep_their_time() {
        let work = std::env::temp_dir().join(format!("op-dbus-mutants-{}", std::process::id()));
        let from = work.join("from");
        fs::create_dir_all(from.join("dir")).unwrap();
        fs::write(from.join("dir/same"), "same").unwrap();
        fs::write(from.join("changed"), "right").unwrap();
        std::os::unix::fs::symlink("dir/same", from.join("link")).unwrap();
        let tree = Tree {
            root: work.join("tree"),
            build: work.join("build"),
        };
        fs::create_dir_all(&tree.root).unwrap();
        let names = files(&from).unwrap();
        tree.take(&from, &names).unwrap();
        assert_eq!(content(&tree.root), content(&from));
        assert!(tree.root.join("link").is_symlink());

        let time = || fs::metadata(tree.root.join("dir/same")).unwrap().modified();
        let before = time().unwrap();
        fs::write(tree.root.join("changed"), "mutant").unwrap();
        fs::write(tree.root.join("stray"), "stray").unwrap();
        tree.take(&from, &names).unwrap();
        assert_eq!(content(&tree.root), content(&from));
        assert_eq!(time().unwrap(), before);
        fs::remove_dir_all(work).unwrap();
    }
}
