//! One error type: each message names the operation, the path and, where there
//! is one, the remedy.

use std::io;
use std::path::Path;

/// Why something could not be built, booted or played.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// Operation and path.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A program of the host failed.
    #[error("`{command}` failed ({outcome}){}", last_words(.stderr))]
    Tool {
        /// Program and arguments.
        command: String,
        /// Exit code, signal, or why it did not start.
        outcome: String,
        /// What it said.
        stderr: String,
    },
    /// Something did not happen in time.
    #[error("waited {seconds} s for {what}, in vain; console log: {console}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// Where the console's text is.
        console: String,
    },
    /// The guest did something else than it was asked to.
    #[error("{what}; console log: {console}")]
    Guest {
        /// What happened.
        what: String,
        /// Where the console's text is.
        console: String,
    },
    /// A scenario, or what it asks for, makes no sense.
    #[error("{0}")]
    Scenario(String),
    /// The host lacks something.
    #[error("{0}")]
    Host(String),
    /// A step of a scenario found something else than it expects.
    #[error("{0}")]
    Expectation(String),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds the operation and the path to an I/O error.
pub trait Context<T> {
    /// `what` is called only on failure.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
    /// "operation path".
    fn at(self, operation: &str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Io {
            what: what(),
            source: error.into(),
        })
    }

    fn at(self, operation: &str, path: &Path) -> Result<T> {
        self.context(|| format!("{operation} {}", path.display()))
    }
}

fn last_words(stderr: &str) -> String {
    let tail: Vec<&str> = stderr.trim().lines().rev().take(5).collect();
    if tail.is_empty() {
        return String::new();
    }
    let lines: Vec<&str> = tail.into_iter().rev().collect();
    format!(": {}", lines.join(" | "))
}
