//! The seven invariants of docs/ARCHITECTURE.md, one function or more each.
//!
//! Where both copies rot at once, what was acknowledged since the last bless is
//! lost: `record.blessed` (or, without it, the audit log) says what is good, and
//! trial, counts and quarantine begin again from there. So much do invariants 2,
//! 3 and 6 weaken; 1, 4, 5 and 7 never do. One fault, of whatever kind, never
//! leads there (`standing`).

use std::fmt;

use op_dbus_bootstate::Slot;
use op_dbus_bootstate::transition::{Blessed, RolledBack, Staged};

use crate::common::programs::Done;
use crate::fate::Health;
use crate::medium::Medium;
use crate::play::{Device, How, Op};
use crate::shape::{LastShape, Role, RunShape, Scope, Shape, V};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub invariant: u8,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.invariant {
            1 => "a boot activates an intact version or none",
            2 => "a trial runs at most tries + refunds times unblessed",
            3 => "what was acknowledged lasts",
            4 => "while an intact version may be selected, one is",
            5 => "recovery is idempotent",
            6 => "only the command line selects a quarantined version",
            _ => "what is needed is never removed",
        };
        write!(f, "invariant {}, \"{name}\": {}", self.invariant, self.what)
    }
}

fn ensure(holds: bool, invariant: u8, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds {
        return Ok(());
    }
    Err(Violation {
        invariant,
        what: what(),
    })
}

/// Invariant 3, of every state: what a reader would go by now is what was
/// acknowledged last, or what somebody began to write since; and the record is
/// only gone where both copies rotted.
pub fn standing(device: &Device) -> Result<(), Violation> {
    let medium = &device.medium;
    match medium.current() {
        Some(held) => ensure(held.allowed, 3, || {
            "an acknowledged record gave way to an older one".to_owned()
        }),
        None => ensure(medium.forgiven, 3, || {
            "one fault lost both copies of the record".to_owned()
        }),
    }?;
    let named = medium.held().map(|held| held.shape.named());
    let named = named.chain(medium.blessed.map(|shape| shape.roles()));
    ensure(
        named.into_iter().all(|set| set & device.gone == 0),
        7,
        || "the record names a version that was pruned".to_owned(),
    )?;
    medium.counts().map_or(Ok(()), makes_sense)
}

/// What the other invariants rest on: a version has one role, or tries for
/// another; the fallback alone may be on trial besides (rollback).
fn makes_sense(shape: Shape) -> Result<(), Violation> {
    let trial = shape.trial.map(|trial| trial.version);
    ensure(
        shape.good.is_none() || shape.good != shape.fallback,
        4,
        || "good is its own fallback".to_owned(),
    )?;
    ensure(trial.is_none() || trial != shape.good, 2, || {
        "what is good is on trial".to_owned()
    })
}

/// Invariant 7: what prune deletes, against what is needed.
pub fn removal(
    scope: &Scope,
    removed: &[V],
    needed: &[(&str, Option<V>)],
) -> Result<(), Violation> {
    let lost = needed
        .iter()
        .find(|(_, version)| version.is_some_and(|version| removed.contains(&version)));
    ensure(lost.is_none(), 7, || {
        lost.map_or_else(String::new, |(why, version)| {
            let name = version.map_or_else(String::new, |version| name(scope, version));
            format!("{name} was pruned: {why}")
        })
    })
}

/// Invariants 1, 2 and 6, and the first half of rule 1: the moment a version is
/// activated.
pub fn activation(
    scope: &Scope,
    medium: &Medium,
    slot: Slot,
    version: V,
    by_operator: bool,
    is_intact: bool,
    again: bool,
) -> Result<(), Violation> {
    let name = name(scope, version);
    ensure(is_intact, 1, || {
        format!("{name} was activated without having been found intact")
    })?;
    if slot == Slot::Trial {
        counted(scope, medium, version, again)?;
    }
    let quarantined = medium
        .current()
        .is_some_and(|held| held.shape.is_quarantined(version));
    ensure(by_operator || !quarantined, 6, || {
        format!("{name} is quarantined and was activated")
    })
}

/// Invariant 2: a trial runs only once its run is counted, and not too often.
///
/// Where the same boot asks again, and the copies differ and can't be repaired,
/// its count may stand in the newer copy alone. Should that one rot before the
/// next write, the run is forgotten with it: three faults in a row (a write that
/// failed and persisted, a repair that failed, a copy that rots) cost one run.
fn counted(scope: &Scope, medium: &Medium, version: V, again: bool) -> Result<(), Violation> {
    let name = name(scope, version);
    let counts = |shape: Shape| shape.has_counted(version);
    let is_counted = if again {
        medium.counts().is_some_and(counts)
    } else {
        medium.held().count() > 0 && medium.held().all(|held| counts(held.shape))
    };
    ensure(is_counted, 2, || {
        format!("{name} runs as a trial before that is counted")
    })?;
    let most = scope.limits.tries + scope.limits.refunds;
    let runs = medium.held().map(|held| held.runs).max().unwrap_or(0);
    ensure(runs <= most, 2, || {
        format!("{name} runs as a trial {runs} times, {most} are allowed")
    })
}

fn name(scope: &Scope, version: V) -> String {
    scope.deployment(version).version.to_string()
}

/// One finished step, with the record that counted before and after it.
#[derive(Debug)]
pub struct Step<'a> {
    pub scope: &'a Scope,
    pub was: Option<Shape>,
    pub now: Option<Shape>,
    pub running: Option<RunShape>,
}

/// What a boot found out about the versions it tried.
#[derive(Debug, Default)]
pub struct Tried {
    pub intact: Vec<V>,
    pub failed: Vec<(V, Health)>,
    /// Something of the host stood in the way: nobody's fault, and no rescue.
    pub host: bool,
}

impl Tried {
    fn has_failed(&self, version: V) -> bool {
        self.failed.iter().any(|&(failed, _)| failed == version)
    }
}

impl Step<'_> {
    /// Invariants 3, 4 and 6 of a boot: it takes from the record what its rules
    /// take, and ends in rescue only where they say so.
    pub fn boot(&self, how: How, tried: &Tried) -> Result<(), Violation> {
        let (Some(was), Some(now)) = (self.was, self.now) else {
            return Ok(());
        };
        Self::keeps_roles(&was, &now)?;
        self.keeps_quarantine(&was, &now, None)?;
        self.keeps_trial(&was, &now, tried)?;
        // Rule 2: a boot that ended in rescue does so again when it asks again.
        let said_rescue = matches!(was.last, LastShape::This { chosen: None, .. });
        let regular = matches!(how, How::Usual | How::ReadOnly);
        if regular && self.running.is_none() && !tried.host && !said_rescue {
            self.rescue(&was, tried, how == How::ReadOnly)?;
        }
        Ok(())
    }

    fn keeps_trial(&self, was: &Shape, now: &Shape, tried: &Tried) -> Result<(), Violation> {
        let Some(trial) = was.trial else {
            return ensure(now.trial.is_none(), 3, || {
                "a boot staged something".to_owned()
            });
        };
        let kept = now.trial.is_some_and(|now| now.version == trial.version);
        let spent = trial.tries == 0
            || tried.has_failed(trial.version)
            || was.is_quarantined(trial.version);
        ensure(kept || (now.trial.is_none() && spent), 3, || {
            format!("a boot took {} off trial", name(self.scope, trial.version))
        })
    }

    /// Invariant 4, of one boot: rescue only with nothing usable left, or with
    /// the limits spent.
    fn rescue(&self, was: &Shape, tried: &Tried, read_only: bool) -> Result<(), Violation> {
        let most = self.scope.limits.good_boots;
        let spent = was.good_unblessed >= most || was.fallback_unblessed >= most;
        let usable = [was.good, was.fallback]
            .into_iter()
            .flatten()
            .find(|&version| !was.is_quarantined(version) && !tried.has_failed(version));
        ensure(usable.is_none() || (spent && !read_only), 4, || {
            format!(
                "rescue, although {} may be selected",
                usable.map_or_else(String::new, |version| name(self.scope, version))
            )
        })
    }

    fn keeps_roles(was: &Shape, now: &Shape) -> Result<(), Violation> {
        let same = was.good == now.good && was.fallback == now.fallback && was.floor == now.floor;
        ensure(same, 3, || {
            "good, fallback or the epoch floor changed".to_owned()
        })
    }

    /// A digest leaves the quarantine only at the operator's word.
    fn keeps_quarantine(
        &self,
        was: &Shape,
        now: &Shape,
        released: Option<V>,
    ) -> Result<(), Violation> {
        let lost = self.scope.versions().find(|&version| {
            was.is_quarantined(version) && !now.is_quarantined(version) && Some(version) != released
        });
        ensure(lost.is_none(), 6, || {
            format!(
                "{} left the quarantine by itself",
                lost.map_or_else(String::new, |version| name(self.scope, version))
            )
        })
    }

    /// Invariants 3 and 6 of a command that succeeded: what it said is so, in every
    /// copy; what it did not touch stayed.
    pub fn command(&self, op: Op, done: &Done, medium: &Medium) -> Result<(), Violation> {
        for held in medium.held() {
            self.said(done, op, &held.shape)?;
        }
        let (Some(was), Some(now)) = (self.was, self.now) else {
            return Ok(());
        };
        let released = match op {
            Op::Stage {
                version,
                forced: true,
            } => Some(version),
            Op::Rollback {
                version,
                forced: true,
            } => version.or(was.fallback),
            _ => None,
        };
        self.keeps_quarantine(&was, &now, released)?;
        match done {
            Done::Blessed(_) => ensure(now.floor >= was.floor, 3, || {
                "a bless lowered the epoch floor".to_owned()
            }),
            _ => Self::keeps_roles(&was, &now),
        }
    }

    /// What a command said, against one copy of the record.
    fn said(&self, done: &Done, op: Op, shape: &Shape) -> Result<(), Violation> {
        let trial = shape.trial.map(|trial| trial.version);
        let (is_so, what) = match (done, op) {
            (Done::Staged(Staged::AlreadyGood), Op::Stage { version, .. }) => {
                (shape.good == Some(version), "a stage")
            }
            (Done::Staged(_), Op::Stage { version, .. }) => (trial == Some(version), "a stage"),
            (Done::RolledBack(RolledBack::OnTrial(_)), Op::Rollback { version, .. }) => (
                trial.is_some() && version.is_none_or(|version| trial == Some(version)),
                "a rollback",
            ),
            (Done::RolledBack(RolledBack::CancelledTrial(_)) | Done::Cancelled(_), _) => {
                (trial.is_none(), "a cancelled trial")
            }
            (Done::Blessed(outcome), _) => (
                shape.good == self.running.map(|running| running.version)
                    && (*outcome != Blessed::Trial || trial.is_none()),
                "a bless",
            ),
            (Done::Condemned(_), _) => {
                return self.condemned(shape);
            }
            _ => (true, ""),
        };
        ensure(is_so, 3, || {
            format!("{what} was acknowledged and is not so")
        })
    }

    /// A condemned trial is off trial, and quarantined unless it has another role.
    fn condemned(&self, shape: &Shape) -> Result<(), Violation> {
        let Some(running) = self.running.filter(|_| self.is_trial_condemned()) else {
            return Ok(());
        };
        ensure(shape.trial.is_none(), 3, || {
            "a condemnation was acknowledged and is not so".to_owned()
        })?;
        let version = Some(running.version);
        let has_role = shape.good == version || shape.fallback == version;
        ensure(has_role || shape.is_quarantined(running.version), 6, || {
            format!(
                "{} was condemned and not quarantined",
                name(self.scope, running.version)
            )
        })
    }

    /// Whether a condemnation is the first of its boot, and of a trial.
    fn is_trial_condemned(&self) -> bool {
        let (Some(was), Some(running)) = (self.was, self.running) else {
            return false;
        };
        let is_first = matches!(was.last, LastShape::This { verdict: None, .. });
        is_first
            && running.counted
            && running.role == Role::Trial
            && was
                .trial
                .is_some_and(|trial| trial.version == running.version)
    }
}
