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
    /// Overlays that may be there: one that is holds one of these.
    pub perhaps: BTreeMap<Version, Vec<BTreeMap<&'static str, &'static str>>>,
    /// Versions that there may be a plan for.
    pub plans: BTreeSet<Version>,
    /// Whether the configuration has trials begin with an empty overlay.
    pub fresh: bool,
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

    /// What a version on trial finds in its overlay, made anew for each try: what
    /// one try leaves may be set aside by the next.
    pub(crate) fn trial_overlay(
        &mut self,
        version: Version,
        files: &[(&'static str, &'static str)],
    ) {
        self.overlay(version, files);
        self.perhaps_failed(version, &[files]);
    }

    /// The user wrote into a try, and waited for it: from `files` on this is what
    /// the try holds, which ends in disorder should power go. The one after that
    /// leaves what all of them begin with.
    pub(crate) fn failed_with(
        &mut self,
        version: Version,
        files: &[(&'static str, &'static str)],
        anew: &[(&'static str, &'static str)],
    ) {
        let failed = failed(version);
        self.perhaps.remove(failed);
        self.overlay(failed, files);
        self.overlay_later(failed, anew);
    }

    /// What was set aside of a try may be there, and then holds one of these.
    pub(crate) fn perhaps_failed(
        &mut self,
        version: Version,
        any_of: &[&[(&'static str, &'static str)]],
    ) {
        let any_of = any_of.iter().map(|files| files.iter().copied().collect());
        self.no_overlay(failed(version));
        self.perhaps.insert(failed(version), any_of.collect());
    }

    /// There is nothing of that name.
    pub(crate) fn no_overlay(&mut self, name: Version) {
        self.overlays.remove(name);
        self.later.remove(name);
        self.perhaps.remove(name);
    }

    /// Whether an overlay of that name may be there.
    pub(crate) fn knows_overlay(&self, name: &str) -> bool {
        self.overlays.contains_key(name) || self.perhaps.contains_key(name)
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

/// Where an overlay goes that a try left which did not end in order.
pub(crate) fn failed(version: Version) -> Version {
    match version {
        "v1.0.0" => "v1.0.0.failed",
        "v1.1.0" => "v1.1.0.failed",
        "v1.2.0" => "v1.2.0.failed",
        "v1.3.0" => "v1.3.0.failed",
        _ => "v1.4.0.failed",
    }
}

/// Boots in a row that are known beforehand.
pub const BOOTS: usize = 2;
