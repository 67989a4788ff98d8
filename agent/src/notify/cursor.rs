//! Up to which line of the audit log hooks have been told.
//!
//! Kept beside the log, and tied to it: a line's hash of the line before, and its
//! time, tell the log apart from one that was begun anew, restored, or rewritten,
//! in which the same number means another line.

use std::io;
use std::path::Path;

use op_dbus_activator::files::{self, Durable};
use op_dbus_bootstate::Digest;
use op_dbus_bootstate::audit::Line;
use serde::{Deserialize, Serialize};

/// Longest file that is read, in bytes.
const MAX_LEN: usize = 4096;
const SCHEMA: u32 = 1;

/// A place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    schema: u32,
    /// Number of the last line that was dealt with; 0: none.
    pub(super) n: u64,
    /// What that line says of the line before it.
    prev: Digest,
    /// When that line was written.
    time: String,
}

impl Cursor {
    /// Before the first line.
    pub(super) fn start() -> Self {
        Self {
            schema: SCHEMA,
            n: 0,
            prev: Digest([0; 32]),
            time: String::new(),
        }
    }

    /// At a line.
    pub(super) fn at(line: &Line) -> Self {
        Self {
            schema: SCHEMA,
            n: line.n,
            prev: line.prev,
            time: line.time.clone(),
        }
    }

    /// Whether `line` is the one this points to.
    pub(super) fn is_at(&self, line: &Line) -> bool {
        self.n == line.n && self.prev == line.prev && self.time == line.time
    }

    /// None: there is none yet.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match files::read_text(path, MAX_LEN) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why),
        };
        let cursor: Self = serde_json::from_str(&text)?;
        if cursor.schema == SCHEMA {
            Ok(Some(cursor))
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    /// Durably: what was told before a power cut is not told again after it.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        files::replace(path, &text, 0o600, Durable::Yes)
    }
}
