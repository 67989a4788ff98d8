//! The verdict of a boot: `/run/op-dbus/health.json`.
//!
//! Written in one step at every verdict. A reader that finds no file, or one of
//! another boot or version, knows that the agent did not get so far.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use op_dbus_activator::files::{self, Durable};
use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::{BootId, Version};
use serde::{Deserialize, Serialize};

use crate::settings::Policy;

/// Schema of the file.
pub const SCHEMA: u32 = 1;
/// Name of the file in op-dbus' directory below `/run`.
pub const FILE: &str = "health.json";
/// Longest file a reader accepts, in bytes.
pub const MAX_LEN: usize = 64 * 1024;
/// Most failures a file tells of; the rest would say nothing new.
const MAX_FAILURES: usize = 100;
/// Longest name of a check and longest reason, in bytes.
const MAX_TEXT: usize = 200;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every check that decides held for the settle time.
    Healthy,
    /// At least one that decides did not hold in time.
    Unhealthy,
    /// All that was missing at the end was not known yet.
    Unknown,
    /// There is none: the agent was told to stop (a shutdown, an operator), or
    /// could not tell what to check. Nothing follows from it.
    None,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
            Self::None => "none",
        })
    }
}

/// What weight a check has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It decides.
    Required,
    /// It is reported and never decides.
    Wanted,
    /// Failing means "not known yet": it is about what the version can't help.
    Infrastructure,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "required",
            Self::Wanted => "wanted",
            Self::Infrastructure => "infrastructure",
        })
    }
}

/// A check that did not hold when the verdict came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its name.
    pub check: String,
    /// Why, in words.
    pub reason: String,
    /// What weight it has.
    pub kind: Kind,
}

impl Failure {
    /// One line each, of bounded length, whatever a program had to say.
    pub fn new(check: &str, reason: &str, kind: Kind) -> Self {
        Self {
            check: one_line(check),
            reason: one_line(reason),
            kind,
        }
    }
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// The kernel's id of the boot it was found in.
    pub boot_id: Option<BootId>,
    /// The version that was looked at; none: none was active.
    pub version: Option<Version>,
    /// What was found.
    pub verdict: Verdict,
    /// What the configuration says is to follow from [`Verdict::Unknown`].
    #[serde(default)]
    pub policy: Policy,
    /// When, in milliseconds after boot, suspended time included.
    pub decided_ms: u64,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub waited_ms: u64,
    /// How many checks there were.
    #[serde(default)]
    pub checks: usize,
    /// What did not hold: those that decided first.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Where it is.
    pub fn path(layout: &Layout) -> PathBuf {
        layout.run_dir().join(FILE)
    }

    /// Parses the file's content. The error is one line.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_LEN {
            return Err(format!("longer than {MAX_LEN} bytes"));
        }
        let mut found: Self =
            serde_json::from_slice(bytes).map_err(|why| one_line(&why.to_string()))?;
        if found.schema != SCHEMA {
            return Err(format!("schema {} instead of {SCHEMA}", found.schema));
        }
        found.bound();
        Ok(found)
    }

    /// Reads the file. `None`: there is no verdict.
    pub fn read(layout: &Layout) -> io::Result<Option<Self>> {
        match files::read_bounded(&Self::path(layout), MAX_LEN) {
            Ok(bytes) => match Self::parse(&bytes) {
                Ok(found) => Ok(Some(found)),
                Err(why) => Err(io::Error::new(io::ErrorKind::InvalidData, why)),
            },
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Writes the file in one step, making its directory if needed.
    pub fn write(&self, layout: &Layout) -> io::Result<()> {
        let mut bounded = self.clone();
        bounded.bound();
        let mut text = serde_json::to_vec(&bounded)?;
        text.push(b'\n');
        std::fs::create_dir_all(layout.run_dir())?;
        files::replace(&Self::path(layout), &text, 0o644, Durable::No)
    }

    /// Removes what an earlier run left. There may be none.
    pub fn remove(layout: &Layout) -> io::Result<()> {
        remove(&Self::path(layout))
    }

    fn bound(&mut self) {
        self.failures.truncate(MAX_FAILURES);
        for failure in &mut self.failures {
            *failure = Failure::new(&failure.check, &failure.reason, failure.kind);
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// Without control characters, on one line, of at most [`MAX_TEXT`] bytes.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.trim().chars() {
        // What could move a terminal's cursor, or turn what follows around, is
        // left out like a control character.
        let c = match c {
            '\t' | '\n' | '\r' => ' ',
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => continue,
            c if c.is_control() => continue,
            c => c,
        };
        if line.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            schema: SCHEMA,
            boot_id: Some(BootId([1; 16])),
            version: Some("v1.2.0".parse().unwrap()),
            verdict: Verdict::Unhealthy,
            policy: Policy::Retry,
            decided_ms: 42_000,
            waited_ms: 1500,
            checks: 2,
            failures: vec![Failure::new(
                "unit demo.service",
                "failed (exit-code)",
                Kind::Required,
            )],
        }
    }

    #[test]
    fn the_words_are_those_of_the_schema() {
        assert_eq!(
            serde_json::to_string(&report()).unwrap(),
            r#"{"schema":1,"boot_id":"01010101-0101-0101-0101-010101010101","version":"v1.2.0","verdict":"unhealthy","policy":"retry","decided_ms":42000,"waited_ms":1500,"checks":2,"failures":[{"check":"unit demo.service","reason":"failed (exit-code)","kind":"required"}]}"#
        );
    }

    #[test]
    fn survives_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), "/");
        assert_eq!(Report::read(&layout).unwrap(), None);
        report().write(&layout).unwrap();
        assert_eq!(Report::read(&layout).unwrap(), Some(report()));
        // Whoever is in the middle of reading it goes on with the old one.
        let reader = std::fs::File::open(Report::path(&layout)).unwrap();
        let mut other = report();
        other.failures.clear();
        other.write(&layout).unwrap();
        let old = io::read_to_string(reader).unwrap();
        assert_eq!(Report::parse(old.as_bytes()), Ok(report()));
        assert_eq!(Report::read(&layout).unwrap(), Some(other));
        Report::remove(&layout).unwrap();
        Report::remove(&layout).unwrap();
        assert_eq!(Report::read(&layout).unwrap(), None);
    }

    #[test]
    fn only_what_is_needed_need_be_there() {
        let text = r#"{"schema":1,"boot_id":null,"version":null,"verdict":"none","decided_ms":1,"failures":[]}"#;
        let found = Report::parse(text.as_bytes()).unwrap();
        assert_eq!(found.verdict, Verdict::None);
        assert_eq!(found.policy, Policy::Retry);
    }

    #[test]
    fn foreign_content_is_refused_in_a_line() {
        let newer = r#"{"schema":2,"boot_id":null,"version":null,"verdict":"healthy","decided_ms":1,"failures":[]}"#;
        let unnamed = newer
            .replace("\"schema\":2", "\"schema\":1")
            .replace("healthy", "fine");
        for text in ["", "{", "[]", "{}", newer, &unnamed] {
            let why = Report::parse(text.as_bytes()).unwrap_err();
            assert!(!why.is_empty() && !why.contains('\n'), "{text}: {why}");
        }
        assert!(Report::parse(&vec![b' '; MAX_LEN + 1]).is_err());
    }

    #[test]
    fn words_of_programs_are_made_harmless() {
        let said = "\u{1b}[31mred\u{7}\n\u{202e}two\t ";
        assert_eq!(one_line(said), "[31mred two");
        let long = "ä".repeat(300);
        assert_eq!(one_line(&long).len(), MAX_TEXT);
        let mut many = report();
        many.failures = vec![Failure::new("c", &long, Kind::Wanted); 1000];
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), "/");
        many.write(&layout).unwrap();
        let read = Report::read(&layout).unwrap().unwrap();
        assert_eq!(read.failures.len(), MAX_FAILURES);
    }
}
