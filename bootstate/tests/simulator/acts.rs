//! What the programs do to the record, over the medium of sectors: each operation
//! of the store by itself, and whole programs as the device runs them.

use op_dbus_activator::choose::Unfit;
use op_dbus_bootstate::store::{Loaded, Reading, Verdict, Writer, load};
use op_dbus_bootstate::transition::{Overrides, Running};
use op_dbus_bootstate::{Deployment, Record, Slot};

use crate::common::programs::{self, Answer, Command, Copies, Host, Logged, Plan};
use crate::common::{LIMITS, boot, deployment};
use crate::disk::Disk;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Load,
    Commit,
    Repair,
    KeepBlessed,
    Boot,
    Stage,
    Bless,
    Condemn,
    Rollback,
    OrderlyShutdown,
}

impl Act {
    pub const ALL: [Self; 10] = [
        Self::Load,
        Self::Commit,
        Self::Repair,
        Self::KeepBlessed,
        Self::Boot,
        Self::Stage,
        Self::Bless,
        Self::Condemn,
        Self::Rollback,
        Self::OrderlyShutdown,
    ];
}

/// What may be found on the medium after an act: what was promised last, or what
/// somebody tried to write since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promise {
    /// Without their sequence, which a repair or a rebuild may raise.
    pub allowed: Vec<Record>,
    /// Whether there may be no record at all.
    pub none: bool,
}

impl Promise {
    /// Of a medium at rest. Where the copies differ, the newer one was never
    /// acknowledged: either may come to count.
    pub fn of(disk: &Disk) -> Self {
        let loaded = load(&mut &mut disk.recovered());
        let verdict = loaded.verdict();
        let mut promise = Self {
            none: verdict.record().is_none(),
            ..Self::default()
        };
        if let Some(record) = verdict.record() {
            promise.allow(record);
        }
        for reading in [&loaded.zero, &loaded.one] {
            if let Reading::Valid(record) = reading {
                promise.allow(record);
            }
        }
        promise
    }

    fn allow(&mut self, record: &Record) {
        let record = Record {
            sequence: 0,
            ..record.clone()
        };
        if !self.allowed.contains(&record) {
            self.allowed.push(record);
        }
    }

    pub fn holds(&self, found: Option<&Record>) -> bool {
        match found {
            Some(found) => self.allowed.iter().any(|record| {
                let sequence = found.sequence;
                *found
                    == Record {
                        sequence,
                        ..record.clone()
                    }
            }),
            None => self.none,
        }
    }
}

/// A writer whose promises are noted.
struct Watched<'a> {
    writer: Writer<&'a mut Disk>,
    promise: Promise,
}

impl Copies for Watched<'_> {
    fn load(&mut self) -> Loaded {
        self.writer.load()
    }

    fn commit(&mut self, base: Option<&Record>, next: Record) -> Result<Record, String> {
        let tried = next.clone();
        match self.writer.commit(base, next) {
            Ok(written) => {
                self.promise = Promise::default();
                self.promise.allow(&written);
                Ok(written)
            }
            Err(why) => {
                self.promise.allow(&tried);
                Err(why.to_string())
            }
        }
    }

    fn repair(&mut self) -> Result<bool, String> {
        let found = self.writer.load().verdict();
        let result = Copies::repair(&mut self.writer);
        if let Some(record) = found.record() {
            self.promise.allow(record);
        }
        result
    }

    fn keep_blessed(&mut self, record: &Record) -> Result<(), String> {
        Copies::keep_blessed(&mut self.writer, record)
    }
}

/// A host on which everything works, and an audit log that knows version 1.
struct Calm;

impl Host for Calm {
    fn check(&mut self, _: &Deployment) -> Result<(), Unfit> {
        Ok(())
    }

    fn activate(&mut self, _: Slot, _: &Deployment) -> Result<(), Unfit> {
        Ok(())
    }

    fn rebuild(&mut self) -> Option<Record> {
        Some(Record {
            good: Some(deployment(1)),
            ..Record::default()
        })
    }

    fn log(&mut self, _: bool) -> Logged {
        Logged::Written
    }
}

/// The boot that judges, and the boot that is asked for.
const JUDGED: u8 = 3;
const NEXT: u8 = 4;

/// The trial of the starting record runs.
pub fn running() -> Running {
    let deployment = deployment(2);
    Running {
        boot_id: boot(JUDGED),
        slot: Slot::Trial,
        version: deployment.version,
        digest: deployment.digest,
        counted: true,
    }
}

/// What an act came to.
#[derive(Debug)]
pub struct Outcome {
    pub promise: Promise,
    /// What a boot activated.
    pub running: Option<Running>,
}

/// Does it, beginning with what a reader of the medium may find.
pub fn act(act: Act, disk: &mut Disk, promise: Promise) -> Outcome {
    let mut copies = Watched {
        writer: Writer::new(disk),
        promise,
    };
    let mut running = None;
    match act {
        Act::Load => {
            copies.load();
        }
        Act::Repair => {
            copies.repair().ok();
        }
        Act::Commit => {
            let base = copies.load().verdict().record().cloned();
            let next = Record {
                epoch_floor: 9,
                ..base.clone().unwrap_or_default()
            };
            copies.commit(base.as_ref(), next).ok();
        }
        Act::KeepBlessed => {
            // Only ever called after a commit, so with both copies there.
            if let Verdict::Intact(record) = copies.load().verdict() {
                copies.keep_blessed(&record).ok();
            }
        }
        Act::Boot => running = boot_next(&mut copies),
        Act::Stage => {
            let command = Command::Stage(deployment(4), Overrides::default());
            do_command(&mut copies, &command, None);
        }
        Act::Rollback => {
            do_command(
                &mut copies,
                &Command::Rollback(None, Overrides::default()),
                None,
            );
        }
        Act::Bless => {
            do_command(&mut copies, &Command::Bless, Some(&self::running()));
        }
        Act::Condemn => {
            do_command(&mut copies, &Command::Condemn, Some(&self::running()));
        }
        Act::OrderlyShutdown => {
            do_command(
                &mut copies,
                &Command::OrderlyShutdown,
                Some(&self::running()),
            );
        }
    }
    Outcome {
        promise: copies.promise,
        running,
    }
}

fn boot_next(copies: &mut Watched<'_>) -> Option<Running> {
    let plan = Plan {
        boot_id: boot(NEXT),
        select: None,
        named: None,
        limits: LIMITS,
        read_only: false,
    };
    programs::boot(copies, &mut Calm, &plan)
}

fn do_command(copies: &mut Watched<'_>, command: &Command, running: Option<&Running>) -> Answer {
    programs::command(copies, &mut Calm, command, running, LIMITS)
}
