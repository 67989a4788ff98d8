//! How a boot came to its end, by what it left behind.
//!
//! Nobody sees a power cut. What can be seen afterwards is a mark that says
//! whether the boot was shut down in order, the kernel's last words where the
//! hardware keeps them (pstore), and whether a watchdog owns up to the reset.
//! [`Evidence::ending`] weighs them; the strongest counts:
//!
//! 1. The kernel's own words. A watchdog that ends a boot by a panic says so in
//!    them. They also count after an orderly mark: that is made while services
//!    stop, and the kernel may die after it.
//! 2. The watchdog's word, for the same reason before the mark. Not if its flag
//!    was up when that boot began, and that boot ended in order: then it is one
//!    that nobody takes down.
//! 3. The mark: in order, or not. Without any trace, a boot that was not shut
//!    down lost its power, or was reset; a device that keeps no panic records
//!    can't exclude a panic, and the sentence says so.
//! 4. No mark: the boot never got as far as making one, and nothing tells why.

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

/// What a boot said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// Nothing: it did not get that far.
    None,
    /// That it runs.
    Running,
    /// That it is being shut down in order.
    Orderly,
}

/// The kernel's last words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Panic {
    /// What it panicked of, one line; may be empty.
    pub message: String,
}

/// How the software watchdog says that it ends a boot (Linux, softdog).
const SOFTWARE_WATCHDOG: &str = "Software Watchdog Timer expired";

/// What a boot left behind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// Its own word.
    pub mark: Mark,
    /// The kernel's.
    pub panic: Option<Panic>,
    /// Whether a watchdog says that it reset the machine.
    pub watchdog: bool,
    /// Whether it said so already when that boot began.
    pub watchdog_before: bool,
    /// Whether this machine keeps the words of a kernel that panics.
    pub keeps_panics: bool,
}

impl Evidence {
    /// How that boot ended, and the sentence that says why it is believed.
    pub fn ending(&self) -> (Ending, String) {
        let late = match self.mark {
            Mark::Orderly => " while it was shutting down",
            Mark::None => " before the host was up",
            Mark::Running => "",
        };
        if let Some(Panic { message }) = &self.panic {
            if message.contains(SOFTWARE_WATCHDOG) {
                return (
                    Ending::Watchdog,
                    format!("the software watchdog ended it{late}"),
                );
            }
            let of = if message.is_empty() {
                String::new()
            } else {
                format!(": {message}")
            };
            return (Ending::Panic, format!("the kernel panicked{late}{of}"));
        }
        let is_stuck = self.watchdog_before && self.mark == Mark::Orderly;
        if self.watchdog && !is_stuck {
            return (
                Ending::Watchdog,
                format!("a watchdog reset the machine{late}"),
            );
        }
        match self.mark {
            Mark::Orderly => (
                Ending::Orderly,
                "it was shut down or rebooted in order".to_owned(),
            ),
            Mark::Running if self.keeps_panics => (
                Ending::PowerCut,
                "it was not shut down, and left no trace of a panic or watchdog: \
                 the power was cut, or it was reset"
                    .to_owned(),
            ),
            Mark::Running => (
                Ending::PowerCut,
                "it was not shut down and left no trace: the power was cut, or it was reset; \
                 a panic would leave none on this device"
                    .to_owned(),
            ),
            Mark::None => (
                Ending::Unknown,
                "it ended before the host was up, and left no trace".to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
