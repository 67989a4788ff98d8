//! What came of the mutants.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// What became of one mutant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// A test failed, as it should.
    Killed {
        /// Which; empty where the killer does not name tests.
        by: Vec<String>,
    },
    /// The killer did not come to its end: as good as a failure, for it would
    /// have without the mutant.
    TimedOut,
    /// Nothing noticed.
    Survived,
    /// It does not compile, so it shows nothing.
    Broken,
    /// Its killer does not pass without it, or it does not fit the file any more,
    /// so it shows nothing.
    Unfit {
        /// In what way.
        why: String,
    },
    /// Not tried: the table proves that the step is not needed.
    Redundant,
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Killed { .. } => "killed",
            Self::TimedOut => "timed out",
            Self::Survived => "SURVIVED",
            Self::Broken => "BROKEN",
            Self::Unfit { .. } => "UNFIT",
            Self::Redundant => "redundant",
        }
    }

    /// Whether it is what the table promises.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::Killed { .. } | Self::TimedOut | Self::Redundant)
    }
}

/// One mutant's line.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) killer: Option<String>,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// Building and testing.
    pub(crate) seconds: u64,
    /// What the commands printed.
    pub(crate) log: PathBuf,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.outcome.word();
        write!(f, "{word:<10} {:<36} {:>4} s", self.name, self.seconds)?;
        match &self.outcome {
            Outcome::Killed { by } => match by.as_slice() {
                [] => Ok(()),
                [one] => write!(f, "  {one}"),
                [first, rest @ ..] => write!(f, "  {first} and {} more", rest.len()),
            },
            Outcome::Unfit { why } => write!(f, "  {why}"),
            Outcome::Survived | Outcome::Broken => write!(f, "  {}", self.log.display()),
            Outcome::TimedOut | Outcome::Redundant => Ok(()),
        }
    }
}

/// One line about all of them.
pub(crate) fn summary(reports: &[Report]) -> String {
    let mut parts = Vec::new();
    for word in [
        "killed",
        "timed out",
        "redundant",
        "SURVIVED",
        "BROKEN",
        "UNFIT",
    ] {
        let count = reports
            .iter()
            .filter(|report| report.outcome.word() == word)
            .count();
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    format!("{} mutants: {}", reports.len(), parts.join(", "))
}
