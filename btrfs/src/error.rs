//! The one error of this crate.

use std::io;
use std::path::{Path, PathBuf};

/// A Btrfs operation that failed, and on what.
#[derive(Debug, thiserror::Error)]
#[error("{}: {operation}: {source}", path.display())]
pub struct Error {
    /// What was being done, for example "create subvolume".
    pub operation: &'static str,
    /// To which path.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl Error {
    pub(crate) fn new(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether the path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}
