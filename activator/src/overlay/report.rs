//! What a boot says of the overlay, in `activation.json`.

use serde::{Deserialize, Serialize};

/// Names of things a plan's entries were not carried out on that are reported.
pub const KEPT_MAX: usize = 16;
/// Longest path in a report, in characters.
const SHOWN_MAX: usize = 200;

/// `overlay` of `activation.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayReport {
    /// Where it comes from.
    pub origin: Begin,
    /// What a plan did to it; none: there was no plan for it.
    pub plan: Option<PlanReport>,
}

/// Where an overlay comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Begin {
    /// The version's own, from earlier boots.
    Own,
    /// A copy of good's, made by this boot.
    Carried,
    /// Made by this boot, empty.
    Empty,
    /// What a try left that ended in order.
    Kept,
}

/// What a plan did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReport {
    /// Entries carried out.
    pub applied: u32,
    /// `path: why` of entries where all was left as the user had it; at most
    /// [`KEPT_MAX`].
    pub kept: Vec<String>,
    /// How many more of those there are.
    pub more: u32,
}

impl PlanReport {
    /// Nothing of the plan could be used.
    pub(super) fn none_of_it(why: &str) -> Self {
        let mut report = Self::default();
        report.keep(b"(plan)", why);
        report
    }

    pub(super) fn keep(&mut self, path: &[u8], why: &str) {
        if self.kept.len() < KEPT_MAX {
            let mut text = shown(path);
            text.push_str(": ");
            text.push_str(why);
            self.kept.push(text);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }
}

/// A path for people: no control characters, and not without end.
fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.chars()
        .take(SHOWN_MAX)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
