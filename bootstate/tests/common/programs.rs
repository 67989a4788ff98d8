//! The programs of a device, reduced to what they do to the record, in the order
//! in which they do it: `op-dbus-activate` (activator/src/boot/load.rs, then the
//! shipped [`choose`]) and the commands of `op-dbus-stage` (staging/src/session.rs).
//! What they read and write comes through traits, so that one description serves
//! the model, the long stories and the simulator.

use op_dbus_activator::choose::{self, Question, Unfit, World};
use op_dbus_bootstate::cmdline::Select;
use op_dbus_bootstate::record::{Limits, Next};
use op_dbus_bootstate::store::{Loaded, Reading, Storage, Verdict, Writer};
use op_dbus_bootstate::transition::{
    self, Blessed, Change, Overrides, Refusal, RolledBack, Running, Staged,
};
use op_dbus_bootstate::{BootId, Deployment, Record, Slot, Version};

/// What a program does with the three files of the record.
pub trait Copies {
    fn load(&mut self) -> Loaded;
    fn commit(&mut self, base: Option<&Record>, next: Record) -> Result<Record, String>;
    fn repair(&mut self) -> Result<bool, String>;
    fn keep_blessed(&mut self, record: &Record) -> Result<(), String>;
}

impl<S: Storage> Copies for Writer<S> {
    fn load(&mut self) -> Loaded {
        Self::load(self)
    }

    fn commit(&mut self, base: Option<&Record>, next: Record) -> Result<Record, String> {
        Self::commit(self, base, next).map_err(|why| why.to_string())
    }

    fn repair(&mut self) -> Result<bool, String> {
        Self::repair(self).map_err(|why| why.to_string())
    }

    fn keep_blessed(&mut self, record: &Record) -> Result<(), String> {
        Self::keep_blessed(self, record).map_err(|why| why.to_string())
    }
}

/// The rest of the device, as far as the record's programs meet it.
pub trait Host {
    /// The identity check.
    fn check(&mut self, deployment: &Deployment) -> Result<(), Unfit>;
    /// Mounting it; `counted` is the record as it then stands.
    fn activate(&mut self, slot: Slot, deployment: &Deployment) -> Result<(), Unfit>;
    /// What the audit log gives when all three files are lost.
    fn rebuild(&mut self) -> Option<Record>;
    /// What comes of writing to the audit log. `decisive`: nothing else makes the
    /// command write the record.
    fn log(&mut self, decisive: bool) -> Logged;
}

/// What came of writing to the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    /// The lines are there.
    Written,
    /// They are not, and the record counts that.
    Failed,
    /// The events were none of the device's.
    Nothing,
}

/// What a boot knows before it reads the record.
#[derive(Debug, Clone)]
pub struct Plan {
    pub boot_id: BootId,
    pub select: Option<Select>,
    pub named: Option<Deployment>,
    pub limits: Limits,
    pub read_only: bool,
}

struct Trying<'a, C, H> {
    copies: &'a mut C,
    host: &'a mut H,
}

impl<C: Copies, H: Host> World for Trying<'_, C, H> {
    fn check(&mut self, _: Slot, deployment: &Deployment) -> Result<(), Unfit> {
        self.host.check(deployment)
    }

    fn commit(&mut self, base: &Record, next: Record) -> Result<Record, String> {
        self.copies.commit(Some(base), next)
    }

    fn activate(&mut self, _: &Record, slot: Slot, deployment: &Deployment) -> Result<(), Unfit> {
        self.host.activate(slot, deployment)
    }
}

/// The activator's boot role. What runs afterwards, if anything does.
pub fn boot<C: Copies, H: Host>(copies: &mut C, host: &mut H, boot: &Plan) -> Option<Running> {
    let mut not_durable = boot.read_only.then(|| "read-only".to_owned());
    let verdict = copies.load().verdict();
    let mut record = verdict.record().cloned();
    match verdict {
        Verdict::Intact(_) => {}
        Verdict::Stale(..) | Verdict::OneCopy(..) | Verdict::Rebuilt(_) => {
            if not_durable.is_none() {
                match copies.repair() {
                    Ok(_) => record = copies.load().verdict().record().cloned(),
                    Err(why) => not_durable = Some(why),
                }
            }
        }
        Verdict::NewerFormat(format, _) => {
            not_durable = Some(format!("format {format}"));
            record = record.or_else(|| host.rebuild());
        }
        Verdict::Lost => {
            record = host.rebuild();
            if let (Some(found), None) = (&record, &not_durable) {
                match copies.commit(None, found.clone()) {
                    Ok(written) => record = Some(written),
                    Err(why) => not_durable = Some(why),
                }
            }
        }
    }
    if record.is_none() && boot.select.is_some() {
        not_durable.get_or_insert_with(|| "no record".to_owned());
        record = Some(Record::default());
    }
    let question = Question {
        record: record?,
        boot_id: boot.boot_id,
        select: boot.select.as_ref(),
        named: boot.named.as_ref(),
        limits: boot.limits,
        not_durable,
    };
    let chosen = choose::choose(question, &mut Trying { copies, host });
    if chosen.host.is_some() {
        return None;
    }
    let (slot, deployment) = chosen.selection.candidate?;
    Some(Running {
        boot_id: boot.boot_id,
        slot,
        version: deployment.version,
        digest: deployment.digest,
        counted: chosen.selection.counted,
    })
}

/// A command of `op-dbus-stage`.
#[derive(Debug, Clone)]
pub enum Command {
    Stage(Deployment, Overrides),
    Rollback(Option<Deployment>, Overrides),
    Cancel,
    Bless,
    Condemn,
    OrderlyShutdown,
    /// One that only logs something (`receive`): boot attempts go to the log with it.
    Note,
}

/// What a command that succeeded acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Staged(Staged),
    RolledBack(RolledBack),
    Cancelled(Option<Version>),
    Blessed(Blessed),
    Condemned(Next),
    Refunded(bool),
    Noted,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done(Done),
    Refused(String),
    /// The medium refused: nothing is promised either way.
    Failed(String),
}

/// A command in the session that opens, applies and keeps. `running` is what
/// activation.json says of this boot.
pub fn command<C: Copies, H: Host>(
    copies: &mut C,
    host: &mut H,
    command: &Command,
    running: Option<&Running>,
    limits: Limits,
) -> Answer {
    let loaded = copies.load();
    let verdict = loaded.verdict();
    if let Verdict::NewerFormat(format, _) = verdict {
        return Answer::Failed(format!("format {format}"));
    }
    let base = verdict.record().cloned();
    let record = match &base {
        Some(record) => record.clone(),
        None if unreadable(&loaded) => return Answer::Failed("can't be read".to_owned()),
        None => host.rebuild().unwrap_or_default(),
    };
    let is_repair = matches!(
        verdict,
        Verdict::OneCopy(..) | Verdict::Rebuilt(_) | Verdict::Lost
    );
    let (start, mut has_events) = match transition::hand_over_attempts(&record) {
        Some((next, _)) => (next, true),
        None => (record.clone(), is_repair),
    };
    let change = match decide(&start, command, running, limits) {
        Ok(change) => change,
        Err(refusal) => return Answer::Refused(refusal.to_string()),
    };
    has_events |= !change.events.is_empty() || matches!(command, Command::Note);
    // What is acknowledged without a change must be in both copies, too.
    let is_stale = matches!(verdict, Verdict::Stale(..));
    let is_due = change.record.is_some() || is_repair || is_stale;
    let mut next = change.record.unwrap_or(start);
    let mut is_written = is_due || has_events;
    let mut is_gap = false;
    let logged = has_events.then(|| host.log(!is_due));
    if matches!(logged, Some(Logged::Failed | Logged::Nothing)) {
        next.attempts.clone_from(&record.attempts);
        next.attempts_dropped = record.attempts_dropped;
        // Where nothing else changes, only that there is a gap.
        is_gap = !is_due && logged == Some(Logged::Failed);
        is_written = is_due || is_gap;
    }
    let mut now = record;
    if is_written {
        match copies.commit(base.as_ref(), next) {
            Ok(written) => now = written,
            Err(_) if is_gap => {}
            Err(why) => return Answer::Failed(why),
        }
    }
    if matches!(command, Command::Bless) && !is_kept(&loaded.blessed, &now) {
        // A warning: the bless itself is durable by then.
        copies.keep_blessed(&now).ok();
    }
    Answer::Done(change.outcome)
}

fn unreadable(loaded: &Loaded) -> bool {
    [&loaded.zero, &loaded.one, &loaded.blessed]
        .into_iter()
        .any(|reading| matches!(reading, Reading::Unreadable(_)))
}

fn is_kept(blessed: &Reading, record: &Record) -> bool {
    matches!(blessed, Reading::Valid(kept)
        if kept.good == record.good
            && kept.fallback == record.fallback
            && kept.quarantine == record.quarantine
            && kept.epoch_floor == record.epoch_floor)
}

fn decide(
    record: &Record,
    command: &Command,
    running: Option<&Running>,
    limits: Limits,
) -> Result<Change<Done>, Refusal> {
    // What is quarantined stays in the store: the hardest case for making room.
    let present = |_: &_| true;
    let nothing = || Change {
        record: None,
        events: Vec::new(),
        outcome: Done::Noted,
    };
    Ok(match (command, running) {
        (Command::Stage(deployment, overrides), _) => with(
            transition::stage(record, deployment, limits, *overrides, present)?,
            Done::Staged,
        ),
        (Command::Rollback(target, overrides), _) => with(
            transition::rollback(record, target.as_ref(), limits, *overrides, present)?,
            Done::RolledBack,
        ),
        (Command::Cancel, _) => with(transition::cancel(record), Done::Cancelled),
        (Command::Bless, Some(running)) => with(transition::bless(record, running)?, Done::Blessed),
        (Command::Condemn, Some(running)) => with(
            transition::condemn(record, running, "test")?,
            Done::Condemned,
        ),
        (Command::OrderlyShutdown, Some(running)) => with(
            transition::orderly_shutdown(record, running),
            Done::Refunded,
        ),
        (Command::Note, _) | (_, None) => nothing(),
    })
}

fn with<T>(change: Change<T>, done: impl FnOnce(T) -> Done) -> Change<Done> {
    Change {
        record: change.record,
        events: change.events,
        outcome: done(change.outcome),
    }
}
