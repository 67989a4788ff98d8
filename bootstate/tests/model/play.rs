//! A device, and what may happen to it.

use std::cell::RefCell;

use op_dbus_activator::choose::Unfit;
use op_dbus_bootstate::audit::{self, AuditHead, Event, Kind, Line, Stamp};
use op_dbus_bootstate::cmdline::Select;
use op_dbus_bootstate::ident::Digest;
use op_dbus_bootstate::rebuild::History;
use op_dbus_bootstate::record::Outcome;
use op_dbus_bootstate::transition::Overrides;
use op_dbus_bootstate::{Deployment, Record, Slot};

use crate::check::{self, Step, Tried, Violation};
use crate::common::boot;
use crate::common::programs::{Answer, Command, Host, Logged, Plan};
use crate::fate::{Fact, Fate, Health};
use crate::faults::DriverFault;
use crate::medium::{Library, Medium};
use crate::shape::{RunShape, Scope, Shape, THIS_BOOT, V, number};

/// Everything the search remembers of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    pub medium: Medium,
    /// Whether it is on; off, nothing of the boot is left.
    pub up: bool,
    /// What activation.json says runs.
    pub running: Option<RunShape>,
    /// Whether a trial has run in this boot: its second run is none.
    pub ran: bool,
    /// The versions that prune has deleted. Bit n: version n.
    pub gone: u8,
}

impl Device {
    pub fn has_lost(&self, version: V) -> bool {
        self.gone & 1 << version != 0
    }
}

/// How a boot is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    Usual,
    /// The store can only be mounted read-only.
    ReadOnly,
    /// `op-dbus.select=` on the kernel command line.
    Good,
    Fallback,
    Nothing,
    Version(V),
}

/// What may happen to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// A boot with a new kernel boot id: also after kexec.
    Boot(How),
    /// The same kernel boot asks again: a soft reboot, or the generator way after
    /// the initrd way.
    AskAgain(How),
    /// The host goes down: by a crash, a reset, kexec, or after a shutdown.
    Down,
    Stage {
        version: V,
        forced: bool,
    },
    Rollback {
        version: Option<V>,
        forced: bool,
    },
    Cancel,
    Bless,
    Condemn,
    OrderlyShutdown,
    Note,
    /// A copy of the record rots, or gets lost.
    Rot {
        first: bool,
    },
    Prune,
    /// A version that was deleted comes again.
    Receive(V),
}

impl Op {
    /// Everything that can happen in a world of so many versions.
    pub fn all(versions: impl Iterator<Item = V>) -> Vec<Self> {
        use How::{Fallback, Good, Nothing, ReadOnly, Usual, Version};
        let mut all: Vec<_> = [Usual, ReadOnly, Good, Fallback, Nothing]
            .map(Self::Boot)
            .into();
        all.extend([Usual, ReadOnly].map(Self::AskAgain));
        all.extend([
            Self::Down,
            Self::Cancel,
            Self::Bless,
            Self::Condemn,
            Self::OrderlyShutdown,
            Self::Note,
            Self::Prune,
            Self::Rot { first: true },
            Self::Rot { first: false },
        ]);
        let mut targets = vec![None];
        for version in versions {
            targets.push(Some(version));
            all.extend([Self::Boot(Version(version)), Self::Receive(version)]);
            all.extend([false, true].map(|forced| Self::Stage { version, forced }));
        }
        for version in targets {
            all.extend([false, true].map(|forced| Self::Rollback { version, forced }));
        }
        all
    }
}

/// A model: what the devices of one world can do, with at most one fault put in.
#[derive(Debug)]
pub struct Model {
    pub library: Library,
    pub fault: Option<DriverFault>,
    pub ops: Vec<Op>,
}

impl Model {
    pub fn new(library: Library, fault: Option<DriverFault>) -> Self {
        let ops = Op::all(library.scope.versions());
        Self {
            library,
            fault,
            ops,
        }
    }

    /// A device as `prepare` leaves it, with all versions received.
    pub fn start(&self) -> Device {
        Device {
            medium: Medium::prepared(self.library.shape(&Record::default())),
            up: true,
            running: None,
            ran: false,
            gone: 0,
        }
    }

    /// Whether it can happen now, and could make a difference.
    pub fn allows(&self, device: &Device, op: Op) -> bool {
        let medium = &device.medium;
        let record = medium.current().map(|held| held.shape);
        match op {
            // Without a receipt there is nothing to put on trial.
            Op::Stage { version, .. }
            | Op::Rollback {
                version: Some(version),
                ..
            } if device.has_lost(version) => false,
            Op::Boot(_) => !device.up,
            Op::Down | Op::Cancel | Op::Note | Op::Prune => device.up,
            Op::Receive(version) => device.up && device.has_lost(version),
            // In a boot that was not counted, asking again is what going down and
            // booting is.
            Op::AskAgain(_) => {
                device.up && record.is_some_and(|record| record.last.is_of_this_boot())
            }
            Op::Bless | Op::Condemn | Op::OrderlyShutdown => device.up && device.running.is_some(),
            // Forcing differs only where there is something to override.
            Op::Stage { version, forced }
            | Op::Rollback {
                version: Some(version),
                forced,
            } => {
                let overrides = record.is_none_or(|record| {
                    let epoch = self.library.scope.epochs[usize::from(version)];
                    record.is_quarantined(version) || epoch < u32::from(record.floor)
                });
                let stands = record.is_some_and(|record| record.trial.is_some());
                let names = matches!(op, Op::Rollback { .. });
                // With a trial, whatever is named, that is taken back.
                device.up && (!forced || overrides) && !(names && stands)
            }
            Op::Rollback {
                version: None,
                forced,
            } => device.up && (!forced || record.is_none_or(|record| record.quarantine != 0)),
            Op::Rot { first: true } => medium.zero.is_some(),
            Op::Rot { first: false } => medium.one.is_some(),
        }
    }

    /// Lets it happen, and checks what must hold of the step and after it.
    pub fn play(&self, device: &Device, op: Op, fate: &Fate) -> Result<Device, Violation> {
        let mut next = *device;
        match op {
            Op::Down => next.up = false,
            Op::Rot { first } => {
                next.medium = device.medium.rot(first);
                if next.medium.current().is_none() {
                    next.medium.blessed = self.kept(device, fate);
                }
            }
            Op::Boot(how) => self.boot(&mut next, how, fate, false)?,
            Op::AskAgain(how) => self.boot(&mut next, how, fate, true)?,
            Op::Prune => self.prune(&mut next, fate)?,
            Op::Receive(version) => next.gone &= !(1 << version),
            _ => self.command(&mut next, op, fate)?,
        }
        if !fate.has_power() {
            next.up = false;
        }
        if !next.up {
            next.running = None;
            next.ran = false;
            next.medium = next.medium.aged();
        }
        check::standing(&next)?;
        Ok(next)
    }

    /// What `record.blessed` turns out to hold once both copies are lost: whatever
    /// a bless may ever have kept, or nothing. It names nothing that was deleted:
    /// prune leaves alone what it names, whatever that is (`prune`), and a bless
    /// keeps nothing that was deleted before (`standing`).
    fn kept(&self, device: &Device, fate: &Fate) -> Option<Shape> {
        let kept: Vec<_> = self
            .library
            .kept
            .iter()
            .filter(|shape| shape.roles() & device.gone == 0)
            .collect();
        let at = fate.choose(kept.len() + 1).checked_sub(1)?;
        let shape = *kept[at];
        fate.note(Fact::Kept(shape.good, shape.fallback));
        Some(shape)
    }

    fn boot(
        &self,
        device: &mut Device,
        how: How,
        fate: &Fate,
        again: bool,
    ) -> Result<(), Violation> {
        let scope = &self.library.scope;
        let medium = RefCell::new(device.medium);
        let select = match how {
            How::Usual | How::ReadOnly => None,
            How::Good => Some(Select::Good),
            How::Fallback => Some(Select::Fallback),
            How::Nothing => Some(Select::None),
            How::Version(version) => Some(Select::Version(scope.deployment(version).version)),
        };
        let plan = Plan {
            boot_id: boot(THIS_BOOT),
            named: match how {
                How::Version(version) if !device.has_lost(version) => {
                    Some(scope.deployment(version))
                }
                _ => None,
            },
            limits: scope.limits,
            read_only: how == How::ReadOnly,
            select,
        };
        // A second run in one boot may find the first one's mounts.
        let mounted = device.running.filter(|_| fate.choose(2) == 1);
        if mounted.is_some() {
            fate.note(Fact::StillMounted);
        }
        let mut around = Around {
            model: self,
            fate,
            medium: &medium,
            by_operator: plan.select.is_some(),
            again,
            ran: device.ran,
            gone: device.gone,
            mounted: mounted.map(|run| run.version),
            tried: Tried::default(),
            violation: None,
        };
        let was = device.medium.counts();
        let running = crate::faults::boot(self, &mut around, fate, &medium, &plan);
        let Around {
            tried,
            violation,
            ran,
            ..
        } = around;
        if let Some(violation) = violation {
            return Err(violation);
        }
        device.medium = *medium.borrow();
        device.running = running.as_ref().map(RunShape::of);
        device.ran = ran;
        device.up = true;
        if fate.has_power() {
            let step = Step {
                scope,
                was,
                now: device.medium.counts(),
                running: device.running,
            };
            step.boot(how, &tried)?;
        }
        Ok(())
    }

    pub fn command(&self, device: &mut Device, op: Op, fate: &Fate) -> Result<(), Violation> {
        let scope = &self.library.scope;
        let command = command(scope, op);
        let running = device.running.map(|run| run.running(scope));
        let medium = RefCell::new(device.medium);
        let mut around = Around {
            model: self,
            fate,
            medium: &medium,
            by_operator: false,
            again: false,
            ran: false,
            gone: device.gone,
            mounted: None,
            tried: Tried::default(),
            violation: None,
        };
        let was = device.medium.counts();
        let answer =
            crate::faults::command(self, &mut around, fate, &medium, &command, running.as_ref());
        device.medium = *medium.borrow();
        if let (Answer::Done(done), true) = (&answer, fate.has_power()) {
            let step = Step {
                scope,
                was,
                now: device.medium.counts(),
                running: device.running,
            };
            step.command(op, done, &device.medium)?;
        }
        Ok(())
    }
}

/// The device around the record, during one play.
pub struct Around<'a> {
    pub model: &'a Model,
    pub fate: &'a Fate,
    pub medium: &'a RefCell<Medium>,
    by_operator: bool,
    again: bool,
    ran: bool,
    gone: u8,
    mounted: Option<V>,
    tried: Tried,
    violation: Option<Violation>,
}

const NO_POWER: &str = "the power is gone";

impl Around<'_> {
    fn fail(&mut self, version: V, health: Health) -> Unfit {
        self.fate.note(Fact::Health(version, health));
        self.tried.failed.push((version, health));
        Unfit::Candidate(
            match health {
                Health::Gone => Outcome::Missing,
                _ => Outcome::ActivationFailed,
            },
            String::new(),
        )
    }
}

impl Host for Around<'_> {
    fn check(&mut self, deployment: &Deployment) -> Result<(), Unfit> {
        let version = number(&deployment.digest);
        if !self.fate.has_power() {
            return Err(Unfit::Host(NO_POWER.to_owned()));
        }
        match self.mounted {
            Some(mounted) if mounted == version => return Ok(()),
            Some(_) => {
                self.tried.host = true;
                return Err(Unfit::Host("something else is mounted".to_owned()));
            }
            None => {}
        }
        if self.tried.intact.contains(&version) {
            return Ok(());
        }
        if self.gone & 1 << version != 0 {
            // Not noted as found missing: that would excuse a rescue.
            return Err(Unfit::Candidate(Outcome::Missing, String::new()));
        }
        match self.fate.choose(3) {
            0 => {}
            1 => return Err(self.fail(version, Health::Gone)),
            _ => return Err(self.fail(version, Health::Unreadable)),
        }
        self.tried.intact.push(version);
        Ok(())
    }

    fn activate(&mut self, slot: Slot, deployment: &Deployment) -> Result<(), Unfit> {
        let version = number(&deployment.digest);
        if !self.fate.has_power() {
            return Err(Unfit::Host(NO_POWER.to_owned()));
        }
        if self.mounted == Some(version) {
            return Ok(());
        }
        match self.fate.choose(3) {
            0 => {}
            1 => return Err(self.fail(version, Health::Unmountable)),
            _ => {
                self.tried.host = true;
                self.fate.note(Fact::Health(version, Health::HostFails));
                return Err(Unfit::Host("no memory".to_owned()));
            }
        }
        let mut medium = self.medium.borrow_mut();
        if slot == Slot::Trial && !std::mem::replace(&mut self.ran, true) {
            medium.count_run(version);
        }
        let scope = &self.model.library.scope;
        self.violation = check::activation(
            scope,
            &medium,
            slot,
            version,
            self.by_operator,
            self.tried.intact.contains(&version),
            self.again,
        )
        .err();
        Ok(())
    }

    /// Any version that may ever have been blessed, with any other before it: more
    /// than a real log would say.
    fn rebuild(&mut self) -> Option<Record> {
        let scope = &self.model.library.scope;
        let versions: Vec<V> = scope.versions().collect();
        let mut pairs = vec![(None, None)];
        for &good in &versions {
            pairs.push((Some(good), None));
            pairs.extend(
                versions
                    .iter()
                    .filter(|&&other| other != good)
                    .map(|&other| (Some(good), Some(other))),
            );
        }
        let (good, fallback) = pairs[self.fate.choose(pairs.len())];
        self.fate.note(Fact::Rebuilt(good, fallback));
        let mut history = History::default();
        for version in fallback.into_iter().chain(good) {
            history.line(&blessed(&scope.deployment(version)));
        }
        let known = |digest: &Digest| {
            let version = number(digest);
            (self.gone & 1 << version == 0).then(|| scope.deployment(version))
        };
        history.rebuild(known)
    }

    /// Where it decides nothing, both answers leave the same shape of a record.
    fn log(&mut self, decisive: bool) -> Logged {
        if decisive && self.fate.choose(2) == 1 {
            self.fate.note(Fact::LogFailed);
            return Logged::Failed;
        }
        Logged::Written
    }
}

fn blessed(deployment: &Deployment) -> Line {
    let event = Event::about(Kind::Blessed, deployment, "");
    let (line, _) = audit::append(AuditHead::default(), event, &Stamp::default()).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// What an event tells the programs to do; those that are no command only note.
pub fn command(scope: &Scope, op: Op) -> Command {
    let overrides = |forced| Overrides {
        quarantined: forced,
        old_epoch: forced,
    };
    match op {
        Op::Stage { version, forced } => {
            Command::Stage(scope.deployment(version), overrides(forced))
        }
        Op::Rollback { version, forced } => Command::Rollback(
            version.map(|version| scope.deployment(version)),
            overrides(forced),
        ),
        Op::Cancel => Command::Cancel,
        Op::Bless => Command::Bless,
        Op::Condemn => Command::Condemn,
        Op::OrderlyShutdown => Command::OrderlyShutdown,
        _ => Command::Note,
    }
}
