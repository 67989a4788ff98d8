//! What can keep mutants from being tried.

use std::io;
use std::path::{Path, PathBuf};

/// This crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Why mutants can't be tried. That one survives is no error, but a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error("{}: {operation}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A table that can't be read.
    #[error("{}: {why}; correct the table", path.display())]
    Table {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A mutant that does not fit the tree, or is not well-formed.
    #[error("mutant {mutant}: {why}; correct it in tests/mutants/table")]
    Mutant {
        /// Its name.
        mutant: String,
        /// What is wrong.
        why: String,
    },
    /// A name that no mutant has.
    #[error("no mutant is named {0:?}; see: op-dbus-mutants list")]
    Unknown(String),
    /// A program this one needs.
    #[error("{program}: {why}; {remedy}")]
    Program {
        /// Which.
        program: &'static str,
        /// How it failed.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            operation,
            source,
        }
    }
}
