//! Writes a plan into systemd's output directory.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::plan::Item;

/// A unit or link could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write {}: {source}; is it systemd's generator directory, and not full?", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// Creates every item below `output`, replacing what an earlier run left there.
/// One that fails does not keep the others from being written; the first error
/// is returned.
pub fn write(items: &[Item], output: &Path) -> Result<(), Error> {
    items
        .iter()
        .map(|item| create(item, output))
        .fold(Ok(()), Result::and)
}

fn create(item: &Item, output: &Path) -> Result<(), Error> {
    let path = output.join(match item {
        Item::File { path, .. } | Item::Link { path, .. } => path,
    });
    let attempt = || {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match item {
            Item::File { text, .. } => fs::write(&path, text),
            Item::Link { target, .. } => symlink(target, &path),
        }
    };
    attempt().map_err(|source| Error {
        path: path.clone(),
        source,
    })
}
