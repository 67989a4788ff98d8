//! Invariants 4 and 5, which look beyond one step. Both depend only on what the
//! medium holds, so each is checked once for every medium a search meets.

use std::cell::RefCell;
use std::collections::HashSet;

use op_dbus_activator::choose::Unfit;
use op_dbus_bootstate::record::Outcome;
use op_dbus_bootstate::{Deployment, Record, Slot};

use crate::check::Violation;
use crate::common::boot;
use crate::common::programs::{self, Command, Copies, Host, Logged, Plan};
use crate::fate::Fate;
use crate::medium::{Hands, Library, Medium};
use crate::shape::{Shape, THIS_BOOT, V, number};

/// How a run of boots goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Days {
    /// Each dies before any verdict.
    Dying,
    /// Each is judged unhealthy.
    Condemned,
    /// The store takes no writes.
    ReadOnly,
}

/// What was looked at, and how long it took at worst.
#[derive(Debug, Default)]
pub struct Liveness {
    seen: HashSet<Shape>,
    repaired: HashSet<Medium>,
    /// Most boots until something was selected.
    pub worst: u32,
}

impl Liveness {
    /// Invariant 4, from a device that is off: whichever versions are intact from
    /// now on, some boot selects one of those that may be selected.
    pub fn check(&mut self, library: &Library, medium: &Medium) -> Result<(), Violation> {
        let Some(record) = medium.counts() else {
            // Nothing is known; where the audit log names a version, that is good.
            return Ok(());
        };
        if !self.seen.insert(record) {
            return Ok(());
        }
        let versions: Vec<V> = library.scope.versions().collect();
        for set in 1..1_u8 << versions.len() {
            for mountable in [false, true] {
                for days in [Days::Dying, Days::Condemned, Days::ReadOnly] {
                    self.boots(library, medium, record, set, mountable, days)?;
                }
            }
        }
        Ok(())
    }

    fn boots(
        &mut self,
        library: &Library,
        medium: &Medium,
        record: Shape,
        set: u8,
        mountable: bool,
        days: Days,
    ) -> Result<(), Violation> {
        let limits = library.scope.limits;
        let is_in = |version: V| set & 1 << version != 0 && !record.is_quarantined(version);
        let trial = record
            .trial
            .filter(|trial| trial.tries > 0 && days != Days::ReadOnly)
            .map(|trial| trial.version);
        let regular = [record.good, record.fallback];
        if !regular.into_iter().chain([trial]).flatten().any(is_in) {
            return Ok(());
        }
        let within = u32::from(limits.tries) + u32::from(limits.refunds) + 2;
        let mut medium = *medium;
        for nth in 1..=within {
            let fate = Fate::default();
            let cell = RefCell::new(medium.aged());
            let mut hands = Hands::new(library, &fate, &cell);
            let plan = Plan {
                boot_id: boot(THIS_BOOT),
                select: None,
                named: None,
                limits,
                read_only: days == Days::ReadOnly,
            };
            let mut host = Fixed { set, mountable };
            let running = programs::boot(&mut hands, &mut host, &plan);
            if let Some(running) = running {
                self.worst = self.worst.max(nth);
                let is_judged = days == Days::Condemned && nth < within;
                if !is_judged {
                    return Ok(());
                }
                // Whatever is judged, the next boot again has something to run.
                let mut hands = Hands::new(library, &fate, &cell);
                programs::command(
                    &mut hands,
                    &mut host,
                    &Command::Condemn,
                    Some(&running),
                    limits,
                );
                let now = cell.borrow().counts();
                let left = now.is_some_and(|now| {
                    [now.good, now.fallback]
                        .into_iter()
                        .flatten()
                        .any(|version| set & 1 << version != 0 && !now.is_quarantined(version))
                });
                if !left {
                    return Ok(());
                }
            }
            medium = *cell.borrow();
        }
        Err(Violation {
            invariant: 4,
            what: format!(
                "{within} boots ({days:?}) selected nothing although one of the versions {set:03b} is intact and may be selected"
            ),
        })
    }

    /// Invariant 5: a repair changes nothing a reader sees; interrupted anywhere
    /// and begun again it comes to the same; and it need not be done twice.
    pub fn recovery(&mut self, library: &Library, medium: &Medium) -> Result<(), Violation> {
        if !self.repaired.insert(*medium) {
            return Ok(());
        }
        let before = medium.counts();
        let fail = |what: &str| {
            Err(Violation {
                invariant: 5,
                what: what.to_owned(),
            })
        };
        let mut fate = Fate::default();
        loop {
            let cell = RefCell::new(*medium);
            // The next program repairs again, and nothing goes wrong this time.
            let interrupted = Hands::new(library, &fate, &cell).repair().is_err();
            if cell.borrow().counts() != before {
                return fail("a repair changed what the record says");
            }
            let calm = Fate::default();
            Hands::new(library, &calm, &cell).repair().ok();
            let twice = *cell.borrow();
            if twice.counts() != before {
                return fail("a second repair changed what the record says");
            }
            if !interrupted && twice.held().count() == 1 {
                return fail("a repair left a copy lost");
            }
            if before.is_some() && twice.held().count() != 2 {
                return fail("a repair after an interrupted one left a copy lost");
            }
            if !fate.next() {
                return Ok(());
            }
        }
    }
}

/// A host on which certain versions are intact for good, and all else works.
struct Fixed {
    set: u8,
    /// Whether the others are missing, or fail to mount.
    mountable: bool,
}

impl Fixed {
    fn holds(&self, deployment: &Deployment) -> bool {
        self.set & 1 << number(&deployment.digest) != 0
    }
}

impl Host for Fixed {
    fn check(&mut self, deployment: &Deployment) -> Result<(), Unfit> {
        if self.mountable || self.holds(deployment) {
            return Ok(());
        }
        Err(Unfit::Candidate(Outcome::Missing, String::new()))
    }

    fn activate(&mut self, _: Slot, deployment: &Deployment) -> Result<(), Unfit> {
        if self.holds(deployment) {
            return Ok(());
        }
        Err(Unfit::Candidate(Outcome::ActivationFailed, String::new()))
    }

    fn rebuild(&mut self) -> Option<Record> {
        None
    }

    fn log(&mut self, _: bool) -> Logged {
        Logged::Written
    }
}
