//! A device in miniature: the shipped decisions over a medium in memory, with
//! power that can go at any write. Events come from a test; after each one the
//! invariants of docs/ARCHITECTURE.md are checked.

use std::collections::BTreeMap;

use op_dbus_bootstate::ident::Digest;
use op_dbus_bootstate::record::{Limits, Next, Outcome, Record, Slot};
use op_dbus_bootstate::select::{BootInput, Failure, MAX_ROUNDS, Selection, select};
use op_dbus_bootstate::store::{Verdict, Writer, load};
use op_dbus_bootstate::transition::{
    Change, Overrides, Refusal, Running, bless, cancel, condemn, orderly_shutdown, rollback, stage,
};

use super::{Fault, Medium, boot, deployment};

/// Where power goes in the two writes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    None,
    BeforeFirst,
    InFirst,
    BetweenWrites,
    InSecond,
}

impl Cut {
    pub const ALL: [Self; 5] = [
        Self::None,
        Self::BeforeFirst,
        Self::InFirst,
        Self::BetweenWrites,
        Self::InSecond,
    ];

    fn fault(self) -> Option<(usize, Fault)> {
        match self {
            Self::None => None,
            Self::BeforeFirst => Some((0, Fault::Lost)),
            Self::InFirst => Some((0, Fault::Torn(512))),
            Self::BetweenWrites => Some((1, Fault::Lost)),
            Self::InSecond => Some((1, Fault::Torn(512))),
        }
    }
}

/// What may happen to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A boot; `dies`: the kernel goes down before any verdict.
    Boot {
        cut: Cut,
        writable: bool,
    },
    /// The version's subvolume is altered, or comes back whole.
    Damage {
        version: u8,
        damaged: bool,
    },
    /// Mounting the version fails from now on, or works again.
    Unmountable {
        version: u8,
        unmountable: bool,
    },
    Stage {
        version: u8,
        cut: Cut,
    },
    Rollback {
        cut: Cut,
    },
    Cancel {
        cut: Cut,
    },
    Bless {
        cut: Cut,
    },
    Condemn {
        cut: Cut,
    },
    OrderlyShutdown {
        cut: Cut,
    },
    /// One copy of the record is wiped (only one at a time: see `Medium`).
    LoseCopy {
        copy: usize,
    },
}

#[derive(Debug, Clone)]
pub struct Device {
    pub medium: Medium,
    pub limits: Limits,
    /// Bit n: version n is altered.
    damaged: u8,
    unmountable: u8,
    boots: u8,
    running: Option<Running>,
    up: bool,
    /// Runs of each version as a trial since it was staged, unblessed.
    trial_runs: BTreeMap<u8, u8>,
    /// What was acknowledged and must hold until something supersedes it.
    good_promised: Option<Digest>,
    trial_promised: Option<Digest>,
}

fn bit(set: u8, version: u8) -> bool {
    set & (1 << version) != 0
}

fn number(digest: &Digest) -> u8 {
    digest.0[0]
}

impl Device {
    /// A device on which version 0 is good.
    pub fn new(limits: Limits) -> Self {
        let record = Record {
            sequence: 1,
            good: Some(deployment(0)),
            ..Record::default()
        };
        Self {
            medium: Medium::holding(&record),
            limits,
            damaged: 0,
            unmountable: 0,
            boots: 0,
            running: None,
            up: false,
            trial_runs: BTreeMap::new(),
            good_promised: Some(deployment(0).digest),
            trial_promised: None,
        }
    }

    pub fn record(&mut self) -> Record {
        load(&mut &mut self.medium)
            .verdict()
            .record()
            .cloned()
            .expect("one fault never loses the record")
    }

    /// Whether the event can happen now.
    pub fn allows(&self, event: Event) -> bool {
        match event {
            Event::Damage { version, damaged } => !self.up && bit(self.damaged, version) != damaged,
            Event::Unmountable {
                version,
                unmountable,
            } => !self.up && bit(self.unmountable, version) != unmountable,
            Event::Boot { .. } | Event::LoseCopy { .. } => !self.up,
            Event::Stage { .. }
            | Event::Rollback { .. }
            | Event::Cancel { .. }
            | Event::OrderlyShutdown { .. } => self.up,
            Event::Bless { .. } | Event::Condemn { .. } => self.up && self.running.is_some(),
        }
    }

    /// Plays an event and checks what must hold after it.
    pub fn play(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Boot { cut, writable } => self.boot(cut, writable)?,
            Event::Damage { version, .. } => self.damaged ^= 1 << version,
            Event::Unmountable { version, .. } => self.unmountable ^= 1 << version,
            Event::LoseCopy { copy } => {
                let verdict = load(&mut &mut self.medium).verdict();
                if matches!(verdict, Verdict::Intact(_)) {
                    self.medium.copies[copy] = None;
                }
            }
            Event::Stage { version, cut } => {
                let (record, limits) = (self.record(), self.limits);
                let change = stage(
                    &record,
                    &deployment(version),
                    limits,
                    Overrides::default(),
                    |_| true,
                );
                if let Ok(Change {
                    record: Some(_), ..
                }) = &change
                {
                    self.trial_promised = None;
                    self.trial_runs.insert(version, 0);
                }
                if self.apply(&record, change, cut) {
                    let now = self.record().trial.map(|trial| trial.deployment.digest);
                    self.trial_promised = now;
                }
            }
            Event::Rollback { cut } => {
                let (record, limits) = (self.record(), self.limits);
                let change = rollback(&record, None, limits, Overrides::default(), |_| true);
                self.trial_promised = None;
                if self.apply(&record, change, cut) {
                    if let Some(trial) = self.record().trial {
                        self.trial_promised = Some(trial.deployment.digest);
                        self.trial_runs.insert(number(&trial.deployment.digest), 0);
                    }
                }
            }
            Event::Cancel { cut } => {
                let record = self.record();
                self.trial_promised = None;
                self.apply(&record, Ok::<_, Refusal>(cancel(&record)), cut);
            }
            Event::Bless { cut } => self.bless(cut),
            Event::Condemn { cut } => {
                let (record, running) = (self.record(), self.running.clone().unwrap());
                self.trial_promised = None;
                let change = condemn(&record, &running, "test");
                let verdict = change.as_ref().ok().map(|change| change.outcome);
                if self.apply(&record, change, cut) && verdict == Some(Next::Reboot) {
                    self.up = false;
                }
            }
            Event::OrderlyShutdown { cut } => {
                let record = self.record();
                if let Some(running) = self.running.clone() {
                    self.apply(
                        &record,
                        Ok::<_, Refusal>(orderly_shutdown(&record, &running)),
                        cut,
                    );
                }
                self.up = false;
            }
        }
        self.check()
    }

    /// Commits a change under a possible power cut; true when it was acknowledged.
    fn apply<T>(&mut self, base: &Record, change: Result<Change<T>, Refusal>, cut: Cut) -> bool {
        let Ok(change) = change else { return false };
        let Some(next) = change.record else {
            return true;
        };
        self.commit(base, next, cut)
    }

    fn commit(&mut self, base: &Record, next: Record, cut: Cut) -> bool {
        self.medium.fault = cut.fault();
        let done = Writer::new(&mut self.medium)
            .commit(Some(base), next)
            .is_ok();
        self.medium.fault = None;
        self.medium.writes.clear();
        if !done {
            self.up = false;
        }
        done
    }

    fn bless(&mut self, cut: Cut) {
        let (record, running) = (self.record(), self.running.clone().unwrap());
        let change = bless(&record, &running);
        if let Ok(Change {
            record: Some(_), ..
        }) = &change
        {
            self.good_promised = None;
            self.trial_promised = None;
        }
        if self.apply(&record, change.clone(), cut) && change.is_ok() {
            self.good_promised = Some(running.digest);
            self.trial_runs.insert(number(&running.digest), 0);
        }
    }

    fn boot(&mut self, cut: Cut, writable: bool) -> Result<(), String> {
        self.boots = self.boots.wrapping_add(1);
        self.up = true;
        self.running = None;
        let mut record = self.record();
        let mut failures: Vec<Failure> = Vec::new();
        let mut durable = writable;
        let before = record.clone();
        for _ in 0..MAX_ROUNDS {
            let input = BootInput {
                boot_id: boot(self.boots),
                select: None,
                named: None,
                limits: self.limits,
                durable,
                failures: &failures,
            };
            let Selection {
                candidate,
                record: next,
                counted,
                ..
            } = select(&record, &input);
            if let Some((slot, chosen)) = &candidate {
                if record.quarantine.contains(&chosen.digest) {
                    return Err(format!("a quarantined version was selected: {chosen:?}"));
                }
                if bit(self.damaged, number(&chosen.digest)) {
                    failures.push(Failure {
                        slot: *slot,
                        digest: chosen.digest,
                        outcome: Outcome::Altered,
                    });
                    continue;
                }
            }
            if let Some(next) = next {
                if !durable {
                    return Err("a record was to be written to a medium that takes none".into());
                }
                if cut != Cut::None {
                    // The trial is superseded only by its own exhaustion or failure.
                    self.after_boot_write(&before, &next);
                    self.commit(&record, next, cut);
                    return Ok(());
                }
                self.after_boot_write(&before, &next);
                if !self.commit(&record, next, Cut::None) {
                    durable = false;
                    continue;
                }
                record = self.record();
            } else if candidate
                .as_ref()
                .is_some_and(|(slot, _)| *slot == Slot::Trial)
            {
                return Err("a trial was run uncounted".into());
            }
            let Some((slot, chosen)) = candidate else {
                return self.rescued(&before, &failures);
            };
            if bit(self.unmountable, number(&chosen.digest)) {
                failures.push(Failure {
                    slot,
                    digest: chosen.digest,
                    outcome: Outcome::ActivationFailed,
                });
                continue;
            }
            if slot == Slot::Trial {
                let runs = self.trial_runs.entry(number(&chosen.digest)).or_default();
                *runs += 1;
                if *runs > self.limits.tries + self.limits.refunds {
                    return Err(format!("{chosen:?} ran {runs} times unblessed"));
                }
            }
            self.running = Some(Running {
                boot_id: boot(self.boots),
                slot,
                version: chosen.version.clone(),
                digest: chosen.digest,
                counted,
            });
            // The same kernel boot asks again and must hear the same.
            let again = select(
                &self.record(),
                &BootInput {
                    failures: &[],
                    durable,
                    ..input_for(self)
                },
            );
            if counted && again.candidate.as_ref().map(|(_, d)| d) != Some(&chosen) {
                return Err(format!(
                    "asked twice in one boot: first {chosen:?}, then {again:?}"
                ));
            }
            return Ok(());
        }
        Err("the boot did not come to a choice".into())
    }

    /// Promises end when the boot itself, by the rules, takes the trial away.
    fn after_boot_write(&mut self, before: &Record, next: &Record) {
        if before.trial.is_some() && next.trial.is_none() {
            self.trial_promised = None;
        }
    }

    /// Rescue is right only when nothing usable was left, or the limits are used up.
    fn rescued(&self, before: &Record, failures: &[Failure]) -> Result<(), String> {
        let spent = before.good_unblessed >= self.limits.good_boots
            || before.fallback_unblessed >= self.limits.good_boots;
        let usable = before.deployments().any(|(slot, deployment)| {
            slot != Slot::Trial
                && !before.quarantine.contains(&deployment.digest)
                && !failures
                    .iter()
                    .any(|failure| failure.digest == deployment.digest)
        });
        if usable && !spent {
            return Err(format!(
                "rescue although something usable was left: {before:?}"
            ));
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        let verdict = load(&mut &mut self.medium).verdict();
        let Some(record) = verdict.record() else {
            return Err(format!("the record is lost: {verdict:?}"));
        };
        if let Some(promised) = self.good_promised {
            if record.good.as_ref().map(|good| good.digest) != Some(promised) {
                return Err("an acknowledged bless did not last".into());
            }
        }
        if let Some(promised) = self.trial_promised {
            if record.trial.as_ref().map(|trial| trial.deployment.digest) != Some(promised) {
                return Err("an acknowledged stage did not last".into());
            }
        }
        let mut repaired = self.medium.clone();
        Writer::new(&mut repaired)
            .repair()
            .map_err(|why| why.to_string())?;
        if load(&mut &mut repaired).verdict().record() != Some(record) {
            return Err("repair changed what the record says".into());
        }
        Ok(())
    }

    /// Invariant 4: from here, boots that all die before a verdict still come to
    /// select something intact, as long as there is something.
    pub fn check_liveness(&self) -> Result<(), String> {
        let mut device = self.clone();
        let usable = {
            let record = device.record();
            let tries_left = record
                .trial
                .as_ref()
                .is_some_and(|trial| trial.tries_left > 0);
            record.deployments().any(|(slot, deployment)| {
                let n = number(&deployment.digest);
                (slot != Slot::Trial || tries_left)
                    && !record.quarantine.contains(&deployment.digest)
                    && !bit(device.damaged, n)
                    && !bit(device.unmountable, n)
            })
        };
        if !usable {
            return Ok(());
        }
        let within = self.limits.tries + self.limits.refunds + 2 * self.limits.good_boots + 2;
        for _ in 0..within {
            device.up = false;
            device.boot(Cut::None, true)?;
            if device.running.is_some() {
                return Ok(());
            }
        }
        Err(format!(
            "{within} boots selected nothing although something intact is there"
        ))
    }

    /// The state without what only counts up: two devices with the same key
    /// behave the same.
    pub fn key(&self) -> Vec<u8> {
        let mut device = self.clone();
        let mut loaded = load(&mut &mut device.medium);
        let base = loaded
            .verdict()
            .record()
            .map_or(0, |record| record.sequence);
        let current = boot(self.boots);
        let mut out = Vec::new();
        for reading in [&mut loaded.zero, &mut loaded.one] {
            if let op_dbus_bootstate::store::Reading::Valid(record) = reading {
                record.sequence = base.saturating_sub(record.sequence);
                record.attempts.clear();
                record.attempts_dropped = 0;
                if let Some(last) = &mut record.last_boot {
                    last.boot_id = if last.boot_id == current {
                        boot(1)
                    } else {
                        boot(0)
                    };
                }
                out.extend(
                    op_dbus_bootstate::codec::encode(record)
                        .unwrap()
                        .iter()
                        .take(700),
                );
            } else {
                out.push(0);
            }
        }
        out.extend([self.damaged, self.unmountable, u8::from(self.up)]);
        out.extend(
            format!(
                "{:?}{:?}{:?}",
                self.trial_runs,
                self.good_promised.map(|d| number(&d)),
                self.trial_promised.map(|d| number(&d))
            )
            .bytes(),
        );
        out.extend(self.running.iter().flat_map(|running| {
            [
                number(&running.digest),
                u8::from(running.counted),
                u8::from(running.boot_id == current),
            ]
            .into_iter()
            .chain(running.slot.to_string().into_bytes())
        }));
        out
    }
}

fn input_for(device: &Device) -> BootInput<'static> {
    BootInput {
        boot_id: boot(device.boots),
        select: None,
        named: None,
        limits: device.limits,
        durable: true,
        failures: &[],
    }
}

/// A violation as a numbered story.
pub fn story(events: &[Event]) -> String {
    let lines: Vec<_> = events
        .iter()
        .enumerate()
        .map(|(n, event)| format!("{:3}. {event:?}", n + 1))
        .collect();
    lines.join("\n")
}
