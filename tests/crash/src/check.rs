//! Whether what a power cut left is as it must be: looking is apart from judging,
//! so that every judgement can be tried with made-up sights.

mod judge;
mod observe;
mod rerun;
mod sound;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::story::UserChange;

pub use judge::judge;
pub use observe::{Copy, Observation, Record, Seen, Sights, observe};
pub use rerun::rerun;
pub use sound::Signed;
pub(crate) use sound::signed;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which check found it, in a word.
    pub check: String,
    /// What had to be.
    pub expected: String,
    /// What was.
    pub found: String,
}

impl Violation {
    pub(crate) fn new(check: &str, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self {
            check: check.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            check,
            expected,
            found,
        } = self;
        write!(f, "{check}: expected {expected}; found {found}")
    }
}

/// What may be found: after `before` was acknowledged, and before `after` was.
#[derive(Debug, Clone, Copy)]
pub struct Between<'a> {
    /// What was acknowledged.
    pub before: &'a Facts,
    /// What the step in flight would have brought; none between two steps.
    pub after: Option<&'a Facts>,
    /// The user's change in flight.
    pub change: Option<UserChange>,
    /// Whether the command in flight was run again: what it logs may be there again.
    pub again: bool,
    /// How many boots there were since the power cut, this one included; a boot
    /// that was cut short itself may have counted, or not.
    pub boots: (usize, usize),
    /// Whether the first of these boots was cut short, or not yet durable in all
    /// it had done, when power went again.
    pub twice: bool,
}
