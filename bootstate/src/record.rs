//! The boot record: everything booting needs to remember, and nothing else.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::audit::AuditHead;
use crate::ident::{BootId, Digest, Identity};
use crate::quarantine::{Cause, Entry, Quarantine};
use crate::version::Version;

/// Boot attempts the record keeps until a writer of the audit log takes them over.
pub const MAX_ATTEMPTS: usize = 16;

/// A published version and how to recognise it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its name, also the name of its subvolume in `deploy/`.
    pub version: Version,
    /// SHA-256 of its tree.
    pub digest: Digest,
    /// Its subvolume, as published.
    pub identity: Identity,
    /// Security epoch; versions below the record's floor are not staged.
    pub epoch: u32,
}

/// The role in which a deployment is activated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    /// The version that proved itself last.
    Good,
    /// The good version before it.
    Fallback,
    /// A version on probation.
    Trial,
    /// A version the operator named on the kernel command line.
    Named,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Fallback => "fallback",
            Self::Trial => "trial",
            Self::Named => "named",
        })
    }
}

/// How a trial came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// An upgrade.
    Stage,
    /// A return to an earlier version.
    Rollback,
}

/// A version on probation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// What is tried.
    pub deployment: Deployment,
    /// Boots it may still use.
    pub tries_left: u8,
    /// Orderly shutdowns that may still give a try back.
    pub refunds_left: u8,
    /// Boots it has used, refunded ones included.
    pub attempts: u8,
    /// Upgrade or rollback.
    pub origin: Origin,
}

/// Answers to "good was judged unhealthy": each step is taken once, then the
/// host stays up (rule 5: a health verdict never leads to rescue).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Escalation {
    /// Nothing is wrong with good.
    #[default]
    None,
    /// Good was condemned once and is booted again.
    GoodRetried,
    /// Good was condemned twice; the next boot takes fallback.
    FallbackDue,
    /// Fallback was, or could not be, tried: good it is, and no more reboots.
    Exhausted,
}

/// What must follow a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Next {
    /// A full reboot brings a better choice.
    Reboot,
    /// Nothing better is left; the host stays up and reachable.
    StayUp,
}

/// What a boot activated.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// A deployment, in a role.
    Deployment {
        /// In which role.
        slot: Slot,
        /// Which one.
        digest: Digest,
    },
    /// None: the host boots on without one.
    Rescue,
}

/// Why a boot chose as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A trial had tries left.
    TrialDue,
    /// Good is the regular choice.
    Regular,
    /// The same kernel boot asked again.
    SameBoot,
    /// The trial used up its tries in this or an earlier boot.
    TriesExhausted,
    /// A preferred candidate was missing, altered or could not be activated.
    CandidateFailed,
    /// The count could not be made durable, so the trial was not run.
    NotDurable,
    /// Good reached the limit of unblessed boots.
    GoodLimit,
    /// Good was condemned twice.
    GoodCondemned,
    /// The boot before ended in rescue; this is the one attempt after it.
    AfterRescue,
    /// Nothing that may be selected is left.
    NothingLeft,
    /// No version has been blessed or staged yet.
    NothingInstalled,
    /// The operator chose on the kernel command line.
    CommandLine,
    /// The operator's choice could not be activated.
    CommandLineFailed,
}

impl Reason {
    /// One sentence for status and the console.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::TrialDue => "a trial had tries left",
            Self::Regular => "good is the regular choice",
            Self::SameBoot => "the same kernel boot asked again",
            Self::TriesExhausted => "the trial used up its tries",
            Self::CandidateFailed => {
                "a preferred version was missing, altered or could not be activated"
            }
            Self::NotDurable => "the boot could not be counted durably, so no trial was run",
            Self::GoodLimit => "good reached the limit of unblessed boots",
            Self::GoodCondemned => "good was judged unhealthy twice",
            Self::AfterRescue => "the boot before ended in rescue",
            Self::NothingLeft => "no version that may be selected is left",
            Self::NothingInstalled => "no version is installed yet",
            Self::CommandLine => "chosen on the kernel command line",
            Self::CommandLineFailed => {
                "the choice on the kernel command line could not be activated"
            }
        }
    }
}

/// The last boot that was counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LastBoot {
    /// The kernel's id of it.
    pub boot_id: BootId,
    /// What it activated.
    pub choice: Choice,
    /// Why.
    pub reason: Reason,
    /// Whether the boot before it ended in rescue, so that the limits do not apply.
    pub after_rescue: bool,
    /// Whether its orderly shutdown gave the try back.
    pub refunded: bool,
    /// What was ordered when its health was judged bad.
    pub verdict: Option<Next>,
}

/// How one candidate fared in one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was counted and handed to activation.
    Selected,
    /// Its subvolume is not there.
    Missing,
    /// Its subvolume is not what was published.
    Altered,
    /// Mounting it failed.
    ActivationFailed,
    /// It had no tries left.
    TriesExhausted,
}

impl Outcome {
    /// A few words for status and the console.
    pub fn words(self) -> &'static str {
        match self {
            Self::Selected => "selected",
            Self::Missing => "missing from the store",
            Self::Altered => "altered since it was published",
            Self::ActivationFailed => "could not be activated",
            Self::TriesExhausted => "used up its tries",
        }
    }
}

/// A boot's dealing with one candidate, kept until the audit log has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// In which boot.
    pub boot_id: BootId,
    /// In which role; none for a boot that ended in rescue.
    pub slot: Option<Slot>,
    /// Which candidate.
    pub digest: Option<Digest>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why the boot chose it.
    pub reason: Reason,
}

/// The boot record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Raised by every write; the higher of two valid copies counts.
    pub sequence: u64,
    /// The version that proved itself last.
    pub good: Option<Deployment>,
    /// The one before.
    pub fallback: Option<Deployment>,
    /// The one on probation.
    pub trial: Option<Trial>,
    /// Boots of good in a row that ended with no verdict.
    pub good_unblessed: u8,
    /// Likewise of fallback.
    pub fallback_unblessed: u8,
    /// How far the answers to an unhealthy good have gone.
    pub escalation: Escalation,
    /// Digests that must not be activated.
    pub quarantine: Quarantine,
    /// Security epochs below it are not staged.
    pub epoch_floor: u32,
    /// The last boot that was counted.
    pub last_boot: Option<LastBoot>,
    /// Boots the audit log does not hold yet, oldest first.
    pub attempts: Vec<Attempt>,
    /// Attempts that were dropped because [`MAX_ATTEMPTS`] were waiting.
    pub attempts_dropped: u32,
    /// Length and head of the audit log as of this record.
    pub audit: AuditHead,
}

impl Record {
    /// The deployment in a role, if there is one.
    pub fn slot(&self, slot: Slot) -> Option<&Deployment> {
        match slot {
            Slot::Good => self.good.as_ref(),
            Slot::Fallback => self.fallback.as_ref(),
            Slot::Trial => self.trial.as_ref().map(|trial| &trial.deployment),
            Slot::Named => None,
        }
    }

    /// Whether limits are suspended in the given boot: the one after a rescue, for
    /// as many candidates as it has to try.
    pub(crate) fn after_rescue(&self, boot_id: BootId) -> bool {
        self.last_boot.as_ref().is_some_and(|last| {
            if last.boot_id == boot_id {
                last.after_rescue
            } else {
                last.choice == Choice::Rescue
            }
        })
    }

    /// Every deployment the record names, with its role; trial first.
    pub fn deployments(&self) -> impl Iterator<Item = (Slot, &Deployment)> {
        [Slot::Trial, Slot::Good, Slot::Fallback]
            .into_iter()
            .filter_map(|slot| self.slot(slot).map(|deployment| (slot, deployment)))
    }

    /// Whether the last counted boot is the given one.
    pub fn counted_boot(&self, boot_id: BootId) -> Option<&LastBoot> {
        self.last_boot
            .as_ref()
            .filter(|last| last.boot_id == boot_id)
    }

    /// Ends a trial badly. A rollback tries the fallback, which proved itself once
    /// and is the last resort should good be lost: failing as a trial costs it the
    /// trial, never the role (rule 4: good and fallback are not quarantined).
    pub(crate) fn quarantine_trial(&mut self, trial: Trial, cause: Cause) {
        let Deployment {
            version, digest, ..
        } = trial.deployment;
        let holds = |slot: &Option<Deployment>| slot.as_ref().is_some_and(|d| d.digest == digest);
        if !holds(&self.good) && !holds(&self.fallback) {
            self.quarantine.add(Entry {
                digest,
                version,
                cause,
            });
        }
    }

    /// Notes an attempt, dropping (and counting) the oldest when full.
    pub(crate) fn note(&mut self, attempt: Attempt) {
        if self.attempts.contains(&attempt) {
            return;
        }
        if self.attempts.len() >= MAX_ATTEMPTS {
            self.attempts.remove(0);
            self.attempts_dropped = self.attempts_dropped.saturating_add(1);
        }
        self.attempts.push(attempt);
    }
}

/// How patient booting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Boots a trial gets.
    pub tries: u8,
    /// Orderly shutdowns of a trial that give the try back.
    pub refunds: u8,
    /// Unblessed boots of good (and of fallback) in a row before the next choice.
    pub good_boots: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tries: 3,
            refunds: 3,
            good_boots: 5,
        }
    }
}
