//! What was found, for people and programs.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::State;
use crate::check::Violation;
use crate::error::{At as _, Result};
use crate::explorer::Outcome;
use crate::programs::Ran;
use crate::recording::Recording;
use crate::times::Times;

/// A state in which something is wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// Which state.
    pub state: String,
    /// Where that is in the story.
    pub moment: String,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// Where the evidence is.
    pub evidence: String,
    /// How to see it again.
    pub reproduce: String,
    #[serde(skip)]
    ran: Vec<Ran>,
}

impl Found {
    /// What came of a state.
    pub fn new(
        recording: &Recording,
        state: &State,
        outcome: Outcome,
        directory: &Path,
        arguments: &[String],
    ) -> Self {
        let mut reproduce = format!("op-dbus-crash replay {} {state}", arguments.join(" "));
        if let Some((second, log)) = &outcome.second {
            // Writing to a string can't fail.
            let _ = write!(reproduce, " --second {} {second}", log.display());
        }
        Self {
            state: state.to_string(),
            moment: recording.moment(state),
            violations: outcome.violations,
            evidence: directory.display().to_string(),
            reproduce,
            ran: outcome.ran,
        }
    }

    /// Leaves what is known of it in a directory.
    pub fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).at("create directory", directory)?;
        let path = directory.join("report.txt");
        let mut text = format!("{self}\n");
        for ran in &self.ran {
            // Writing to a string can't fail.
            let _ = write!(text, "\n{ran}\n");
        }
        fs::write(&path, text).at("write", &path)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "VIOLATION in state {}, {}:", self.state, self.moment)?;
        for violation in &self.violations {
            writeln!(f, "  - {violation}")?;
        }
        writeln!(f, "  evidence: {}", self.evidence)?;
        write!(f, "  again:    {}", self.reproduce)
    }
}

impl Outcome {
    /// Something is wrong with the exploring itself.
    pub(crate) fn wrong(check: &str, expected: &str, found: &str) -> Self {
        Self {
            violations: vec![Violation::new(check, expected, found)],
            ..Self::default()
        }
    }
}

/// What all of it came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// Entries of the log.
    pub log_entries: usize,
    /// States explored.
    pub states: usize,
    /// Of these, with a second boot and the interrupted command again.
    pub again: usize,
    /// Of these, with a second power cut during the recovery.
    pub twice: usize,
    /// What they were chosen by.
    pub seed: u64,
    /// Workers at once.
    pub workers: usize,
    /// How long it took.
    pub seconds: f64,
    /// Where the workers' time went.
    pub times: Times,
    /// States by the step that was in flight.
    pub by_step: Vec<(String, usize)>,
    /// States in which something is wrong, in their order.
    pub violations: Vec<Found>,
}

#[allow(clippy::cast_precision_loss, reason = "numbers for people")]
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (step, count) in &self.by_step {
            writeln!(f, "{count:>7}  {step}")?;
        }
        writeln!(f, "\n{}", self.times.table(self.states))?;
        writeln!(
            f,
            "{} states of {} log entries, seed {}; {} with a second boot, {} with a second cut",
            self.states, self.log_entries, self.seed, self.again, self.twice
        )?;
        let speed = self.states as f64 / self.seconds;
        let cpu = self.times.total().cpu.as_secs_f64();
        writeln!(
            f,
            "{:.1} s with {} workers: {speed:.1} states/s; {cpu:.1} s of CPU: {:.1} states/s of it",
            self.seconds,
            self.workers,
            self.states as f64 / cpu.max(0.001)
        )?;
        write!(f, "{} violations", self.violations.len())
    }
}
