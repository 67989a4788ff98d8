//! What a version's overlay begins with: the rules, without any I/O
//! (docs/OVERLAYS.md, "What a boot does").

use op_dbus_bootstate::record::{self, Choice};
use op_dbus_bootstate::{BootId, Deployment, Record, Slot};

use crate::config::Mode;

/// What an overlay begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What becomes of its own, if there is one.
    pub own: Own,
    /// Whose is copied where a new one is made; of none: it begins empty.
    pub from: Option<Source>,
}

/// What becomes of the overlay a version has from earlier boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// It is the version's, and stays.
    Stays,
    /// It is what a try left that ended in order, and goes on.
    GoesOn,
    /// It is that of an earlier life of the version: set aside as `<version>.old`.
    IsOld,
    /// It is what a try left that did not end in order: set aside as
    /// `<version>.failed`.
    HasFailed,
}

/// Whose overlay is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The version, with the content its overlay is over.
    pub deployment: Deployment,
    /// Whether a plan may change the copy.
    pub planned: bool,
}

impl Origin {
    /// Its own, or an empty one.
    pub const OWN: Self = Self {
        own: Own::Stays,
        from: None,
    };

    /// Of a candidate. `base` is the record before this boot was counted.
    pub fn of(
        base: &Record,
        slot: Slot,
        deployment: &Deployment,
        boot_id: BootId,
        mode: Mode,
    ) -> Self {
        let (Slot::Trial, Some(trial)) = (slot, &base.trial) else {
            return Self::OWN;
        };
        // Nothing replaces what the other two would find when they are next, and
        // what is set aside of it, nobody puts back.
        let is_other = [&base.good, &base.fallback]
            .into_iter()
            .flatten()
            .any(|other| other.version == deployment.version);
        let is_back = is_other || trial.origin == record::Origin::Rollback;
        let good = base.good.clone().filter(|_| mode == Mode::Carry);
        let from = good
            .filter(|good| good.version != deployment.version)
            .map(|deployment| Source {
                deployment,
                planned: !is_back,
            });
        let goes_on = base.last_boot.as_ref().is_some_and(|last| {
            let same_trial = last.choice
                == Choice::Deployment {
                    slot,
                    digest: deployment.digest,
                };
            same_trial && (last.boot_id == boot_id || last.refunded)
        });
        let own = match () {
            () if is_back => Own::Stays,
            () if goes_on => Own::GoesOn,
            () if trial.attempts == 0 => Own::IsOld,
            () => Own::HasFailed,
        };
        Self { own, from }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::deployment;
    use op_dbus_bootstate::record::{LastBoot, Reason, Trial};

    const BOOT: BootId = BootId([9; 16]);

    /// Version 2 is good, 1 fallback, and the given one is on trial.
    fn on_trial(number: u8, attempts: u16, origin: record::Origin) -> Record {
        Record {
            fallback: Some(deployment(1)),
            good: Some(deployment(2)),
            trial: Some(Trial {
                deployment: deployment(number),
                tries_left: 3,
                refunds_left: 3,
                attempts: attempts.try_into().unwrap(),
                origin,
            }),
            ..Record::default()
        }
    }

    fn after(record: Record, boot_id: BootId, refunded: bool) -> Record {
        let trial = record.trial.as_ref().unwrap();
        let last = LastBoot {
            boot_id,
            choice: Choice::Deployment {
                slot: Slot::Trial,
                digest: trial.deployment.digest,
            },
            reason: Reason::TrialDue,
            after_rescue: false,
            refunded,
            verdict: None,
        };
        Record {
            last_boot: Some(last),
            ..record
        }
    }

    fn of(record: &Record, mode: Mode) -> Origin {
        let trial = &record.trial.as_ref().unwrap().deployment;
        Origin::of(record, Slot::Trial, trial, BOOT, mode)
    }

    fn carried(planned: bool) -> Source {
        Source {
            deployment: deployment(2),
            planned,
        }
    }

    #[test]
    fn what_is_not_on_trial_has_its_own() {
        let record = on_trial(3, 0, record::Origin::Stage);
        for slot in [Slot::Good, Slot::Fallback, Slot::Named] {
            let found = Origin::of(&record, slot, &deployment(3), BOOT, Mode::Carry);
            assert_eq!(found, Origin::OWN);
        }
    }

    #[test]
    fn a_trial_begins_with_goods_or_with_nothing() {
        for (attempts, own) in [(0, Own::IsOld), (1, Own::HasFailed)] {
            let record = on_trial(3, attempts, record::Origin::Stage);
            let from = Some(carried(true));
            assert_eq!(of(&record, Mode::Carry), Origin { own, from });
            let from = None;
            assert_eq!(of(&record, Mode::Fresh), Origin { own, from });
        }
        let mut record = on_trial(3, 0, record::Origin::Stage);
        record.good = None;
        assert_eq!(of(&record, Mode::Carry).from, None);
    }

    #[test]
    fn a_try_that_ended_in_order_goes_on() {
        let record = on_trial(3, 1, record::Origin::Stage);
        let other = BootId([8; 16]);
        for mode in [Mode::Carry, Mode::Fresh] {
            let own = |record: Record| of(&record, mode).own;
            assert_eq!(own(after(record.clone(), other, true)), Own::GoesOn);
            assert_eq!(own(after(record.clone(), BOOT, false)), Own::GoesOn);
            assert_eq!(own(after(record.clone(), other, false)), Own::HasFailed);
            // The last boot was of something else.
            let mut record = after(record.clone(), BOOT, true);
            record.last_boot.as_mut().unwrap().choice = Choice::Rescue;
            assert_eq!(own(record), Own::HasFailed);
        }
    }

    #[test]
    fn going_back_finds_what_was_there() {
        for attempts in [0, 1] {
            for mode in [Mode::Carry, Mode::Fresh] {
                let from = (mode == Mode::Carry).then(|| carried(false));
                let own = Own::Stays;
                let record = on_trial(3, attempts, record::Origin::Rollback);
                let expected = Origin {
                    own,
                    from: from.clone(),
                };
                assert_eq!(of(&record, mode), expected);
                // Fallback and good, however they came to be on trial.
                let record = on_trial(1, attempts, record::Origin::Stage);
                assert_eq!(of(&record, mode), Origin { own, from });
                let record = on_trial(2, attempts, record::Origin::Stage);
                assert_eq!(of(&record, mode), Origin { own, from: None });
            }
        }
    }
}
