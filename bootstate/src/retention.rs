//! Which versions a device may delete, and why the others stay.
//!
//! Invariant 7: what good, fallback, trial or the running system need is never
//! removed. So everything that is known to need a version is an input here, and
//! whoever can't say what needs what ([`Needs::record`] is none) removes nothing.
//!
//! A version is protected by its name *and* by its content: the record finds a
//! deployment by name, a record rebuilt from the audit log by digest.
//!
//! The newest [`Needs::keep`] stay as well, by semantic versioning. Only versions
//! that could be staged count as such: a quarantined, altered or lost one would
//! take the place of one that is of use.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use serde::Serialize;

use crate::ident::Digest;
use crate::record::{Choice, Deployment, Record};
use crate::version::Version;

/// How many of the newest versions stay unless told otherwise: good, fallback,
/// and one on its way.
pub const KEEP_DEFAULT: u16 = 3;

/// What is left of a version in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Subvolume and receipt agree: it can be staged.
    Whole,
    /// Its subvolume is not what was published, or its receipt is damaged.
    Unusable,
    /// Its subvolume is gone; a receipt, manifest or overlay is left.
    Remains,
    /// A subvolume nobody received: not ours to delete.
    Foreign,
    /// The medium does not tell.
    Unreadable,
}

/// A version of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub version: Version,
    /// Its content, by its receipt.
    pub digest: Option<Digest>,
    /// What is left of it.
    pub condition: Condition,
}

/// What runs, or ran when this boot began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its name.
    pub version: Option<Version>,
    /// Its content.
    pub digest: Option<Digest>,
}

/// Everything that may need a version.
#[derive(Debug, Clone)]
pub struct Needs<'a> {
    /// The boot record; none if it is lost, in doubt, or of a newer format. Then
    /// nobody knows what the next boot needs, and everything stays.
    pub record: Option<&'a Record>,
    /// The record of the last bless: what a device boots by that lost the other two.
    pub blessed: Option<&'a Record>,
    /// What this boot activated.
    pub running: Option<&'a Running>,
    /// Versions that are mounted, or are a layer of an overlay, in any mount namespace.
    pub mounted: &'a BTreeSet<Version>,
    /// Versions the operator pinned.
    pub pinned: &'a BTreeSet<Version>,
    /// Versions that deltas are going to build on, by the configuration.
    pub parents: &'a BTreeSet<Version>,
    /// How many of the newest stay.
    pub keep: NonZeroUsize,
}

/// Why a version stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The boot record names it as good.
    Good,
    /// The boot record names it as fallback.
    Fallback,
    /// The boot record names it as trial.
    Trial,
    /// This boot activated it.
    Running,
    /// It is mounted, or a layer of an overlay.
    Mounted,
    /// The operator pinned it.
    Pinned,
    /// The configuration says that deltas are going to build on it.
    Parent,
    /// The record of the last bless names it.
    LastBless,
    /// One of the newest.
    Newest,
    /// Nobody received it: not ours to delete.
    Foreign,
    /// The medium does not tell what it is.
    Unreadable,
    /// Nobody knows what the next boot needs.
    RecordInDoubt,
}

impl Reason {
    /// A few words for the table.
    pub fn words(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Fallback => "fallback",
            Self::Trial => "on trial",
            Self::Running => "running",
            Self::Mounted => "mounted",
            Self::Pinned => "pinned",
            Self::Parent => "a parent of deltas",
            Self::LastBless => "named by the record of the last bless",
            Self::Newest => "one of the newest",
            Self::Foreign => "was not received here",
            Self::Unreadable => "can't be read",
            Self::RecordInDoubt => "the boot record is in doubt",
        }
    }
}

/// What becomes of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Which one.
    pub candidate: Candidate,
    /// Why it stays, the strongest reason first; nothing: it goes.
    pub kept: Vec<Reason>,
    /// Whether its content is quarantined.
    pub quarantined: bool,
}

impl Decision {
    /// Whether it goes.
    pub fn goes(&self) -> bool {
        self.kept.is_empty()
    }

    /// Why it stays, in words.
    pub fn words(&self) -> String {
        let words: Vec<_> = self.kept.iter().map(|reason| reason.words()).collect();
        words.join(", ")
    }
}

/// Decides on all versions, newest first.
pub fn decide(candidates: &[Candidate], needs: &Needs<'_>) -> Vec<Decision> {
    let mut sorted: Vec<_> = candidates.to_vec();
    sorted.sort_by(|a, b| b.version.cmp(&a.version));
    let mut places = needs.keep.get();
    let mut decisions = Vec::with_capacity(sorted.len());
    for candidate in sorted {
        let quarantined = needs.is_quarantined(&candidate);
        let mut kept = needs.of(&candidate);
        if candidate.condition == Condition::Whole && !quarantined && places > 0 {
            places -= 1;
            kept.push(Reason::Newest);
        }
        kept.sort_unstable();
        decisions.push(Decision {
            candidate,
            kept,
            quarantined,
        });
    }
    decisions
}

/// What goes, in the order in which it does: first what is of no use (quarantined,
/// altered, lost), then the oldest, so that a run that is cut short has deleted
/// what is missed least.
pub fn removals(decisions: &[Decision]) -> Vec<&Decision> {
    let mut gone: Vec<_> = decisions.iter().filter(|one| one.goes()).collect();
    gone.sort_by(|a, b| {
        let is_of_use =
            |one: &Decision| !one.quarantined && one.candidate.condition == Condition::Whole;
        let order = is_of_use(a).cmp(&is_of_use(b));
        order.then_with(|| a.candidate.version.cmp(&b.candidate.version))
    });
    gone
}

/// Whether what a trial left behind when it ended in disorder, `<version>.failed`,
/// may go: its version was blessed since, so that nobody needs to find out from it
/// why it was not.
///
/// Such an overlay is only ever set aside for a trial that is neither good nor the
/// fallback, whose own overlays are never replaced. One that is either now was
/// blessed later. `asked`: by a run the operator started. The one after a bless
/// leaves the new good version's alone: seconds after the bless nobody had the
/// time to look into it.
pub fn discarded_may_go(record: &Record, candidate: &Candidate, asked: bool) -> bool {
    let is = |held: Option<&Deployment>| {
        held.is_some_and(|held| {
            held.version == candidate.version && Some(held.digest) == candidate.digest
        })
    };
    let is_on_trial = is(record.trial.as_ref().map(|trial| &trial.deployment));
    !is_on_trial && (is(record.fallback.as_ref()) || (asked && is(record.good.as_ref())))
}

impl Needs<'_> {
    fn is_quarantined(&self, candidate: &Candidate) -> bool {
        let Some((record, digest)) = self.record.zip(candidate.digest) else {
            return false;
        };
        record.quarantine.contains(&digest)
    }

    /// Who needs a version, its age aside.
    fn of(&self, candidate: &Candidate) -> Vec<Reason> {
        let mut kept = Vec::new();
        let is = |version: Option<&Version>, digest: Option<&Digest>| {
            version == Some(&candidate.version)
                || (digest.is_some() && digest == candidate.digest.as_ref())
        };
        match self.record {
            None => kept.push(Reason::RecordInDoubt),
            Some(record) => {
                for (slot, held) in record.deployments() {
                    if is(Some(&held.version), Some(&held.digest)) {
                        kept.push(reason_of(slot));
                    }
                }
            }
        }
        if let Some(blessed) = self.blessed {
            // Its trial is not booted by: only the roles that proved themselves count.
            let mut held = blessed.good.iter().chain(&blessed.fallback);
            if held.any(|held| is(Some(&held.version), Some(&held.digest))) {
                kept.push(Reason::LastBless);
            }
        }
        let runs = |running: &Running| is(running.version.as_ref(), running.digest.as_ref());
        let booted = self.record.and_then(booted);
        if self.running.is_some_and(runs) || is(None, booted) {
            kept.push(Reason::Running);
        }
        if self.mounted.contains(&candidate.version) {
            kept.push(Reason::Mounted);
        }
        if self.pinned.contains(&candidate.version) {
            kept.push(Reason::Pinned);
        }
        if self.parents.contains(&candidate.version) {
            kept.push(Reason::Parent);
        }
        match candidate.condition {
            Condition::Foreign => kept.push(Reason::Foreign),
            Condition::Unreadable => kept.push(Reason::Unreadable),
            Condition::Whole | Condition::Unusable | Condition::Remains => {}
        }
        kept
    }
}

/// What the last counted boot activated: it may run still, where `/run` was lost.
fn booted(record: &Record) -> Option<&Digest> {
    match &record.last_boot.as_ref()?.choice {
        Choice::Deployment { digest, .. } => Some(digest),
        Choice::Rescue => None,
    }
}

fn reason_of(slot: crate::Slot) -> Reason {
    match slot {
        crate::Slot::Good => Reason::Good,
        crate::Slot::Fallback => Reason::Fallback,
        crate::Slot::Trial => Reason::Trial,
        crate::Slot::Named => Reason::Running,
    }
}

#[cfg(test)]
mod tests;
