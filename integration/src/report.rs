//! `/run/op-dbus/import.json`: what was taken from the version, and what was not.

use std::io;
use std::path::PathBuf;

use op_dbus_activator::files::{self, Durable};
use op_dbus_activator::layout::Layout;
use serde::{Deserialize, Serialize};

/// Refusals kept; of more there is the number.
pub const MAX_REFUSED: usize = 32;
/// Bytes of one refusal kept.
const MAX_LINE: usize = 512;
/// Longest file a reader accepts, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// What one run of the import did.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The version it was taken from.
    pub version: String,
    /// Lines for systemd-sysusers.
    pub sysusers: usize,
    /// Lines for systemd-tmpfiles.
    pub tmpfiles: usize,
    /// D-Bus policy files.
    pub policies: usize,
    /// D-Bus activation files.
    pub services: usize,
    /// What was refused or not published: path, maybe line, and why.
    pub refused: Vec<String>,
    /// How many more there were.
    #[serde(default)]
    pub more: usize,
}

impl Report {
    /// Where it is.
    pub fn path(layout: &Layout) -> PathBuf {
        layout.run_dir().join("import.json")
    }

    /// Puts the refusals in, as many as are kept.
    #[must_use]
    pub fn refusing(mut self, mut notes: Vec<String>) -> Self {
        self.more = notes.len().saturating_sub(MAX_REFUSED);
        notes.truncate(MAX_REFUSED);
        for note in &mut notes {
            let end = (0..=MAX_LINE).rev().find(|&at| note.is_char_boundary(at));
            note.truncate(end.unwrap_or(0));
        }
        self.refused = notes;
        self
    }

    /// Reads it. None: nothing was imported in this boot.
    pub fn read(layout: &Layout) -> io::Result<Option<Self>> {
        match files::read_bounded(&Self::path(layout), MAX_BYTES) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Writes it; `/run/op-dbus` is there.
    pub fn write(&self, layout: &Layout) -> io::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        files::replace(&Self::path(layout), &text, 0o644, Durable::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_small_whatever_was_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), "/");
        std::fs::create_dir(layout.run_dir()).unwrap();
        assert_eq!(Report::read(&layout).unwrap(), None);
        let report = Report::default().refusing(vec!["ä".repeat(1000); 100]);
        assert_eq!((report.refused.len(), report.more), (MAX_REFUSED, 68));
        report.write(&layout).unwrap();
        assert_eq!(Report::read(&layout).unwrap(), Some(report));
    }
}
