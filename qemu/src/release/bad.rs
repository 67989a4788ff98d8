//! Releases that a device must refuse: each is a whole one in which a single
//! thing is wrong.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::build_system::BuildSystem;
use super::signer::Signer;
use crate::error::{Context, Error, Result};

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Bad {
    /// Its directory, below [`DIRECTORY`].
    pub name: &'static str,
    /// What is to be said of it in a list.
    pub note: &'static str,
    make: fn(&BuildSystem, &Files) -> Result<()>,
}

/// Directory of the release disk that holds them.
pub const DIRECTORY: &str = "bad";

/// The version they claim to be.
const VERSION: &str = "v1.4.0";

/// All of them.
pub const BAD: &[Bad] = &[
    Bad {
        name: "unsigned",
        note: "no signature",
        make: |_, files| {
            files.copy()?;
            remove(&files.signature)
        },
    },
    Bad {
        name: "wrong-key",
        note: "signed by somebody else",
        make: |system, files| {
            files.copy()?;
            remove(&files.signature)?;
            system.sign_as(&Signer::new("stranger")?, &files.manifest)
        },
    },
    Bad {
        name: "altered-manifest",
        note: "the manifest was changed after it was signed",
        make: |_, files| {
            files.copy()?;
            alter(&files.manifest)
        },
    },
    Bad {
        name: "altered-stream",
        note: "one bit of the stream was changed",
        make: |_, files| {
            files.copy()?;
            flip(&files.stream)
        },
    },
    Bad {
        name: "truncated",
        note: "the stream lacks its end",
        make: |_, files| {
            files.copy()?;
            truncate(&files.stream)
        },
    },
    Bad {
        name: "wrong-product",
        note: "a signed release of something else",
        make: |system, files| {
            let options = ["--product", "something-else"];
            system.send(VERSION, &files.directory, &options)?;
            system.sign(&files.manifest)
        },
    },
    Bad {
        name: "wrong-parent",
        note: "incremental to v1.3.0 only, which no device keeps",
        make: |system, files| {
            system.send(VERSION, &files.directory, &["--parent", "v1.3.0"])?;
            system.sign(&files.manifest)
        },
    },
];

/// Makes all of them below `output`, which holds the whole releases.
pub(super) fn make(system: &BuildSystem, output: &Path) -> Result<()> {
    for bad in BAD {
        let directory = output.join(DIRECTORY).join(bad.name);
        fs::create_dir_all(&directory).at("make", &directory)?;
        (bad.make)(system, &Files::new(output, directory))?;
    }
    Ok(())
}

/// Where the files of a bad release belong.
struct Files {
    whole: PathBuf,
    directory: PathBuf,
    manifest: PathBuf,
    signature: PathBuf,
    stream: PathBuf,
}

impl Files {
    fn new(whole: &Path, directory: PathBuf) -> Self {
        Self {
            whole: whole.to_owned(),
            manifest: directory.join(format!("{VERSION}.json")),
            signature: directory.join(format!("{VERSION}.json.asc")),
            stream: directory.join(format!("{VERSION}.btrfs.zst")),
            directory,
        }
    }

    fn copy(&self) -> Result<()> {
        for to in [&self.manifest, &self.signature, &self.stream] {
            let from = self.whole.join(to.file_name().unwrap_or_default());
            fs::copy(&from, to).at("copy", &from)?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).at("remove", path)
}

/// The same release with a higher security epoch: still a manifest that parses.
fn alter(manifest: &Path) -> Result<()> {
    let text = fs::read_to_string(manifest).at("read", manifest)?;
    let altered = text.replacen("\"epoch\": 0", "\"epoch\": 7", 1);
    if altered == text {
        let name = manifest.display();
        return Err(Error::Host(format!("{name}: no epoch to alter in it")));
    }
    fs::write(manifest, altered).at("write", manifest)
}

/// Where a stream is damaged: late, so that its beginning has been received by
/// then.
fn late(length: u64) -> u64 {
    length - length / 8
}

/// Changes one bit.
fn flip(path: &Path) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.at("open", path)?;
    let place = late(file.metadata().at("look at", path)?.len());
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).at("read", path)?;
    file.write_all_at(&byte.map(|byte| byte ^ 1), place)
        .at("write", path)
}

/// Takes the end away.
fn truncate(path: &Path) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path).at("open", path)?;
    let length = file.metadata().at("look at", path)?.len();
    file.set_len(late(length)).at("truncate", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_change_each() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        fs::write(&path, "{\n  \"epoch\": 0\n}").unwrap();
        alter(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\n  \"epoch\": 7\n}");
        assert!(alter(&path).is_err());
        fs::write(&path, [0; 9]).unwrap();
        flip(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [0, 0, 0, 0, 0, 0, 0, 0, 1]);
        truncate(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [0; 8]);
    }
}
