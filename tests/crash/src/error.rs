//! What keeps the explorer from exploring: the host, never the programs under test.

use std::io;
use std::path::Path;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, to what.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The story did not go as it is told.
    #[error("the story stopped at \"{step}\": {why}")]
    Story {
        /// The step.
        step: String,
        /// What came instead.
        why: String,
    },
    /// Anything else, as `<what>: <why>; <remedy>`.
    #[error("{0}")]
    Other(String),
}

/// Result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Says what was being done.
pub(crate) trait At<T> {
    /// `what` was being done to `path`.
    fn at(self, what: &str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io {
            what: format!("{}: {what}", path.display()),
            source,
        })
    }
}
