//! What must be true of a device, by the documented rules (docs/ARCHITECTURE.md,
//! "The state machine"), written down a second time: nothing here is shared with
//! the programs under test.
//!
//! Only what the power cuts' stories need: every version stays intact, no kernel
//! command line, only trials are condemned.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Boots a trial gets, refunds it gets, and unblessed boots of good (and of
/// fallback) in a row: the defaults of `deploy.toml`.
const TRIES: u8 = 3;
const REFUNDS: u8 = 3;
const GOOD_BOOTS: u8 = 5;

/// In which role a version runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// On probation.
    Trial,
    /// Proved itself last.
    Good,
    /// Was good before.
    Fallback,
}

/// A version on trial.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub version: String,
    /// Boots left.
    pub tries: u8,
    /// Refunds left.
    pub refunds: u8,
    /// Boots used.
    pub attempts: u8,
    /// Whether it came by `rollback`.
    pub rollback: bool,
}

/// What the last boot ran; none was rescue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Boot {
    /// Role and version.
    pub runs: Option<(Role, String)>,
    /// Whether its try was given back.
    pub refunded: bool,
    /// Whether it was condemned.
    pub condemned: bool,
}

/// Everything that must be true.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Facts {
    /// The good version.
    pub good: String,
    /// The one before.
    pub fallback: Option<String>,
    /// The one on trial.
    pub trial: Option<Trial>,
    /// Unblessed boots of good in a row.
    pub good_unblessed: u8,
    /// Likewise of fallback.
    pub fallback_unblessed: u8,
    /// Versions that failed.
    pub quarantine: BTreeSet<String>,
    /// Versions in the store.
    pub received: BTreeSet<String>,
    /// Versions that lack nothing but their name: their receipt is written. The
    /// next receive, of whatever release, gives it to them.
    pub nameless: BTreeSet<String>,
    /// What the user keeps in the overlay of each version that has one.
    pub notes: BTreeMap<String, String>,
    /// The last boot.
    pub boot: Boot,
}

/// What is done on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// Receives a version.
    Receive(String),
    /// Puts a version on trial, out of quarantine if need be.
    Stage(String),
    /// Blesses what runs.
    Bless,
    /// Condemns what runs.
    Condemn,
    /// Takes the trial back.
    Cancel,
    /// Goes back to fallback, or takes the trial back.
    Rollback,
    /// Gives the try back.
    OrderlyShutdown,
    /// The user changes a file of what runs.
    Note(String),
}

impl Deed {
    /// A word for statistics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Receive(_) => "receive",
            Self::Stage(_) => "stage",
            Self::Bless => "bless",
            Self::Condemn => "condemn",
            Self::Cancel => "cancel",
            Self::Rollback => "rollback",
            Self::OrderlyShutdown => "orderly-shutdown",
            Self::Note(_) => "note",
        }
    }
}

impl Facts {
    /// A device on which `version` proved itself, switched off.
    pub fn begin(version: &str) -> Self {
        Self {
            good: version.to_owned(),
            fallback: None,
            trial: None,
            good_unblessed: 0,
            fallback_unblessed: 0,
            quarantine: BTreeSet::new(),
            received: BTreeSet::from([version.to_owned()]),
            nameless: BTreeSet::new(),
            notes: BTreeMap::new(),
            boot: Boot {
                runs: Some((Role::Good, version.to_owned())),
                refunded: false,
                condemned: false,
            },
        }
    }

    /// What runs in this boot.
    pub fn running(&self) -> Option<&str> {
        self.boot.runs.as_ref().map(|(_, version)| version.as_str())
    }

    /// What the user keeps in the overlay of what runs.
    pub fn note(&self) -> Option<&str> {
        self.notes.get(self.running()?).map(String::as_str)
    }

    /// The same after the next boot has chosen and counted.
    #[must_use]
    pub fn booted(&self) -> Self {
        let mut next = self.clone();
        let after_rescue = self.boot.runs.is_none();
        let runs = next.choose(after_rescue);
        match &runs {
            Some((Role::Trial, version)) => next.hand_over_overlay(self, version),
            Some((Role::Good, _)) => next.good_unblessed = next.good_unblessed.saturating_add(1),
            Some((Role::Fallback, _)) => {
                next.fallback_unblessed = next.fallback_unblessed.saturating_add(1);
            }
            None => {}
        }
        next.boot = Boot {
            runs,
            refunded: false,
            condemned: false,
        };
        next
    }

    fn choose(&mut self, after_rescue: bool) -> Option<(Role, String)> {
        if let Some(trial) = &mut self.trial {
            if trial.tries > 0 {
                trial.tries -= 1;
                trial.attempts += 1;
                return Some((Role::Trial, trial.version.clone()));
            }
            self.end_trial_badly();
        }
        let spent = |boots: u8| boots >= GOOD_BOOTS && !after_rescue;
        if !spent(self.good_unblessed) {
            return Some((Role::Good, self.good.clone()));
        }
        let fallback = self.fallback.clone();
        fallback
            .filter(|_| !spent(self.fallback_unblessed))
            .map(|version| (Role::Fallback, version))
    }

    /// The first boot of an upgrade takes good's overlay along, and so does one
    /// after a boot that did not end in order; a rollback has its own, and what is
    /// fallback keeps its own however it was staged.
    fn hand_over_overlay(&mut self, before: &Self, version: &str) {
        let back = before.trial.as_ref().is_some_and(|trial| trial.rollback);
        let own = back || before.fallback.as_deref() == Some(version);
        let goes_on =
            before.boot.refunded && before.boot.runs == Some((Role::Trial, version.to_owned()));
        if own || goes_on {
            return;
        }
        match self.notes.get(&self.good).cloned() {
            Some(note) => self.notes.insert(version.to_owned(), note),
            None => self.notes.remove(version),
        };
    }

    /// Quarantine, unless it is a version that proved itself.
    fn end_trial_badly(&mut self) {
        let Some(trial) = self.trial.take() else {
            return;
        };
        if trial.version != self.good && Some(&trial.version) != self.fallback.as_ref() {
            self.quarantine.insert(trial.version);
        }
    }

    /// The same after `deed` is done; none when it makes no sense now, so that it
    /// would be refused or do nothing.
    pub fn after(&self, deed: &Deed) -> Option<Self> {
        let mut next = self.clone();
        let role = self.boot.runs.as_ref().map(|(role, _)| *role);
        let on_trial = |version: &str| {
            let trial = self.trial.as_ref();
            trial.is_some_and(|trial| trial.version == version)
        };
        // A trial that was taken back while it runs is judged as nothing.
        let tried = role == Some(Role::Trial) && self.running().is_some_and(on_trial);
        match deed {
            Deed::Receive(version) => {
                next.settle_names();
                next.received.insert(version.clone());
            }
            Deed::Stage(version) => next.put_on_trial(version, false)?,
            Deed::Rollback if self.trial.is_some() => next.trial = None,
            Deed::Rollback => {
                let fallback = self.fallback.clone()?;
                next.put_on_trial(&fallback, true)?;
            }
            Deed::Cancel => {
                next.trial.take()?;
            }
            Deed::Note(text) => {
                let running = self.running()?.to_owned();
                next.notes.insert(running, text.clone());
            }
            Deed::Condemn => {
                (tried && !self.boot.condemned).then_some(())?;
                next.end_trial_badly();
                next.boot.condemned = true;
            }
            Deed::OrderlyShutdown => {
                let free = tried && !self.boot.refunded && !self.boot.condemned;
                let trial = next.trial.as_mut().filter(|_| free)?;
                trial.refunds = trial.refunds.checked_sub(1)?;
                trial.tries += 1;
                next.boot.refunded = true;
            }
            Deed::Bless => next.bless(role?, tried)?,
        }
        (next != *self).then_some(next)
    }

    fn settle_names(&mut self) {
        let mut nameless = std::mem::take(&mut self.nameless);
        self.received.append(&mut nameless);
    }

    /// What may be the case when the power goes during `deed`: all of it, nothing,
    /// and of a receive what comes between.
    pub fn during(&self, deed: &Deed) -> Vec<Self> {
        let mut all = vec![self.clone()];
        if let Deed::Receive(version) = deed {
            let mut settled = self.clone();
            settled.settle_names();
            let mut half = settled.clone();
            if !half.received.contains(version) {
                half.nameless.insert(version.clone());
            }
            all.extend([settled, half]);
        }
        all.extend(self.after(deed));
        all
    }

    fn put_on_trial(&mut self, version: &str, rollback: bool) -> Option<()> {
        let stands = self
            .trial
            .as_ref()
            .is_some_and(|trial| trial.attempts > 0 || trial.version == version);
        let known = self.received.contains(version);
        if stands || !known || version == self.good {
            return None;
        }
        self.quarantine.remove(version);
        self.trial = Some(Trial {
            version: version.to_owned(),
            tries: TRIES,
            refunds: REFUNDS,
            attempts: 0,
            rollback,
        });
        Some(())
    }

    fn bless(&mut self, role: Role, tried: bool) -> Option<()> {
        let running = self.running()?.to_owned();
        if self.boot.condemned || self.quarantine.contains(&running) {
            return None;
        }
        if tried {
            self.trial = None;
            self.fallback = Some(std::mem::replace(&mut self.good, running));
        } else if running == self.good {
            // It was good, or became so in this boot.
        } else if role == Role::Fallback && self.fallback.as_ref() == Some(&running) {
            self.fallback = None;
            self.good = running;
        } else {
            return None;
        }
        self.good_unblessed = 0;
        self.fallback_unblessed = 0;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Facts {
        let mut facts = Facts::begin("v1");
        facts.received.insert("v2".into());
        facts.booted()
    }

    fn after(facts: &Facts, deed: &Deed) -> Facts {
        facts.after(deed).unwrap()
    }

    #[test]
    fn a_trial_is_tried_three_times_and_quarantined() {
        let mut facts = after(&device(), &Deed::Stage("v2".into()));
        for left in [2, 1, 0] {
            facts = facts.booted();
            assert_eq!(facts.running(), Some("v2"));
            assert_eq!(facts.trial.as_ref().unwrap().tries, left);
        }
        facts = facts.booted();
        assert_eq!(facts.running(), Some("v1"));
        assert!(facts.trial.is_none() && facts.quarantine.contains("v2"));
        let staged = after(&facts, &Deed::Stage("v2".into()));
        assert!(staged.quarantine.is_empty());
    }

    #[test]
    fn bless_moves_the_roles_and_rollback_brings_them_back() {
        let facts = after(&device(), &Deed::Stage("v2".into())).booted();
        let facts = after(&facts, &Deed::Bless);
        assert_eq!(
            (facts.good.as_str(), facts.fallback.as_deref()),
            ("v2", Some("v1"))
        );
        let facts = after(&facts, &Deed::Rollback).booted();
        assert_eq!(facts.boot.runs, Some((Role::Trial, "v1".into())));
        let facts = after(&facts, &Deed::Bless);
        assert_eq!(
            (facts.good.as_str(), facts.fallback.as_deref()),
            ("v1", Some("v2"))
        );
        assert_eq!(facts.after(&Deed::Condemn), None);
    }

    #[test]
    fn limits_lead_to_fallback_and_rescue_and_good_gets_one_attempt() {
        let mut facts = after(&device(), &Deed::Stage("v2".into())).booted();
        facts = after(&facts, &Deed::Bless);
        let mut roles = Vec::new();
        for _ in 0..13 {
            facts = facts.booted();
            roles.push(facts.boot.runs.as_ref().map(|(role, _)| *role));
        }
        let mut expected = vec![Some(Role::Good); 5];
        expected.extend([Some(Role::Fallback); 5]);
        expected.extend([None, Some(Role::Good), None]);
        assert_eq!(roles, expected);
    }

    #[test]
    fn a_receive_leaves_nothing_or_all_or_all_but_the_name() {
        let receive = |version: &str| Deed::Receive(version.to_owned());
        let left = device().during(&receive("v3"));
        let names: Vec<(bool, bool)> = left
            .iter()
            .map(|facts| (facts.received.contains("v3"), facts.nameless.contains("v3")))
            .collect();
        assert_eq!(
            names,
            [(false, false), (false, false), (false, true), (true, false)]
        );
        // The next receive, whatever it is of, settles that.
        let settled = after(&left[2], &receive("v4"));
        assert!(settled.nameless.is_empty());
        assert!(settled.received.contains("v3") && settled.received.contains("v4"));
        assert_eq!(device().during(&Deed::Stage("v2".into())).len(), 2);
    }

    #[test]
    fn a_refund_is_given_once_a_boot() {
        let facts = after(&device(), &Deed::Stage("v2".into())).booted();
        let facts = after(&facts, &Deed::OrderlyShutdown);
        assert_eq!(facts.trial.as_ref().unwrap().tries, 3);
        assert_eq!(facts.after(&Deed::OrderlyShutdown), None);
        assert!(facts.booted().after(&Deed::OrderlyShutdown).is_some());
    }

    #[test]
    fn the_user_s_file_comes_along_and_is_there_again_after_going_back() {
        let facts = after(&device(), &Deed::Note("a".into()));
        let facts = after(&facts, &Deed::Stage("v2".into())).booted();
        assert_eq!(facts.note(), Some("a"));
        let changed = after(&facts, &Deed::Note("b".into()));
        // No orderly end: the trial begins with good's again.
        assert_eq!(changed.booted().note(), Some("a"));
        let refunded = after(&changed, &Deed::OrderlyShutdown);
        assert_eq!(refunded.booted().note(), Some("b"));
        let condemned = after(&changed, &Deed::Condemn);
        assert_eq!(condemned.booted().note(), Some("a"));
        let blessed = after(&changed, &Deed::Bless);
        let back = after(&blessed, &Deed::Rollback).booted();
        assert_eq!((back.running(), back.note()), (Some("v1"), Some("a")));
        // It is the fallback's own, also where nobody said that this is a way back.
        let staged = after(&blessed, &Deed::Stage("v1".into())).booted();
        assert_eq!((staged.running(), staged.note()), (Some("v1"), Some("a")));
    }
}
