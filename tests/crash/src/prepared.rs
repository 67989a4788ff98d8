//! What a recording begins with: an empty Btrfs, signed releases, and the
//! certificate they are to be trusted by. Made with the tools of a host and the
//! shipped programs, kept in a directory, and used by hosts that have no tools.

mod releases;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::error::{At as _, Error, Result};
use crate::programs::{Programs, Ran};

/// Size of the disk: small, with room for four versions twice.
const DISK: u64 = 256 << 20;

/// A directory with all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    dir: PathBuf,
    /// The digest of each version's tree, by its name.
    pub digests: BTreeMap<String, String>,
}

const DISK_NAME: &str = "disk.img";
const CERTIFICATE: &str = "release.asc";
const RELEASES: &str = "releases";

impl Prepared {
    /// Makes it in a directory that is empty, or not there yet.
    pub fn make(dir: &Path, programs: &Programs) -> Result<Self> {
        fs::create_dir_all(dir.join(RELEASES)).at("create directory", dir)?;
        let disk = dir.join(DISK_NAME);
        file_system(&disk, DISK)?;
        releases::make(programs, &dir.join(RELEASES), &dir.join(CERTIFICATE))?;
        Self::open(dir)
    }

    /// Opens what [`Prepared::make`] made, there or on another machine.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = dir.canonicalize().at("open", dir)?;
        let releases = dir.join(RELEASES);
        let mut digests = BTreeMap::new();
        for entry in fs::read_dir(&releases).at("list", &releases)? {
            let path = entry.at("list", &releases)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let text = fs::read(&path).at("read", &path)?;
                let (version, digest) = identity(&text).ok_or_else(|| {
                    Error::Other(format!(
                        "{}: no manifest; make the directory again with: op-dbus-crash prepare",
                        path.display()
                    ))
                })?;
                digests.insert(version, digest);
            }
        }
        Ok(Self { dir, digests })
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The disk's image.
    pub fn disk(&self) -> PathBuf {
        self.dir.join(DISK_NAME)
    }

    /// The directory of the releases.
    pub fn releases(&self) -> PathBuf {
        self.dir.join(RELEASES)
    }

    /// The certificate of who signed them.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join(CERTIFICATE)
    }
}

/// Version and digest, as a manifest says.
fn identity(manifest: &[u8]) -> Option<(String, String)> {
    let value: serde_json::Value = serde_json::from_slice(manifest).ok()?;
    let version = value["version"].as_str()?;
    let digest = value["tree"]["digest"].as_str()?;
    Some((version.to_owned(), digest.to_owned()))
}

/// An empty Btrfs in a sparse file, as `mkfs.btrfs` makes it without options.
fn file_system(path: &Path, size: u64) -> Result<()> {
    let file = File::create(path).at("create", path)?;
    file.set_len(size).at("size", path)?;
    let mut mkfs = Command::new("mkfs.btrfs");
    mkfs.arg("--quiet").arg(path);
    tool(mkfs)
}

/// Runs a tool of the host that must succeed.
fn tool(command: Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let ran = Ran::of(command).at("run", Path::new(&program))?;
    if ran.succeeded() {
        return Ok(());
    }
    Err(Error::Other(ran.to_string()))
}
