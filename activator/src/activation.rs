//! What this boot activated, and why: `/run/op-dbus/activation.json`.

use std::io;
use std::path::{Path, PathBuf};

use op_dbus_bootstate::transition::Running;
use op_dbus_bootstate::{BootId, Digest, Slot, Version, codec};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::layout::Layout;
use crate::overlay::OverlayReport;

/// Schema of the file.
pub const SCHEMA: u32 = 1;
/// Longest file a reader accepts, in bytes.
pub const MAX_LEN: usize = 64 * 1024;

/// How the boot ended for the activator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A version is mounted.
    Activated,
    /// There was none to mount, or none was wanted; the host boots on without.
    Rescue,
    /// The kernel command line said `op-dbus=off`.
    Off,
    /// Something of the host was missing or broken, before any version was at
    /// fault; nothing is mounted, nothing counted against a version.
    Failed,
}

/// Where the choice came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The boot record, by its rules.
    Record,
    /// The operator, on the kernel command line.
    CommandLine,
}

/// A candidate that could not be activated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// In which role.
    pub slot: Slot,
    /// Which version.
    pub version: Version,
    /// What was wrong with it.
    pub reason: String,
}

/// In which state the boot record was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordState {
    /// Both copies agreed.
    Intact,
    /// One copy was older: a crash between the two writes.
    StaleCopy,
    /// One copy was lost.
    OneCopy,
    /// Both were lost; the one of the last bless was used.
    RebuiltBlessed,
    /// All three were lost; a new one was made from the audit log.
    RebuiltHistory,
    /// All three were lost, and nothing in the store tells what to run.
    Missing,
    /// A newer release wrote it; this one keeps its hands off.
    NewerFormat,
    /// Nothing was read: no store, or none wanted.
    Unreadable,
}

/// The boot record, as this boot found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordReport {
    /// Its state.
    pub state: RecordState,
    /// Whether what was lost has been written again.
    pub repaired: bool,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// Which program wrote it, with its version.
    pub program: String,
    /// Formats of the boot record that program reads: staging writes none newer.
    pub record_formats: Vec<u32>,
    /// The kernel's id of this boot.
    pub boot_id: Option<BootId>,
    /// How it ended.
    pub outcome: Outcome,
    /// In which role the version runs.
    pub slot: Option<Slot>,
    /// Which version runs.
    pub version: Option<Version>,
    /// With which content.
    pub digest: Option<Digest>,
    /// Whether the boot counts: only then can it be blessed or condemned.
    pub counted: bool,
    /// Where the choice came from.
    pub source: Source,
    /// Why, in a sentence.
    pub reason: String,
    /// The overlay; none: there is none.
    #[serde(default)]
    pub overlay: Option<OverlayReport>,
    /// What works less well than it should, as stable words.
    pub degraded: Vec<String>,
    /// Candidates that could not be activated, in order.
    pub failures: Vec<Failed>,
    /// The boot record.
    pub record: RecordReport,
    /// Time each step took, in microseconds, in order.
    pub steps_us: Vec<(String, u64)>,
    /// Time of everything, in microseconds.
    pub total_us: u64,
}

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// It can't be read or written.
    #[error("{}: {operation}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not what the activator writes.
    #[error("{}: {why}; boot again to have it written anew", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Activation {
    /// A report with nothing activated yet.
    pub fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA,
            program: concat!("op-dbus-activate ", env!("CARGO_PKG_VERSION")).to_owned(),
            record_formats: codec::FORMATS_READ.to_vec(),
            boot_id: None,
            outcome,
            slot: None,
            version: None,
            digest: None,
            counted: false,
            source: Source::Record,
            reason: reason.into(),
            overlay: None,
            degraded: Vec::new(),
            failures: Vec::new(),
            record: RecordReport {
                state: RecordState::Unreadable,
                repaired: false,
            },
            steps_us: Vec::new(),
            total_us: 0,
        }
    }

    /// What this boot runs, for [`op_dbus_bootstate::transition`]. None unless a
    /// version was activated.
    pub fn running(&self) -> Option<Running> {
        if self.outcome != Outcome::Activated {
            return None;
        }
        Some(Running {
            boot_id: self.boot_id?,
            slot: self.slot?,
            version: self.version.clone()?,
            digest: self.digest?,
            counted: self.counted,
        })
    }

    /// Reads what this boot activated. `None`: the activator has not run.
    pub fn read(layout: &Layout) -> Result<Option<Self>, ActivationError> {
        let path = layout.activation();
        match files::read_bounded(&path, MAX_LEN) {
            Ok(bytes) => Self::parse(&bytes, &path).map(Some),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ActivationError::Io {
                path,
                operation: "read",
                source,
            }),
        }
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Self, ActivationError> {
        let malformed = |why: String| ActivationError::Malformed {
            path: path.to_owned(),
            why,
        };
        let found: Self =
            serde_json::from_slice(bytes).map_err(|why| malformed(why.to_string()))?;
        if found.schema != SCHEMA {
            return Err(malformed(format!(
                "schema {} instead of {SCHEMA}",
                found.schema
            )));
        }
        Ok(found)
    }

    /// Writes the file atomically, making its directory if needed.
    pub fn write(&self, layout: &Layout) -> Result<(), ActivationError> {
        let path = layout.activation();
        let fail = |operation, source| ActivationError::Io {
            path: layout.activation(),
            operation,
            source,
        };
        let mut text = serde_json::to_vec(self).map_err(|why| fail("encode", why.into()))?;
        text.push(b'\n');
        std::fs::create_dir_all(layout.run_dir()).map_err(|why| fail("make its directory", why))?;
        files::replace(&path, &text, 0o644, files::Durable::No).map_err(|why| fail("write", why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activated() -> Activation {
        Activation {
            boot_id: Some(BootId([1; 16])),
            slot: Some(Slot::Trial),
            version: Some("v1.1.0".parse().unwrap()),
            digest: Some(Digest([2; 32])),
            counted: true,
            steps_us: vec![("config".to_owned(), 12)],
            ..Activation::new(Outcome::Activated, "a trial had tries left")
        }
    }

    #[test]
    fn survives_the_file_and_tells_what_runs() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), "/");
        assert!(Activation::read(&layout).unwrap().is_none());
        let written = activated();
        written.write(&layout).unwrap();
        let read = Activation::read(&layout).unwrap().unwrap();
        assert_eq!(read, written);
        let running = read.running().unwrap();
        assert_eq!(running.slot, Slot::Trial);
        assert!(running.counted);
    }

    #[test]
    fn nothing_runs_unless_a_version_was_activated() {
        for outcome in [Outcome::Rescue, Outcome::Off, Outcome::Failed] {
            let report = Activation {
                outcome,
                ..activated()
            };
            assert_eq!(report.running(), None);
        }
    }

    #[test]
    fn the_words_are_those_of_the_schema() {
        let text = serde_json::to_string(&activated()).unwrap();
        for part in [
            r#""outcome":"activated""#,
            r#""slot":"trial""#,
            r#""source":"record""#,
            r#""state":"unreadable""#,
            r#""steps_us":[["config",12]]"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
