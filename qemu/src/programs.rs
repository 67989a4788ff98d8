//! The programs under test and the ones that help: what is put into guests.

use std::path::{Path, PathBuf};

use crate::cache::Key;
use crate::error::{Context, Error, Result};
use crate::tool::Tool;

/// Environment variable: an installed tree (`make install DESTDIR=…`) to test
/// in place of this workspace's own build.
pub const TREE: &str = "OP_DBUS_VM_TREE";

/// An installed tree and the two helpers.
#[derive(Debug)]
pub struct Programs {
    tree: PathBuf,
    guest: PathBuf,
    demo: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Programs {
    /// The tree that [`TREE`] names, else what this workspace has built,
    /// installed into a temporary directory.
    pub fn find() -> Result<Self> {
        let root = workspace();
        let built = root.join("target/x86_64-unknown-linux-gnu/release");
        let (guest, demo) = (built.join("op-dbus-vm-guest"), built.join("op-dbus-demo"));
        for program in [&guest, &demo] {
            if !program.exists() {
                return Err(Error::Host(format!(
                    "{} is missing: run `make build` first",
                    program.display()
                )));
            }
        }
        if let Some(tree) = std::env::var_os(TREE) {
            return Ok(Self {
                tree: PathBuf::from(tree),
                guest,
                demo,
                _temporary: None,
            });
        }
        let temporary = tempfile::tempdir().context(|| "make a temporary directory".into())?;
        Tool::new("make")
            .args(["--no-print-directory", "-s", "-C"])
            .arg(&root)
            .arg("install")
            .arg(format!("DESTDIR={}", temporary.path().display()))
            .run()?;
        Ok(Self {
            tree: temporary.path().to_owned(),
            guest,
            demo,
            _temporary: Some(temporary),
        })
    }

    /// The installed tree: `usr/bin/op-dbus-stage` and so on.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// The installed `op-dbus-stage`: static, so it runs on this host as well.
    pub fn stage(&self) -> PathBuf {
        self.tree.join("usr/bin/op-dbus-stage")
    }

    /// The guest program.
    pub fn guest(&self) -> &Path {
        &self.guest
    }

    /// The demo service.
    pub fn demo(&self) -> &Path {
        &self.demo
    }

    /// A key of everything in the tree that can change how a guest behaves.
    pub fn key(&self) -> Result<Key> {
        let mut key = Key::default();
        for part in ["usr/bin", "usr/libexec", "usr/lib", "usr/share/dbus-1"] {
            let path = self.tree.join(part);
            if path.exists() {
                key = key.tree(&path)?;
            }
        }
        key.file(&self.guest)
    }
}

/// The workspace this program was built in.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
