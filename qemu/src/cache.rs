//! Things that are slow to build, kept by what they were built from.
//!
//! An entry is a directory named `<kind>-<key>`. It is built under another name
//! and renamed when complete, so a half-built one is never taken for whole.
//! Several programs may use the cache at once: a lock file an entry is held
//! exclusively while it is built and shared while it is used.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use sha2::{Digest, Sha256};

use crate::error::{Context, Error, Result};

/// What an entry is made from; two equal keys mean equal content.
#[derive(Debug, Default, Clone)]
pub struct Key {
    hash: Sha256,
}

impl Key {
    /// Adds a text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.hash.update(text.len().to_le_bytes());
        self.hash.update(text);
        self
    }

    /// Adds a file's content and its mode-independent name.
    pub fn file(mut self, path: &Path) -> Result<Self> {
        let bytes = fs::read(path).at("read", path)?;
        self.hash.update(bytes.len().to_le_bytes());
        self.hash.update(bytes);
        Ok(self)
    }

    /// Adds every file below `root`: relative path and content, in order.
    pub fn tree(mut self, root: &Path) -> Result<Self> {
        let mut pending = vec![root.to_owned()];
        let mut files = Vec::new();
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(&directory).at("list", &directory)? {
                let entry = entry.at("list", &directory)?;
                let kind = entry.file_type().at("look at", &entry.path())?;
                if kind.is_dir() {
                    pending.push(entry.path());
                } else if kind.is_file() {
                    files.push(entry.path());
                }
            }
        }
        files.sort();
        for path in files {
            let name = path.strip_prefix(root).unwrap_or(&path);
            self = self.text(&name.to_string_lossy()).file(&path)?;
        }
        Ok(self)
    }

    fn name(&self) -> String {
        let digest = self.hash.clone().finalize();
        let head = digest
            .first_chunk()
            .map_or(0, |head| u64::from_be_bytes(*head));
        format!("{head:016x}")
    }
}

/// The cache's directory.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// A complete entry in use; nobody removes it while this lives.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
    fresh: bool,
    _lock: Flock<File>,
}

impl Entry {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether this call built it.
    pub fn fresh(&self) -> bool {
        self.fresh
    }
}

impl Cache {
    /// The user's cache: `$XDG_CACHE_HOME/op-dbus-vm`, else
    /// `~/.cache/op-dbus-vm`.
    pub fn open() -> Result<Self> {
        let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
            (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
            (_, Some(home)) => Path::new(&home).join(".cache"),
            _ => return Err(Error::Host("neither XDG_CACHE_HOME nor HOME is set".into())),
        };
        Self::at(base.join("op-dbus-vm"))
    }

    /// A cache in `root`, made when missing.
    pub fn at(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).at("make the cache", &root)?;
        Ok(Self { root })
    }

    /// The cache's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The entry `kind` with `key`, built by `build` into a given directory
    /// when there is none. Older entries of the same kind that nobody uses are
    /// removed after a build.
    pub fn entry(
        &self,
        kind: &str,
        key: &Key,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Entry> {
        let name = format!("{kind}-{}", key.name());
        let path = self.root.join(&name);
        let mut build = Some(build);
        let mut fresh = false;
        let lock = loop {
            let shared = self.lock(&name, FlockArg::LockShared)?;
            if path.exists() {
                break shared;
            }
            drop(shared);
            // Changing a lock is not atomic: whoever gets this one looks again,
            // and after the build the loop does.
            let _exclusive = self.lock(&name, FlockArg::LockExclusive)?;
            if !path.exists() {
                let partial = self.root.join(format!("{name}.partial"));
                if partial.exists() {
                    fs::remove_dir_all(&partial).at("remove", &partial)?;
                }
                fs::create_dir_all(&partial).at("make", &partial)?;
                build.take().map_or(Ok(()), |build| build(&partial))?;
                fs::rename(&partial, &path).at("publish", &path)?;
                self.remove_older(kind, &name)?;
                fresh = true;
            }
        };
        Ok(Entry {
            path,
            fresh,
            _lock: lock,
        })
    }

    fn lock(&self, name: &str, how: FlockArg) -> Result<Flock<File>> {
        Flock::lock(self.lock_file(name)?, how)
            .map_err(|(_, error)| error)
            .at("lock", &self.root.join(name))
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.root.join(format!("{name}.lock"));
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .at("open", &path)
    }

    fn remove_older(&self, kind: &str, keep: &str) -> Result<()> {
        for entry in fs::read_dir(&self.root).at("list", &self.root)? {
            let entry = entry.at("list", &self.root)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let same_kind = name
                .strip_prefix(kind)
                .and_then(|rest| rest.strip_prefix('-'))
                .is_some_and(|key| key.len() == 16 && key.bytes().all(|b| b.is_ascii_hexdigit()));
            if !same_kind || name == keep {
                continue;
            }
            match Flock::lock(self.lock_file(&name)?, FlockArg::LockExclusiveNonblock) {
                Ok(_held) => fs::remove_dir_all(entry.path()).at("remove", &entry.path())?,
                Err((_, Errno::EWOULDBLOCK)) => {}
                Err((_, error)) => return Err(error).at("lock", &entry.path()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(text: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |path| fs::write(path.join("x"), text).at("write", path)
    }

    #[test]
    fn an_entry_is_built_once_and_an_unused_older_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().to_owned()).unwrap();
        let one = Key::default().text("1");
        let two = Key::default().text("2");
        let first = cache.entry("disk", &one, build("first")).unwrap();
        assert!(first.fresh());
        let again = cache.entry("disk", &one, build("again")).unwrap();
        assert!(!again.fresh());
        assert_eq!(fs::read_to_string(again.file("x")).unwrap(), "first");
        let other = cache.entry("disk", &two, build("second")).unwrap();
        assert!(first.path().exists(), "in use, so kept");
        let gone = first.path().to_owned();
        drop((first, again, other));
        cache
            .entry("disk", &Key::default().text("3"), build("third"))
            .unwrap();
        assert!(!gone.exists());
    }

    #[test]
    fn a_failed_build_leaves_no_entry() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().to_owned()).unwrap();
        let key = Key::default().text("1");
        let failed = cache.entry("disk", &key, |_| Err(Error::Host("no".into())));
        assert!(failed.is_err());
        assert!(cache.entry("disk", &key, build("x")).unwrap().fresh());
    }

    #[test]
    fn texts_can_not_run_into_each_other() {
        let joined = Key::default().text("ab").text("c").name();
        assert_ne!(joined, Key::default().text("a").text("bc").name());
    }
}
