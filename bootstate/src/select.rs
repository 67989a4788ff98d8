//! Which deployment a boot activates (rules 1 to 4 and 11).
//!
//! The activator asks, tries, and asks again with what went wrong:
//!
//! 1. [`select`] names a candidate, and the record that counts it.
//! 2. The activator checks the candidate's identity. Not intact: add a
//!    [`Failure`], ask again.
//! 3. It makes the record durable. Not possible: ask again with `durable: false`.
//! 4. It mounts the candidate. Not possible: add a [`Failure`], ask again with
//!    the record as it now stands.
//!
//! Every round removes a candidate or a possibility, so at most
//! [`MAX_ROUNDS`] rounds end in a choice.

use crate::cmdline::Select;
use crate::ident::{BootId, Digest};
use crate::quarantine::Cause;
use crate::record::{
    Attempt, Choice, Deployment, Escalation, LastBoot, Limits, Outcome, Reason, Record, Slot,
};

/// Upper bound of the asking: four candidates, each failing, and one lost medium.
pub const MAX_ROUNDS: usize = 8;

/// A candidate that turned out unusable in this boot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Failure {
    /// In which role it was tried.
    pub slot: Slot,
    /// Which one.
    pub digest: Digest,
    /// [`Outcome::Missing`], [`Outcome::Altered`] or [`Outcome::ActivationFailed`].
    pub outcome: Outcome,
}

/// What a boot knows when it asks.
#[derive(Debug, Clone)]
pub struct BootInput<'a> {
    /// The kernel's id of this boot.
    pub boot_id: BootId,
    /// The operator's choice on the kernel command line.
    pub select: Option<&'a Select>,
    /// The deployment `op-dbus.select=<version>` names, from its receipt.
    pub named: Option<&'a Deployment>,
    /// How patient booting is.
    pub limits: Limits,
    /// Whether records can still be made durable.
    pub durable: bool,
    /// Candidates that failed so far in this boot.
    pub failures: &'a [Failure],
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// What to activate, in which role; none is rescue.
    pub candidate: Option<(Slot, Deployment)>,
    /// Why.
    pub reason: Reason,
    /// Whether the boot counts: only then can it be blessed or condemned.
    pub counted: bool,
    /// The record that must be durable before the candidate is activated; none
    /// when there is nothing to change.
    pub record: Option<Record>,
}

impl Selection {
    fn uncounted(candidate: Option<(Slot, Deployment)>, reason: Reason) -> Self {
        Self {
            candidate,
            reason,
            counted: false,
            record: None,
        }
    }
}

/// Chooses. Pure: the same record and input give the same answer.
pub fn select(record: &Record, input: &BootInput<'_>) -> Selection {
    match input.select {
        Some(choice) => select_by_operator(record, input, choice),
        None => select_by_record(record, input),
    }
}

fn failed(input: &BootInput<'_>, deployment: &Deployment) -> bool {
    input
        .failures
        .iter()
        .any(|failure| failure.digest == deployment.digest)
}

/// Rule 11. Quarantine does not apply: the operator is the last resort.
fn select_by_operator(record: &Record, input: &BootInput<'_>, choice: &Select) -> Selection {
    let wanted = match choice {
        Select::None => return Selection::uncounted(None, Reason::CommandLine),
        Select::Good => record.good.as_ref().map(|good| (Slot::Good, good)),
        Select::Fallback => record
            .fallback
            .as_ref()
            .map(|fallback| (Slot::Fallback, fallback)),
        Select::Version(_) => input.named.map(|named| (Slot::Named, named)),
    };
    let usable = |(_, deployment): &(Slot, &Deployment)| !failed(input, deployment);
    if let Some((slot, deployment)) = wanted.filter(usable) {
        return Selection::uncounted(Some((slot, deployment.clone())), Reason::CommandLine);
    }
    // A typing mistake must not cost the device its service: the safest version
    // the record knows comes up instead, as uncounted as the one that was asked for.
    let safest = regular(record, input, &[Slot::Good, Slot::Fallback]);
    Selection::uncounted(safest, Reason::CommandLineFailed)
}

fn select_by_record(record: &Record, input: &BootInput<'_>) -> Selection {
    let same_boot = record.counted_boot(input.boot_id);
    if let Some(last) = same_boot.filter(|_| input.failures.is_empty()) {
        if let Some(answer) = same_choice(record, last) {
            return answer;
        }
    }

    let mut next = record.clone();
    let mut reason = Reason::Regular;
    note_failures(&mut next, input, &mut reason);
    if same_boot.is_none() && input.durable {
        if let Some(trial) = take_trial(&mut next, input, &mut reason) {
            return count(next, input, Slot::Trial, trial, Reason::TrialDue);
        }
    } else if same_boot.is_none() && record.trial.is_some() {
        reason = Reason::NotDurable;
    }

    let after_rescue = next.after_rescue(input.boot_id);
    // Condemned, and the same kernel boot asks again (a soft reboot): another one
    // first, but never rescue because of a verdict.
    let good_condemned = next.escalation == Escalation::FallbackDue
        || same_boot.is_some_and(|last| {
            last.verdict.is_some()
                && matches!(
                    last.choice,
                    Choice::Deployment {
                        slot: Slot::Good,
                        ..
                    }
                )
        });
    let good_spent = next.good_unblessed >= input.limits.good_boots;
    let fallback_spent = next.fallback_unblessed >= input.limits.good_boots;
    let order: &[Slot] = if after_rescue || !input.durable {
        &[Slot::Good, Slot::Fallback]
    } else if good_condemned {
        &[Slot::Fallback, Slot::Good]
    } else {
        match (good_spent, fallback_spent) {
            (false, false) => &[Slot::Good, Slot::Fallback],
            (false, true) => &[Slot::Good],
            (true, false) => &[Slot::Fallback],
            (true, true) => &[],
        }
    };
    if reason == Reason::Regular {
        reason = if !input.durable {
            Reason::NotDurable
        } else if after_rescue {
            Reason::AfterRescue
        } else if good_condemned {
            Reason::GoodCondemned
        } else if good_spent {
            Reason::GoodLimit
        } else {
            Reason::Regular
        };
    }
    match regular(&next, input, order) {
        Some((slot, deployment)) => count(next, input, slot, deployment, reason),
        None => rescue(next, input, record),
    }
}

/// The first usable one of the given roles.
fn regular(record: &Record, input: &BootInput<'_>, order: &[Slot]) -> Option<(Slot, Deployment)> {
    order
        .iter()
        .filter_map(|&slot| record.slot(slot).map(|deployment| (slot, deployment)))
        .find(|(_, deployment)| {
            !failed(input, deployment) && !record.quarantine.contains(&deployment.digest)
        })
        .map(|(slot, deployment)| (slot, deployment.clone()))
}

/// Rule 2: the same kernel boot asks again (the generator way after the initrd
/// way, or a soft reboot) and gets the same answer, unless that was condemned.
fn same_choice(record: &Record, last: &LastBoot) -> Option<Selection> {
    let candidate = match &last.choice {
        Choice::Rescue => None,
        Choice::Deployment { slot, digest } => {
            if last.verdict.is_some() || record.quarantine.contains(digest) {
                return None;
            }
            // A bless may have moved it to another role since.
            let deployment = record
                .slot(*slot)
                .filter(|deployment| deployment.digest == *digest)
                .map(|deployment| (*slot, deployment))
                .or_else(|| {
                    record
                        .deployments()
                        .find(|(_, deployment)| deployment.digest == *digest)
                })
                .map(|(slot, deployment)| (slot, deployment.clone()))?;
            Some(deployment)
        }
    };
    Some(Selection {
        candidate,
        reason: Reason::SameBoot,
        counted: true,
        record: None,
    })
}

/// Rule 3: what failed in this boot leaves its traces in the record. A trial
/// that could not be mounted is quarantined. One that is missing or altered can
/// never become intact again; it is dropped, and may be received anew.
fn note_failures(next: &mut Record, input: &BootInput<'_>, reason: &mut Reason) {
    for failure in input.failures {
        *reason = Reason::CandidateFailed;
        next.note(Attempt {
            boot_id: input.boot_id,
            slot: Some(failure.slot),
            digest: Some(failure.digest),
            outcome: failure.outcome,
            reason: Reason::CandidateFailed,
        });
        let was_trial = |trial: &mut crate::Trial| trial.deployment.digest == failure.digest;
        if failure.slot == Slot::Trial {
            if let Some(trial) = next.trial.take_if(was_trial) {
                if failure.outcome == Outcome::ActivationFailed {
                    next.quarantine_trial(trial, Cause::ActivationFailed);
                }
            }
        }
    }
}

/// The trial with one try taken, or none; one without tries is quarantined.
fn take_trial(next: &mut Record, input: &BootInput<'_>, reason: &mut Reason) -> Option<Deployment> {
    let mut trial = next.trial.take()?;
    let deployment = trial.deployment.clone();
    if next.quarantine.contains(&deployment.digest) {
        return None;
    }
    if failed(input, &deployment) {
        next.trial = Some(trial);
        return None;
    }
    if let Some(left) = trial.tries_left.checked_sub(1) {
        trial.tries_left = left;
        trial.attempts = trial.attempts.saturating_add(1);
        next.trial = Some(trial);
        return Some(deployment);
    }
    next.note(Attempt {
        boot_id: input.boot_id,
        slot: Some(Slot::Trial),
        digest: Some(deployment.digest),
        outcome: Outcome::TriesExhausted,
        reason: Reason::TriesExhausted,
    });
    next.quarantine_trial(trial, Cause::TriesExhausted);
    *reason = Reason::TriesExhausted;
    None
}

/// A choice with its count. Without a durable record it is made all the same
/// (only good and fallback come here then), but does not count.
fn count(
    mut next: Record,
    input: &BootInput<'_>,
    slot: Slot,
    deployment: Deployment,
    reason: Reason,
) -> Selection {
    if !input.durable {
        return Selection::uncounted(Some((slot, deployment)), reason);
    }
    match slot {
        Slot::Good => next.good_unblessed = next.good_unblessed.saturating_add(1),
        Slot::Fallback => {
            next.fallback_unblessed = next.fallback_unblessed.saturating_add(1);
            if next.escalation == Escalation::FallbackDue {
                next.escalation = Escalation::Exhausted;
            }
        }
        Slot::Trial | Slot::Named => {}
    }
    decided(next, input, Some((slot, deployment)), reason)
}

/// Rule 4. Nothing is activated; the boot after this one tries good once. That
/// promise needs the record: when it can't be written, good was tried already.
fn rescue(next: Record, input: &BootInput<'_>, before: &Record) -> Selection {
    let reason = if before.deployments().next().is_none() {
        Reason::NothingInstalled
    } else {
        Reason::NothingLeft
    };
    if !input.durable {
        return Selection::uncounted(None, reason);
    }
    decided(next, input, None, reason)
}

/// The answer that counts: noted as an attempt, and as the last boot.
fn decided(
    mut next: Record,
    input: &BootInput<'_>,
    candidate: Option<(Slot, Deployment)>,
    reason: Reason,
) -> Selection {
    let chosen = candidate
        .as_ref()
        .map(|(slot, deployment)| (*slot, deployment.digest));
    next.note(Attempt {
        boot_id: input.boot_id,
        slot: chosen.map(|(slot, _)| slot),
        digest: chosen.map(|(_, digest)| digest),
        outcome: Outcome::Selected,
        reason,
    });
    let after_rescue = next.after_rescue(input.boot_id);
    next.last_boot = Some(LastBoot {
        boot_id: input.boot_id,
        choice: chosen.map_or(Choice::Rescue, |(slot, digest)| Choice::Deployment {
            slot,
            digest,
        }),
        reason,
        after_rescue,
        refunded: false,
        verdict: None,
    });
    Selection {
        candidate,
        reason,
        counted: true,
        record: Some(next),
    }
}
