//! Releases to test with, on a disk that a guest mounts.
//!
//! The demo's are made as a user makes them: with the build half of
//! `op-dbus-stage`, signed with gpg.

pub mod bad;
mod build_system;
mod demo;
mod signer;
mod unwell;

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{Cache, Entry};
use crate::error::{Context, Result};
use crate::programs::Programs;
use crate::tool::Tool;

pub use demo::{Demo, demos};

/// Label of the disk that carries releases into a guest.
pub const LABEL: &str = "op-dbus-rel";

/// Releases, and whom to trust for them.
#[derive(Debug)]
pub struct Releases {
    place: Place,
    keys: Vec<PathBuf>,
}

#[derive(Debug)]
enum Place {
    Cached(Entry),
    Own {
        directory: PathBuf,
        temporary: tempfile::TempDir,
    },
}

impl Releases {
    /// The demo's, made by `programs`, from the cache when they are there.
    pub fn demo(cache: &Cache, programs: &Programs) -> Result<Self> {
        let entry = cache.entry("releases", &demo::key(programs)?, |entry| {
            let directory = entry.join(DIRECTORY);
            fs::create_dir(&directory).at("make", &directory)?;
            demo::build(programs, &directory, &entry.join(CERTIFICATE))?;
            image(&directory, &entry.join(IMAGE))
        })?;
        let keys = vec![entry.file(CERTIFICATE)];
        let place = Place::Cached(entry);
        Ok(Self { place, keys })
    }

    /// A user's own: what is in `directory`, as `op-dbus-stage send` and `sign`
    /// leave it, and the certificates of who signed it.
    pub fn own(directory: &Path, keys: &[PathBuf]) -> Result<Self> {
        let temporary = tempfile::tempdir().context(|| "make a temporary directory".into())?;
        image(directory, &temporary.path().join(IMAGE))?;
        let place = Place::Own {
            directory: directory.to_owned(),
            temporary,
        };
        let keys = keys.to_owned();
        Ok(Self { place, keys })
    }

    /// The same, for a machine that is to trust `more` as well.
    #[must_use]
    pub fn trusting(mut self, more: &[PathBuf]) -> Self {
        for key in more {
            if !self.keys.contains(key) {
                self.keys.push(key.clone());
            }
        }
        self
    }

    /// The disk's image.
    pub fn image(&self) -> PathBuf {
        match &self.place {
            Place::Cached(entry) => entry.file(IMAGE),
            Place::Own { temporary, .. } => temporary.path().join(IMAGE),
        }
    }

    /// What is on the disk: manifests, signatures and streams.
    pub fn directory(&self) -> PathBuf {
        match &self.place {
            Place::Cached(entry) => entry.file(DIRECTORY),
            Place::Own { directory, .. } => directory.clone(),
        }
    }

    /// Certificates that a device needs to take them. They are no part of the
    /// disk: what a medium says of itself is worth nothing.
    pub fn keys(&self) -> &[PathBuf] {
        &self.keys
    }
}

const DIRECTORY: &str = "releases";
const IMAGE: &str = "releases.img";
const CERTIFICATE: &str = "demo.asc";

/// Where a guest finds the file `name` of the release disk.
pub fn path_in_guest(name: &str) -> String {
    format!("{}/{name}", op_dbus_vm_guest::init::RELEASES)
}

/// An ext4 image with the files of `directory`: every guest's kernel has ext4,
/// and nothing about it can be mistaken for the store.
pub(crate) fn image(directory: &Path, path: &Path) -> Result<()> {
    let bytes = (8 << 20) + size(directory)?;
    let file = fs::File::create(path).at("create", path)?;
    file.set_len(bytes + bytes / 8).at("size", path)?;
    Tool::new("mke2fs")
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-L", LABEL, "-d"])
        .args([directory, path])
        .run()
        .map(drop)
}

fn size(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).at("list", directory)? {
        let path = entry.at("list", directory)?.path();
        let found = path.symlink_metadata().at("look at", &path)?;
        bytes += if found.is_dir() {
            size(&path)?
        } else {
            found.len()
        };
    }
    Ok(bytes)
}
