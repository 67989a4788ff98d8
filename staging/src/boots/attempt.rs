//! An attempt as its line in the audit log words it, read back.
//!
//! The line is for people, and so the words are pinned: `op_dbus_bootstate` makes
//! them of the same enums, and a test goes through all of them.

use op_dbus_bootstate::Slot;
use op_dbus_bootstate::record::{Outcome, Reason};

/// Every reason there is.
pub(crate) const REASONS: [Reason; 13] = [
    Reason::TrialDue,
    Reason::Regular,
    Reason::SameBoot,
    Reason::TriesExhausted,
    Reason::CandidateFailed,
    Reason::NotDurable,
    Reason::GoodLimit,
    Reason::GoodCondemned,
    Reason::AfterRescue,
    Reason::NothingLeft,
    Reason::NothingInstalled,
    Reason::CommandLine,
    Reason::CommandLineFailed,
];
const OUTCOMES: [Outcome; 5] = [
    Outcome::Selected,
    Outcome::Missing,
    Outcome::Altered,
    Outcome::ActivationFailed,
    Outcome::TriesExhausted,
];
const SLOTS: [Slot; 4] = [Slot::Good, Slot::Fallback, Slot::Trial, Slot::Named];
/// What stands in a role's place where nothing was activated.
const RESCUE: &str = "rescue";

/// What a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// In which role; none for a boot that ended in rescue.
    pub(crate) slot: Option<Slot>,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// Why the boot chose it.
    pub(crate) reason: Reason,
}

impl Attempt {
    /// Of a line's `detail`. None: of a later release, which words it differently.
    pub(crate) fn parse(detail: &str) -> Option<Self> {
        let (role, rest) = detail.split_once(": ")?;
        let (outcome, reason) = rest.split_once("; ")?;
        let slot = SLOTS.into_iter().find(|slot| slot.to_string() == role);
        if slot.is_none() && role != RESCUE {
            return None;
        }
        Some(Self {
            slot,
            outcome: OUTCOMES
                .into_iter()
                .find(|known| known.words() == outcome)?,
            reason: REASONS
                .into_iter()
                .find(|known| known.sentence() == reason)?,
        })
    }
}

/// A reason in a word or two, for a column.
pub(crate) fn short(reason: Reason) -> &'static str {
    match reason {
        Reason::TrialDue => "on trial",
        Reason::Regular => "regular",
        Reason::SameBoot => "same boot",
        Reason::TriesExhausted => "tries used up",
        Reason::CandidateFailed => "another failed",
        Reason::NotDurable => "not countable",
        Reason::GoodLimit => "good at limit",
        Reason::GoodCondemned => "good condemned",
        Reason::AfterRescue => "after rescue",
        Reason::NothingLeft => "nothing left",
        Reason::NothingInstalled => "none installed",
        Reason::CommandLine => "command line",
        Reason::CommandLineFailed => "choice failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::audit::Event;
    use op_dbus_bootstate::{BootId, record};
    use std::collections::BTreeSet;

    #[test]
    fn whatever_is_written_is_read_back() {
        let roles = SLOTS.map(Some).into_iter().chain([None]);
        for slot in roles {
            for outcome in OUTCOMES {
                for reason in REASONS {
                    let written = record::Attempt {
                        boot_id: BootId([1; 16]),
                        slot,
                        digest: None,
                        outcome,
                        reason,
                    };
                    let detail = Event::attempt(&written).detail;
                    let expected = Attempt {
                        slot,
                        outcome,
                        reason,
                    };
                    assert_eq!(Attempt::parse(&detail), Some(expected), "{detail}");
                }
            }
        }
    }

    #[test]
    fn no_value_is_forgotten() {
        // A new one must be put into the arrays above: what serde knows is asked.
        let unknown = serde_json::from_str::<Reason>("\"?\"")
            .unwrap_err()
            .to_string();
        assert_eq!(
            unknown.matches('`').count(),
            2 + 2 * REASONS.len(),
            "{unknown}"
        );
        let unknown = serde_json::from_str::<Outcome>("\"?\"")
            .unwrap_err()
            .to_string();
        assert_eq!(
            unknown.matches('`').count(),
            2 + 2 * OUTCOMES.len(),
            "{unknown}"
        );
        let unknown = serde_json::from_str::<Slot>("\"?\"")
            .unwrap_err()
            .to_string();
        assert_eq!(
            unknown.matches('`').count(),
            2 + 2 * SLOTS.len(),
            "{unknown}"
        );
    }

    #[test]
    fn short_words_differ_and_fit_their_column() {
        let words: BTreeSet<_> = REASONS.into_iter().map(short).collect();
        assert_eq!(words.len(), REASONS.len());
        assert!(words.iter().all(|word| word.len() <= 14), "{words:?}");
    }

    #[test]
    fn other_words_are_no_attempt() {
        for detail in [
            "",
            "trial",
            "trial: selected",
            "king: selected; good is the regular choice",
            "trial: eaten; x",
        ] {
            assert_eq!(Attempt::parse(detail), None, "{detail}");
        }
    }
}
