//! What holds after a step of the story, written out by hand: what the shipped
//! programs do is compared with this, so none of it may come from them.

use std::collections::{BTreeMap, BTreeSet};

/// A version's name.
pub type Version = &'static str;

/// In which role a version runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// On probation.
    Trial,
    /// Proved itself last.
    Good,
    /// The one before.
    Fallback,
}

impl Role {
    /// As the activator writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Trial => "trial",
            Self::Good => "good",
            Self::Fallback => "fallback",
        }
    }
}

/// What one boot after a power cut comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// There is no store to boot from yet: nothing is activated, and no record
    /// need be there.
    NoStore,
    /// There is a record, and no version yet: nothing is activated.
    Nothing,
    /// A trial runs, and this many tries are left once it does.
    Trial {
        /// Which one.
        version: Version,
        /// Tries left.
        tries: u8,
    },
    /// Good runs, and this is the number of its boots without a verdict.
    Good {
        /// Which one.
        version: Version,
        /// Boots without a verdict, this one included.
        unblessed: u8,
        /// The trial that this boot took out of use, its tries being used up.
        exhausted: Option<Version>,
    },
    /// Fallback runs, good having had too many boots without a verdict.
    Fallback {
        /// Which one.
        version: Version,
        /// Its own boots without a verdict, this one included.
        unblessed: u8,
    },
}

impl Boot {
    /// What runs, and as what.
    pub fn active(self) -> Option<(Role, Version)> {
        match self {
            Self::NoStore | Self::Nothing => None,
            Self::Trial { version, .. } => Some((Role::Trial, version)),
            Self::Good { version, .. } => Some((Role::Good, version)),
            Self::Fallback { version, .. } => Some((Role::Fallback, version)),
        }
    }
}

/// A line of the audit log: what happened, to which version.
pub type Line = (&'static str, Option<Version>);

/// All that holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The boots that follow, should power go now and after each of them.
    pub boots: Vec<Boot>,
    /// Proved itself last.
    pub good: Option<Version>,
    /// The one before.
    pub fallback: Option<Version>,
    /// On trial, with the refunds it has left.
    pub trial: Option<(Version, u8)>,
    /// Out of use.
    pub quarantine: BTreeSet<Version>,
    /// Security epochs below it are refused.
    pub floor: u32,
    /// In the store.
    pub versions: BTreeSet<Version>,
    /// Of these in the store, what is not what was published.
    pub altered: BTreeSet<Version>,
    /// Not to be pruned.
    pub pins: BTreeSet<Version>,
    /// The user's files in each version's overlay: path and content.
    pub overlays: BTreeMap<Version, BTreeMap<&'static str, &'static str>>,
    /// The same from the second boot after a power cut on, where that differs.
    pub later: BTreeMap<Version, BTreeMap<&'static str, &'static str>>,
    /// The audit log, without the lines about boots.
    pub log: Vec<Line>,
    /// The record's sequence is at least this. Not by hand: as it was found on
    /// the disk when the step had been acknowledged.
    pub sequence: u64,
}

impl Facts {
    /// A trial with so many tries left is what boots next.
    pub(crate) fn on_trial(&mut self, version: Version, tries: u8, refunds: u8) {
        self.trial = Some((version, refunds));
        self.boots = (0..tries)
            .rev()
            .map(|tries| Boot::Trial { version, tries })
            .take(BOOTS)
            .collect();
    }

    /// Good is what boots next, after so many boots without a verdict.
    pub(crate) fn runs_good(&mut self, unblessed: u8) {
        self.trial = None;
        let Some(version) = self.good else {
            self.boots = vec![Boot::Nothing; BOOTS];
            return;
        };
        self.boots = (1..)
            .map(|boot| Boot::Good {
                version,
                unblessed: unblessed + boot,
                exhausted: None,
            })
            .take(BOOTS)
            .collect();
    }

    /// A line of the audit log.
    pub(crate) fn logged(&mut self, event: &'static str, version: Version) {
        self.log.push((event, Some(version)));
    }

    /// What the user finds in a version's overlay.
    pub(crate) fn overlay(&mut self, version: Version, files: &[(&'static str, &'static str)]) {
        let files = files.iter().copied().collect();
        self.overlays.insert(version, files);
        self.later.remove(version);
    }

    /// What the user finds there from the second boot after a power cut on.
    pub(crate) fn overlay_later(
        &mut self,
        version: Version,
        files: &[(&'static str, &'static str)],
    ) {
        self.later.insert(version, files.iter().copied().collect());
    }

    /// What a version's overlay holds in such a boot after a power cut.
    pub(crate) fn files(
        &self,
        version: &str,
        boot: usize,
    ) -> Option<&BTreeMap<&'static str, &'static str>> {
        let later = self.later.get(version).filter(|_| boot > 1);
        later.or_else(|| self.overlays.get(version))
    }
}

/// Boots in a row that are known beforehand.
pub const BOOTS: usize = 2;
