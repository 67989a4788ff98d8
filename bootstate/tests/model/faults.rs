//! Faults put in on purpose: the search must find each of them.

use std::cell::RefCell;

use op_dbus_bootstate::Record;
use op_dbus_bootstate::store::Loaded;
use op_dbus_bootstate::transition::Running;

use crate::common::programs::{self, Answer, Command, Copies, Plan};
use crate::fate::Fate;
use crate::medium::{Hands, Medium};
use crate::play::{Around, Model};

/// A program with a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverFault {
    /// Runs the trial although its count could not be made durable.
    IgnoresFailedCount,
    /// Reports a bless although it could not be made durable.
    AcknowledgesEarly,
    /// Never takes a try.
    TakesNoTry,
    /// Gives a try back as often as it is asked.
    RefundsWithoutEnd,
    /// Forgets the quarantine when it condemns.
    ForgetsQuarantine,
    /// Activates first, and makes the count durable afterwards.
    ActivatesBeforeCount,
    /// Prunes as if the record named no fallback.
    PrunesFallback,
}

/// Hands that do something else to a record than they were asked to.
struct Clumsy<'a> {
    hands: Hands<'a>,
    fault: DriverFault,
    /// What was put off.
    later: Option<(Option<Record>, Record)>,
}

impl Clumsy<'_> {
    fn put_off(&mut self, base: Option<&Record>, next: Record) -> Result<Record, String> {
        self.catch_up()?;
        self.later = Some((base.cloned(), next.clone()));
        Ok(next)
    }

    fn catch_up(&mut self) -> Result<(), String> {
        let Some((base, next)) = self.later.take() else {
            return Ok(());
        };
        self.hands.commit(base.as_ref(), next).map(|_| ())
    }
}

impl Copies for Clumsy<'_> {
    fn load(&mut self) -> Loaded {
        self.hands.load()
    }

    fn commit(&mut self, base: Option<&Record>, mut next: Record) -> Result<Record, String> {
        match self.fault {
            DriverFault::IgnoresFailedCount | DriverFault::AcknowledgesEarly => {
                let planned = next.clone();
                let power = self.hands.fate.has_power();
                return match self.hands.commit(base, next) {
                    Err(_) if power && self.hands.fate.has_power() => Ok(planned),
                    other => other,
                };
            }
            DriverFault::ActivatesBeforeCount => return self.put_off(base, next),
            DriverFault::PrunesFallback => {}
            DriverFault::TakesNoTry => {
                if let (Some(before), Some(trial)) =
                    (base.and_then(|base| base.trial.as_ref()), &mut next.trial)
                {
                    trial.tries_left = before.tries_left;
                }
            }
            DriverFault::RefundsWithoutEnd => {
                if let (Some(before), Some(trial)) =
                    (base.and_then(|base| base.trial.as_ref()), &mut next.trial)
                {
                    trial.refunds_left = before.refunds_left;
                }
            }
            DriverFault::ForgetsQuarantine => {
                if next.trial.is_none() {
                    next.quarantine = base.map(|base| base.quarantine.clone()).unwrap_or_default();
                }
            }
        }
        self.hands.commit(base, next)
    }

    fn repair(&mut self) -> Result<bool, String> {
        self.hands.repair()
    }

    fn keep_blessed(&mut self, record: &Record) -> Result<(), String> {
        self.hands.keep_blessed(record)
    }
}

pub fn boot(
    model: &Model,
    around: &mut Around<'_>,
    fate: &Fate,
    medium: &RefCell<Medium>,
    plan: &Plan,
) -> Option<Running> {
    let mut hands = Hands::new(&model.library, fate, medium);
    match model.fault {
        None | Some(DriverFault::AcknowledgesEarly) => programs::boot(&mut hands, around, plan),
        Some(fault) => {
            let mut clumsy = Clumsy {
                hands,
                fault,
                later: None,
            };
            let running = programs::boot(&mut clumsy, around, plan);
            clumsy.catch_up().ok();
            running
        }
    }
}

pub fn command(
    model: &Model,
    around: &mut Around<'_>,
    fate: &Fate,
    medium: &RefCell<Medium>,
    command: &Command,
    running: Option<&Running>,
) -> Answer {
    let mut hands = Hands::new(&model.library, fate, medium);
    let limits = model.library.scope.limits;
    match model.fault {
        None | Some(DriverFault::IgnoresFailedCount | DriverFault::ActivatesBeforeCount) => {
            programs::command(&mut hands, around, command, running, limits)
        }
        Some(fault) => programs::command(
            &mut Clumsy {
                hands,
                fault,
                later: None,
            },
            around,
            command,
            running,
            limits,
        ),
    }
}
