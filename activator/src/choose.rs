//! The asking and trying of [`op_dbus_bootstate::select`], over whatever can try.

use op_dbus_bootstate::record::{Outcome, Reason};
use op_dbus_bootstate::select::{self, BootInput, Failure, Selection};
use op_dbus_bootstate::{BootId, Deployment, Record, Slot};

use crate::activation::Failed;

/// Why a candidate is not activated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It is at fault itself: the next candidate may do.
    Candidate(Outcome, String),
    /// Something of the host is; no candidate would do, and none is to blame.
    Host(String),
}

/// What tries a candidate.
pub trait World {
    /// Whether it is what was published.
    fn check(&mut self, slot: Slot, deployment: &Deployment) -> Result<(), Unfit>;

    /// Makes the successor of a record durable; returns it as written.
    fn commit(&mut self, base: &Record, next: Record) -> Result<Record, String>;

    /// Mounts it. `base` is the record before this boot was counted. A candidate
    /// that could not be mounted has left nothing mounted.
    fn activate(&mut self, base: &Record, slot: Slot, deployment: &Deployment)
    -> Result<(), Unfit>;
}

/// What came of it.
#[derive(Debug)]
pub struct Chosen {
    /// The last answer.
    pub selection: Selection,
    /// The record as it now stands.
    pub record: Record,
    /// Candidates that failed.
    pub failures: Vec<Failed>,
    /// Why nothing could be counted, if nothing could.
    pub not_durable: Option<String>,
    /// What of the host is broken: then nothing is activated.
    pub host: Option<String>,
}

/// What does not change while asking.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The record as loaded.
    pub record: Record,
    /// The kernel's id of this boot.
    pub boot_id: BootId,
    /// The operator's choice.
    pub select: Option<&'a op_dbus_bootstate::cmdline::Select>,
    /// The deployment it names.
    pub named: Option<&'a Deployment>,
    /// How patient booting is.
    pub limits: op_dbus_bootstate::record::Limits,
    /// Why no record can be made durable, if that is known already.
    pub not_durable: Option<String>,
}

/// Asks and tries until a candidate is activated or none is left.
pub fn choose(question: Question<'_>, world: &mut impl World) -> Chosen {
    let before = question.record.clone();
    let mut record = question.record;
    let mut not_durable = question.not_durable;
    let mut failures: Vec<Failure> = Vec::new();
    let mut reports = Vec::new();
    let mut host = None;

    for _ in 0..select::MAX_ROUNDS {
        let input = BootInput {
            boot_id: question.boot_id,
            select: question.select,
            named: question.named,
            limits: question.limits,
            durable: not_durable.is_none(),
            failures: &failures,
        };
        let selection = select::select(&record, &input);
        let mut unfit = None;
        if let Some((slot, deployment)) = &selection.candidate {
            unfit = world.check(*slot, deployment).err();
        }
        if unfit.is_none() {
            if let Some(next) = selection.record.clone() {
                match world.commit(&record, next) {
                    Ok(written) => record = written,
                    Err(why) => {
                        not_durable = Some(why);
                        continue;
                    }
                }
            }
            if let Some((slot, deployment)) = &selection.candidate {
                unfit = world.activate(&before, *slot, deployment).err();
            }
        }
        match (unfit, &selection.candidate) {
            (Some(Unfit::Candidate(outcome, reason)), Some((slot, deployment))) => {
                failures.push(Failure {
                    slot: *slot,
                    digest: deployment.digest,
                    outcome,
                });
                reports.push(Failed {
                    slot: *slot,
                    version: deployment.version.clone(),
                    reason,
                });
                continue;
            }
            (Some(Unfit::Candidate(_, reason) | Unfit::Host(reason)), _) => host = Some(reason),
            (None, _) => {}
        }
        return Chosen {
            selection,
            record,
            failures: reports,
            not_durable,
            host,
        };
    }
    // Not reached while select keeps its promise; the safe end if it does not.
    Chosen {
        selection: Selection {
            candidate: None,
            reason: Reason::NothingLeft,
            counted: false,
            record: None,
        },
        record,
        failures: reports,
        not_durable,
        host,
    }
}

#[cfg(test)]
mod tests;
