//! What programs may do to the record between boots (rules 5 to 10).
//!
//! Each function takes the record as it stands and returns a [`Change`]: the
//! record to commit, the events for the audit log, and what to tell the caller;
//! or a [`Refusal`], and nothing changes.

use crate::audit::{Event, Kind};
use crate::ident::{BootId, Digest};
use crate::quarantine::{CAPACITY, Cause};
use crate::record::{
    Choice, Deployment, Escalation, LastBoot, Limits, Next, Origin, Reason, Record, Slot, Trial,
};
use crate::version::Version;

/// A transition's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<T> {
    /// The record to commit; none when there is nothing to do.
    pub record: Option<Record>,
    /// What to append to the audit log before committing.
    pub events: Vec<Event>,
    /// What came of it.
    pub outcome: T,
}

impl<T> Change<T> {
    fn none(outcome: T) -> Self {
        Self {
            record: None,
            events: Vec::new(),
            outcome,
        }
    }
}

/// Why a transition is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The version failed before.
    #[error("{version} is quarantined ({}); stage another version, or override with --allow-quarantined", cause.words())]
    Quarantined {
        /// Its name.
        version: Version,
        /// Why it is quarantined.
        cause: Cause,
    },
    /// The version is too old to be safe.
    #[error(
        "{version} has security epoch {epoch}, below this device's floor {floor}; override with --allow-old-epoch"
    )]
    EpochBelowFloor {
        /// Its name.
        version: Version,
        /// Its epoch.
        epoch: u32,
        /// The device's floor.
        floor: u32,
    },
    /// A trial that has booted must come to its verdict first.
    #[error(
        "{0} is on trial and has booted; wait for its verdict, or take it back with: op-dbus-stage cancel"
    )]
    TrialRunning(Version),
    /// No room to remember one more bad version.
    #[error(
        "all {CAPACITY} places of the quarantine are taken by versions still in the store; remove one of those versions first"
    )]
    QuarantineFull,
    /// The verdict is about another boot than the one that counts.
    #[error("this boot (of {version}) was not counted as the last one, so it can't be judged")]
    OtherBoot {
        /// What this boot activated.
        version: Version,
    },
    /// The operator chose this boot's version on the kernel command line.
    #[error(
        "{0} was selected on the kernel command line; such a boot is never blessed (stage the version to try it)"
    )]
    ByOperator(Version),
    /// The running version was condemned in this boot.
    #[error("{0} was judged unhealthy in this boot and can't be blessed any more")]
    Condemned(Version),
    /// The running version is no longer in the record.
    #[error("{0} is no longer on trial (cancelled, or replaced), so it can't be blessed")]
    NoLongerOnTrial(Version),
    /// There is nothing to go back to.
    #[error(
        "there is no fallback version to roll back to; name one: op-dbus-stage rollback VERSION"
    )]
    NoFallback,
}

/// Overrides an operator may give to [`stage`] and [`rollback`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Release the version from quarantine.
    pub quarantined: bool,
    /// Accept an epoch below the floor.
    pub old_epoch: bool,
}

impl Overrides {
    fn words(self) -> &'static str {
        match (self.quarantined, self.old_epoch) {
            (false, false) => "",
            (true, false) => " (quarantine overridden)",
            (false, true) => " (epoch floor overridden)",
            (true, true) => " (quarantine and epoch floor overridden)",
        }
    }
}

/// What this boot runs, from `activation.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The kernel boot it was written in.
    pub boot_id: BootId,
    /// In which role.
    pub slot: Slot,
    /// Which version.
    pub version: Version,
    /// With which content.
    pub digest: Digest,
    /// Whether the boot was counted.
    pub counted: bool,
}

/// What staging did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staged {
    /// The version will be tried at the next boot.
    OnTrial {
        /// The trial that gave way.
        replaced: Option<Version>,
    },
    /// It is good already.
    AlreadyGood,
    /// It was staged before.
    AlreadyStaged,
}

/// Rule 9. `is_present` tells whether a digest's version is still in the store.
pub fn stage(
    record: &Record,
    deployment: &Deployment,
    limits: Limits,
    overrides: Overrides,
    is_present: impl Fn(&Digest) -> bool,
) -> Result<Change<Staged>, Refusal> {
    if record
        .good
        .as_ref()
        .is_some_and(|good| good.digest == deployment.digest)
    {
        return Ok(Change::none(Staged::AlreadyGood));
    }
    put_on_trial(
        record,
        deployment,
        Origin::Stage,
        limits,
        overrides,
        is_present,
    )
}

fn put_on_trial(
    record: &Record,
    deployment: &Deployment,
    origin: Origin,
    limits: Limits,
    overrides: Overrides,
    is_present: impl Fn(&Digest) -> bool,
) -> Result<Change<Staged>, Refusal> {
    if let Some(trial) = &record.trial {
        if trial.attempts > 0 {
            return Err(Refusal::TrialRunning(trial.deployment.version.clone()));
        }
        if trial.deployment == *deployment {
            return Ok(Change::none(Staged::AlreadyStaged));
        }
    }
    let mut next = record.clone();
    let mut events = Vec::new();
    if let Some(entry) = record.quarantine.get(&deployment.digest) {
        if !overrides.quarantined {
            return Err(Refusal::Quarantined {
                version: deployment.version.clone(),
                cause: entry.cause,
            });
        }
        next.quarantine.release(&deployment.digest);
        events.push(Event::about(
            Kind::Released,
            deployment,
            entry.cause.words(),
        ));
    }
    // Automatic fallback is always allowed, and so is an operator's return to it.
    let is_fallback = record
        .fallback
        .as_ref()
        .is_some_and(|known| known.digest == deployment.digest);
    let exempt = origin == Origin::Rollback && is_fallback;
    if deployment.epoch < record.epoch_floor && !overrides.old_epoch && !exempt {
        return Err(Refusal::EpochBelowFloor {
            version: deployment.version.clone(),
            epoch: deployment.epoch,
            floor: record.epoch_floor,
        });
    }
    // The place is taken now, because the boot that may need it can refuse nothing.
    if !next.quarantine.make_room(is_present) {
        return Err(Refusal::QuarantineFull);
    }
    let replaced = next.trial.take().map(|trial| {
        events.push(Event::about(
            Kind::Replaced,
            &trial.deployment,
            "had not booted yet",
        ));
        trial.deployment.version
    });
    let how = match origin {
        Origin::Stage => "upgrade",
        Origin::Rollback => "rollback",
    };
    events.push(Event::about(
        Kind::Staged,
        deployment,
        format!("{how}{}", overrides.words()),
    ));
    next.trial = Some(Trial {
        deployment: deployment.clone(),
        tries_left: limits.tries,
        refunds_left: limits.refunds,
        attempts: 0,
        origin,
    });
    Ok(Change {
        record: Some(next),
        events,
        outcome: Staged::OnTrial { replaced },
    })
}

/// Takes the trial back, booted or not, without quarantine. Returns its version.
pub fn cancel(record: &Record) -> Change<Option<Version>> {
    let mut next = record.clone();
    let Some(trial) = next.trial.take() else {
        return Change::none(None);
    };
    let detail = format!("after {} boots", trial.attempts);
    Change {
        record: Some(next),
        events: vec![Event::about(Kind::Cancelled, &trial.deployment, detail)],
        outcome: Some(trial.deployment.version),
    }
}

/// What a rollback did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolledBack {
    /// A trial stood in the way; taking it back is the whole rollback (rule 8).
    CancelledTrial(Version),
    /// The version will be tried at the next boot; good stays until it is blessed.
    OnTrial(Version),
    /// It is good already.
    AlreadyGood(Version),
}

/// Rule 8: back to a named version (`None`: fallback).
pub fn rollback(
    record: &Record,
    target: Option<&Deployment>,
    limits: Limits,
    overrides: Overrides,
    is_present: impl Fn(&Digest) -> bool,
) -> Result<Change<RolledBack>, Refusal> {
    if record.trial.is_some() {
        let Change {
            record,
            events,
            outcome,
        } = cancel(record);
        if let Some(version) = outcome {
            return Ok(Change {
                record,
                events,
                outcome: RolledBack::CancelledTrial(version),
            });
        }
    }
    let target = target
        .or(record.fallback.as_ref())
        .ok_or(Refusal::NoFallback)?;
    if record
        .good
        .as_ref()
        .is_some_and(|good| good.digest == target.digest)
    {
        return Ok(Change::none(RolledBack::AlreadyGood(
            target.version.clone(),
        )));
    }
    let change = put_on_trial(
        record,
        target,
        Origin::Rollback,
        limits,
        overrides,
        is_present,
    )?;
    Ok(Change {
        record: change.record,
        events: change.events,
        outcome: RolledBack::OnTrial(target.version.clone()),
    })
}

/// What a bless did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blessed {
    /// The trial became good; good became fallback.
    Trial,
    /// Good proved itself once more.
    Good,
    /// Fallback became good again.
    Fallback,
    /// It was blessed in this boot already.
    Already,
}

/// The role the running version holds in the record now.
fn current_slot(record: &Record, running: &Running) -> Option<Slot> {
    let holds = |slot: Slot| {
        record
            .slot(slot)
            .is_some_and(|held| held.digest == running.digest)
    };
    // Asked by role first: a rollback's trial and the fallback may be one version.
    if holds(running.slot) {
        return Some(running.slot);
    }
    // A blessed trial or fallback is good by now. A *cancelled* trial that happens
    // to be the fallback as well was tried as a trial and is judged as none.
    holds(Slot::Good).then_some(Slot::Good)
}

/// The last counted boot, if it is the one the running version was activated in.
fn counted_boot<'a>(record: &'a Record, running: &Running) -> Option<&'a LastBoot> {
    record.counted_boot(running.boot_id).filter(|last| {
        matches!(&last.choice, Choice::Deployment { digest, .. } if *digest == running.digest)
    })
}

/// Rule 6: the running version proved itself.
pub fn bless(record: &Record, running: &Running) -> Result<Change<Blessed>, Refusal> {
    let version = || running.version.clone();
    if running.slot == Slot::Named {
        return Err(Refusal::ByOperator(version()));
    }
    let last = counted_boot(record, running);
    if last.is_some_and(|last| last.verdict.is_some())
        || record.quarantine.contains(&running.digest)
    {
        return Err(Refusal::Condemned(version()));
    }
    let slot = current_slot(record, running).ok_or_else(|| Refusal::NoLongerOnTrial(version()))?;
    // An uncounted boot of good may clear good's own counters: it changes no role.
    if last.is_none() && (running.counted || slot != Slot::Good) {
        return Err(Refusal::OtherBoot { version: version() });
    }
    let mut next = record.clone();
    let outcome = match slot {
        Slot::Trial => {
            let Some(trial) = next.trial.take() else {
                return Err(Refusal::NoLongerOnTrial(version()));
            };
            next.fallback = next.good.replace(trial.deployment);
            Blessed::Trial
        }
        Slot::Fallback => {
            next.good = next.fallback.take();
            Blessed::Fallback
        }
        Slot::Good | Slot::Named => Blessed::Good,
    };
    next.good_unblessed = 0;
    next.fallback_unblessed = 0;
    next.escalation = Escalation::None;
    if let Some(good) = &next.good {
        next.epoch_floor = next.epoch_floor.max(good.epoch);
        // A fallback that was staged while it ran: nothing is left to try, and its
        // trial would make good its own fallback.
        next.trial
            .take_if(|trial| trial.deployment.digest == good.digest);
    }
    if next == *record {
        return Ok(Change::none(Blessed::Already));
    }
    let events = next
        .good
        .as_ref()
        .map(|good| Event::about(Kind::Blessed, good, format!("was {slot}")))
        .into_iter()
        .collect();
    Ok(Change {
        record: Some(next),
        events,
        outcome,
    })
}

/// Rule 5: the running version was judged unhealthy. Says what must follow.
pub fn condemn(record: &Record, running: &Running, why: &str) -> Result<Change<Next>, Refusal> {
    // An uncounted boot (the operator's choice, or a medium that takes no writes)
    // leaves nothing to escalate: rebooting would only bring the same again.
    if running.slot == Slot::Named || !running.counted {
        return Ok(Change::none(Next::StayUp));
    }
    let Some(last) = counted_boot(record, running) else {
        return Err(Refusal::OtherBoot {
            version: running.version.clone(),
        });
    };
    if let Some(verdict) = last.verdict {
        return Ok(Change::none(verdict));
    }
    let Some(slot) = current_slot(record, running) else {
        // Cancelled meanwhile: the next boot takes good anyway.
        return Ok(Change::none(Next::Reboot));
    };
    let mut next = record.clone();
    let verdict = match slot {
        Slot::Trial => {
            if let Some(trial) = next.trial.take() {
                next.quarantine_trial(trial, Cause::Condemned);
            }
            // Without good and fallback the next boot would be rescue, and a
            // health verdict never leads there.
            if next.good.is_some() || next.fallback.is_some() {
                Next::Reboot
            } else {
                Next::StayUp
            }
        }
        Slot::Good | Slot::Named => {
            // It came up far enough to be judged: not a boot without a verdict.
            next.good_unblessed = 0;
            let (escalation, verdict) = match (record.escalation, record.fallback.is_some()) {
                (Escalation::None, _) => (Escalation::GoodRetried, Next::Reboot),
                (Escalation::GoodRetried, true) => (Escalation::FallbackDue, Next::Reboot),
                _ => (Escalation::Exhausted, Next::StayUp),
            };
            next.escalation = escalation;
            verdict
        }
        Slot::Fallback => {
            next.fallback_unblessed = 0;
            next.escalation = Escalation::Exhausted;
            // Back to good, once: if good could be selected, it would be next.
            let good_is_due = record.good.is_some()
                && matches!(last.reason, Reason::GoodCondemned | Reason::GoodLimit);
            if good_is_due {
                next.good_unblessed = 0;
                Next::Reboot
            } else {
                Next::StayUp
            }
        }
    };
    if let Some(last) = &mut next.last_boot {
        last.verdict = Some(verdict);
    }
    let event = Event {
        version: Some(running.version.clone()),
        digest: Some(running.digest),
        ..Event::general(Kind::Condemned, format!("was {slot}: {why}"))
    };
    Ok(Change {
        record: Some(next),
        events: vec![event],
        outcome: verdict,
    })
}

/// What must follow when it is not known whether the running version is
/// healthy. Nothing is recorded: an undecided trial is tried again, and pays for
/// it as for any boot (rules 3 and 7); whatever else runs stays up.
pub fn undecided(record: &Record, running: &Running) -> Next {
    let is_counted = running.counted && counted_boot(record, running).is_some();
    // A trial that was judged, cancelled or blessed meanwhile is none any more.
    if is_counted && current_slot(record, running) == Some(Slot::Trial) {
        Next::Reboot
    } else {
        Next::StayUp
    }
}

/// Rule 7: an orderly shutdown gives an undecided trial its try back. Returns
/// whether it did.
pub fn orderly_shutdown(record: &Record, running: &Running) -> Change<bool> {
    let due =
        counted_boot(record, running).is_some_and(|last| !last.refunded && last.verdict.is_none());
    let mut next = record.clone();
    let (Some(trial), Some(last)) = (&mut next.trial, &mut next.last_boot) else {
        return Change::none(false);
    };
    let is_running = running.slot == Slot::Trial && trial.deployment.digest == running.digest;
    if !due || !is_running || trial.attempts == 0 {
        return Change::none(false);
    }
    let Some(refunds_left) = trial.refunds_left.checked_sub(1) else {
        return Change::none(false);
    };
    trial.refunds_left = refunds_left;
    trial.tries_left = trial.tries_left.saturating_add(1);
    last.refunded = true;
    let event = Event::about(
        Kind::Refunded,
        &trial.deployment,
        format!("{} tries and {refunds_left} refunds left", trial.tries_left),
    );
    Change {
        record: Some(next),
        events: vec![event],
        outcome: true,
    }
}

/// Hands the boot attempts the record kept over to the audit log: the events,
/// and the record without them. Does nothing when there are none.
pub fn hand_over_attempts(record: &Record) -> Option<(Record, Vec<Event>)> {
    if record.attempts.is_empty() && record.attempts_dropped == 0 {
        return None;
    }
    let mut next = record.clone();
    let mut events = Vec::new();
    if record.attempts_dropped > 0 {
        let detail = format!(
            "{} older attempts had no room in the record",
            record.attempts_dropped
        );
        events.push(Event::general(Kind::AttemptsDropped, detail));
    }
    events.extend(record.attempts.iter().map(|attempt| Event {
        version: attempt.digest.and_then(|digest| name_of(record, &digest)),
        ..Event::attempt(attempt)
    }));
    next.attempts.clear();
    next.attempts_dropped = 0;
    Some((next, events))
}

/// The version name of a digest, as far as the record knows it.
fn name_of(record: &Record, digest: &Digest) -> Option<Version> {
    let known = record
        .deployments()
        .find(|(_, deployment)| deployment.digest == *digest);
    known
        .map(|(_, deployment)| deployment.version.clone())
        .or_else(|| {
            record
                .quarantine
                .get(digest)
                .map(|entry| entry.version.clone())
        })
}
