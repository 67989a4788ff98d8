//! A record reduced to what decisions read. Two records of one shape behave the
//! same, so the search keeps shapes. What a shape leaves out, and why it may:
//!
//! | Left out | Because |
//! |---|---|
//! | `sequence` | only compared and raised: of two copies it matters which is newer (`medium`) |
//! | `attempts`, `attempts_dropped` | no decision reads them; but with some waiting, a command that has nothing else to do writes them to the log, and the record. So a record of a shape always has one waiting, and the log can always fail, which ends as if there were none |
//! | `audit` | no decision reads it |
//! | which boot `last_boot` names | only compared with the boot that asks: this one, or another |
//! | `last_boot` of another boot, all but "ended in rescue" | every other reader asks for this boot's first |
//! | `last_boot.reason`, all but "good was due" | only `condemn` of fallback reads it, and that much |
//! | counts of unblessed boots above `good_boots` | only compared with it and set to 0 |
//! | `trial.attempts` above 1 | only compared with 0 |
//! | `trial.origin` | decides about the overlay, not about the record |
//! | causes and order in the quarantine | the cause is for people; order matters when all 16 places are taken |
//!
//! That table is not only argued: [`abstraction`](crate::abstraction) plays long
//! stories on whole records and on shapes side by side.

use std::collections::{BTreeSet, HashMap};

use op_dbus_bootstate::codec::{self, Block};
use op_dbus_bootstate::ident::{BootId, Digest};
use op_dbus_bootstate::quarantine::Quarantine;
use op_dbus_bootstate::record::{
    Attempt, Choice, Deployment, Escalation, LastBoot, Limits, Next, Origin, Outcome, Reason,
    Record, Slot, Trial,
};
use op_dbus_bootstate::transition::Running;

use crate::common::{boot, deployment};

/// The kernel's id of the boot that is asking, and of every other.
pub const THIS_BOOT: u8 = 1;
const OTHER_BOOT: u8 = 0;

/// A version: its number, from 0.
pub type V = u8;

/// How large the world is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub limits: Limits,
    /// The security epoch of each version; as many versions as epochs.
    pub epochs: Vec<u32>,
}

impl Scope {
    pub fn versions(&self) -> impl Iterator<Item = V> + use<> {
        0..u8::try_from(self.epochs.len()).unwrap()
    }

    pub fn deployment(&self, version: V) -> Deployment {
        Deployment {
            epoch: self.epochs[usize::from(version)],
            ..deployment(version)
        }
    }
}

impl Scope {
    /// Every record a bless may have kept, as a reader takes it: a good version,
    /// perhaps another as fallback, and any of the rest in quarantine. More than
    /// the history of a device allows, never less: `Hands` checks each one that is
    /// kept against this list.
    pub fn kept(&self) -> Vec<Shape> {
        let nothing = Shape::of(&Record::default(), boot(THIS_BOOT), self.limits);
        let mut all = Vec::new();
        for good in self.versions() {
            let others = self.versions().filter(|&version| version != good);
            for fallback in std::iter::once(None).chain(others.map(Some)) {
                for quarantine in 0..1_u8 << self.epochs.len() {
                    for &floor in &BTreeSet::from_iter(&self.epochs) {
                        let shape = Shape {
                            good: Some(good),
                            fallback,
                            quarantine,
                            floor: u8::try_from(*floor).unwrap(),
                            ..nothing
                        };
                        let is_used = |version| shape.is_quarantined(version);
                        let is_low = *floor < self.epochs[usize::from(good)];
                        if !is_used(good) && !fallback.is_some_and(is_used) && !is_low {
                            all.push(shape);
                        }
                    }
                }
            }
        }
        all
    }
}

/// Which version a digest is.
pub fn number(digest: &Digest) -> V {
    digest.0[0]
}

/// A set of versions. Bit n: version n.
pub fn set(versions: impl IntoIterator<Item = Option<V>>) -> u8 {
    versions
        .into_iter()
        .flatten()
        .fold(0, |set, version| set | 1 << version)
}

/// The same set under other numbers.
pub fn renumbered(set: u8, to: &[V]) -> u8 {
    (0..)
        .zip(to)
        .filter(|(bit, _)| set & 1 << bit != 0)
        .fold(0, |set, (_, new)| set | 1 << new)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrialShape {
    pub version: V,
    pub tries: u8,
    pub refunds: u8,
    pub booted: bool,
}

/// What is left of `last_boot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LastShape {
    /// Of another boot, or of none.
    Other { rescue: bool },
    /// Of this boot; `chosen` none is rescue.
    This {
        chosen: Option<(Role, V)>,
        good_was_due: bool,
        after_rescue: bool,
        refunded: bool,
        verdict: Option<bool>,
    },
}

/// [`Slot`], with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Good,
    Fallback,
    Trial,
    Named,
}

impl From<Slot> for Role {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::Good => Self::Good,
            Slot::Fallback => Self::Fallback,
            Slot::Trial => Self::Trial,
            Slot::Named => Self::Named,
        }
    }
}

impl From<Role> for Slot {
    fn from(role: Role) -> Self {
        match role {
            Role::Good => Self::Good,
            Role::Fallback => Self::Fallback,
            Role::Trial => Self::Trial,
            Role::Named => Self::Named,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    pub good: Option<V>,
    pub fallback: Option<V>,
    pub trial: Option<TrialShape>,
    pub good_unblessed: u8,
    pub fallback_unblessed: u8,
    pub escalation: u8,
    /// Bit n: version n.
    pub quarantine: u8,
    pub floor: u8,
    pub last: LastShape,
}

const ESCALATIONS: [Escalation; 4] = [
    Escalation::None,
    Escalation::GoodRetried,
    Escalation::FallbackDue,
    Escalation::Exhausted,
];

impl Shape {
    /// The shape of a record, seen from the boot with the given id.
    pub fn of(record: &Record, now: BootId, limits: Limits) -> Self {
        let version = |deployment: &Deployment| number(&deployment.digest);
        Self {
            good: record.good.as_ref().map(version),
            fallback: record.fallback.as_ref().map(version),
            trial: record.trial.as_ref().map(|trial| TrialShape {
                version: version(&trial.deployment),
                tries: trial.tries_left,
                refunds: trial.refunds_left,
                booted: trial.attempts > 0,
            }),
            good_unblessed: record.good_unblessed.min(limits.good_boots),
            fallback_unblessed: record.fallback_unblessed.min(limits.good_boots),
            escalation: ESCALATIONS
                .iter()
                .position(|&known| known == record.escalation)
                .and_then(|at| u8::try_from(at).ok())
                .unwrap(),
            quarantine: record
                .quarantine
                .entries()
                .iter()
                .fold(0, |set, entry| set | 1 << number(&entry.digest)),
            floor: u8::try_from(record.epoch_floor).unwrap(),
            last: record
                .last_boot
                .as_ref()
                .map_or(LastShape::Other { rescue: false }, |last| {
                    LastShape::of(last, now)
                }),
        }
    }

    /// The same, once another boot asks.
    pub fn aged(self) -> Self {
        let rescue = match self.last {
            LastShape::Other { rescue } => rescue,
            LastShape::This { chosen, .. } => chosen.is_none(),
        };
        Self {
            last: LastShape::Other { rescue },
            ..self
        }
    }

    /// What a reader takes of `record.blessed`: the rest of it is never looked at.
    pub fn blessed(self) -> Self {
        Self {
            trial: None,
            good_unblessed: 0,
            fallback_unblessed: 0,
            escalation: 0,
            last: LastShape::Other { rescue: false },
            ..self
        }
    }

    /// The same with other numbers for the versions.
    pub fn renumbered(self, to: &[V]) -> Self {
        let new = |version: V| to[usize::from(version)];
        Self {
            good: self.good.map(new),
            fallback: self.fallback.map(new),
            trial: self.trial.map(|trial| TrialShape {
                version: new(trial.version),
                ..trial
            }),
            quarantine: renumbered(self.quarantine, to),
            last: match self.last {
                LastShape::This {
                    chosen: Some((role, version)),
                    good_was_due,
                    after_rescue,
                    refunded,
                    verdict,
                } => LastShape::This {
                    chosen: Some((role, new(version))),
                    good_was_due,
                    after_rescue,
                    refunded,
                    verdict,
                },
                other => other,
            },
            ..self
        }
    }

    /// Whether this boot's run of a trial is counted in it.
    pub fn has_counted(&self, version: V) -> bool {
        matches!(self.last, LastShape::This { chosen: Some((Role::Trial, counted)), .. } if counted == version)
    }

    /// What a boot may fall back on. Bit n: version n.
    pub fn roles(&self) -> u8 {
        set([self.good, self.fallback])
    }

    /// All that it names, the trial as well.
    pub fn named(&self) -> u8 {
        set([self.good, self.fallback, self.trial.map(|t| t.version)])
    }

    pub fn is_quarantined(&self, version: V) -> bool {
        self.quarantine & 1 << version != 0
    }

    /// A record of this shape.
    fn record(&self, scope: &Scope) -> Record {
        let deployment = |version: V| scope.deployment(version);
        Record {
            sequence: 0,
            good: self.good.map(deployment),
            fallback: self.fallback.map(deployment),
            trial: self.trial.map(|trial| Trial {
                deployment: deployment(trial.version),
                tries_left: trial.tries,
                refunds_left: trial.refunds,
                attempts: u8::from(trial.booted),
                origin: Origin::Stage,
            }),
            good_unblessed: self.good_unblessed,
            fallback_unblessed: self.fallback_unblessed,
            escalation: ESCALATIONS[usize::from(self.escalation)],
            quarantine: quarantine(scope, self.quarantine),
            epoch_floor: u32::from(self.floor),
            last_boot: self.last.last_boot(),
            attempts: vec![Attempt {
                boot_id: boot(OTHER_BOOT),
                slot: None,
                digest: None,
                outcome: Outcome::Selected,
                reason: Reason::NothingLeft,
            }],
            ..Record::default()
        }
    }
}

impl LastShape {
    pub fn is_of_this_boot(self) -> bool {
        matches!(self, Self::This { .. })
    }

    fn of(last: &LastBoot, now: BootId) -> Self {
        if last.boot_id != now {
            return Self::Other {
                rescue: last.choice == Choice::Rescue,
            };
        }
        Self::This {
            chosen: match &last.choice {
                Choice::Deployment { slot, digest } => Some(((*slot).into(), number(digest))),
                Choice::Rescue => None,
            },
            good_was_due: matches!(last.reason, Reason::GoodCondemned | Reason::GoodLimit),
            after_rescue: last.after_rescue,
            refunded: last.refunded,
            verdict: last.verdict.map(|next| next == Next::Reboot),
        }
    }

    fn last_boot(self) -> Option<LastBoot> {
        match self {
            Self::Other { rescue } => rescue.then(|| LastBoot {
                boot_id: boot(OTHER_BOOT),
                choice: Choice::Rescue,
                reason: Reason::NothingLeft,
                after_rescue: false,
                refunded: false,
                verdict: None,
            }),
            Self::This {
                chosen,
                good_was_due,
                after_rescue,
                refunded,
                verdict,
            } => Some(LastBoot {
                boot_id: boot(THIS_BOOT),
                choice: chosen.map_or(Choice::Rescue, |(role, version)| Choice::Deployment {
                    slot: role.into(),
                    digest: deployment(version).digest,
                }),
                reason: if good_was_due {
                    Reason::GoodLimit
                } else {
                    Reason::Regular
                },
                after_rescue,
                refunded,
                verdict: verdict.map(|reboot| if reboot { Next::Reboot } else { Next::StayUp }),
            }),
        }
    }
}

/// A quarantine with the given versions. There is no way but the codec's to make
/// one from nothing: in the programs it only grows by what happened.
fn quarantine(scope: &Scope, set: u8) -> Quarantine {
    let entries: Vec<_> = scope
        .versions()
        .filter(|version| set & 1 << version != 0)
        .map(|version| {
            let Deployment {
                digest, version, ..
            } = scope.deployment(version);
            serde_json::json!({ "digest": digest, "version": version, "cause": "condemned" })
        })
        .collect();
    serde_json::from_value(entries.into()).unwrap()
}

/// What this boot runs, by activation.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunShape {
    pub role: Role,
    pub version: V,
    pub counted: bool,
}

impl RunShape {
    pub fn of(running: &Running) -> Self {
        Self {
            role: running.slot.into(),
            version: number(&running.digest),
            counted: running.counted,
        }
    }

    pub fn running(self, scope: &Scope) -> Running {
        let Deployment {
            version, digest, ..
        } = scope.deployment(self.version);
        Running {
            boot_id: boot(THIS_BOOT),
            slot: self.role.into(),
            version,
            digest,
            counted: self.counted,
        }
    }
}

/// Records by shape, made once.
#[derive(Debug, Default)]
pub struct Records(HashMap<Shape, Record>);

impl Records {
    /// A record of the shape, with the sequence.
    pub fn get(&mut self, scope: &Scope, shape: Shape, sequence: u64) -> Record {
        let record = self.0.entry(shape).or_insert_with(|| shape.record(scope));
        Record {
            sequence,
            ..record.clone()
        }
    }

    pub fn block(&mut self, scope: &Scope, shape: Shape, sequence: u64) -> Block {
        codec::encode(&self.get(scope, shape, sequence)).unwrap()
    }
}
