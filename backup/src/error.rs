//! Why a backup can't be read.

use std::io;

/// Result of reading or writing a backup.
pub type Result<T> = std::result::Result<T, BackupError>;

/// Why a backup can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The medium it comes from, or goes to, failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Something else, or of a later release.
    #[error("{0}")]
    Foreign(String),
    /// It was a backup once.
    #[error("{0}")]
    Damaged(String),
    /// What is to be written can't be.
    #[error("{0}")]
    Unwritable(String),
}

impl BackupError {
    pub(crate) fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged(why.into())
    }
}
