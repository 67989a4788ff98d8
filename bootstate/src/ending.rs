//! How a boot came to its end.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a boot ended, as far as the boot after it can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It was shut down or rebooted in order.
    Orderly,
    /// It stopped without any word: the power went, or a reset was pressed.
    PowerCut,
    /// The kernel panicked.
    Panic,
    /// A watchdog reset the machine.
    Watchdog,
    /// Nothing tells. Also what a later release calls by a name of its own.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Orderly => "orderly",
            Self::PowerCut => "power-cut",
            Self::Panic => "panic",
            Self::Watchdog => "watchdog",
            Self::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_written_as_they_are_shown() {
        for ending in [
            Ending::Orderly,
            Ending::PowerCut,
            Ending::Panic,
            Ending::Watchdog,
            Ending::Unknown,
        ] {
            let text = serde_json::to_string(&ending).unwrap();
            assert_eq!(text, format!("\"{ending}\""));
            assert_eq!(serde_json::from_str::<Ending>(&text).unwrap(), ending);
        }
        let later: Ending = serde_json::from_str("\"meteorite\"").unwrap();
        assert_eq!(later, Ending::Unknown);
    }
}
