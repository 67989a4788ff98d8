//! One run that may change the boot record.
//!
//! Opening a session locks the store and reads the record; a transition is then
//! applied by [`Session::apply`], always in the same order: append to the audit
//! log and sync, then commit the record, whose audit head points to those lines.
//! A crash between the two leaves lines nobody acknowledged, and the old record
//! (see [`op_dbus_bootstate::audit`]).
//!
//! The log is a witness, not a gatekeeper: if it can't be written (full or
//! broken medium) the transition goes on, and the record counts what is missing.

use std::io;
use std::time::Duration;

use op_dbus_activator::history;
use op_dbus_activator::lock::{Lock, LockError};
use op_dbus_activator::records::{RecordError, Records};
use op_dbus_bootstate::audit::{AuditHead, Event, Kind};
use op_dbus_bootstate::codec::{self, CodecError};
use op_dbus_bootstate::record::Escalation;
use op_dbus_bootstate::store::{CommitError, Loaded, Reading, Verdict, Writer};
use op_dbus_bootstate::transition::{self, Change, Refusal};
use op_dbus_bootstate::{Deployment, Record};

use crate::auditlog::{AuditLog, Writing};
use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::holder;
use crate::settings::audit::Audit;

/// How long a command waits for another one to end: longer than the
/// activator's roles take, and short enough to be told at once otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// An open, locked store with its record.
#[derive(Debug)]
pub(crate) struct Session<'c> {
    context: &'c Context,
    writer: Writer<Records>,
    log: AuditLog,
    /// What the medium holds; none if every copy is lost.
    base: Option<Record>,
    /// What transitions start from.
    record: Record,
    /// What was found wrong with the record, for the log.
    repairs: Vec<Event>,
    blessed: Option<Record>,
    /// Whether the record is what was last acknowledged: both copies could be
    /// read, and one of them is it.
    is_certain: bool,
    /// Whether both copies hold it.
    is_whole: bool,
    _lock: Lock,
}

impl<'c> Session<'c> {
    /// Locks the store and reads the record. Nothing is written.
    pub(crate) fn open(context: &'c Context) -> Result<Self> {
        Self::open_patiently(context, PATIENCE)
    }

    /// Likewise, waiting so long for another run to end.
    pub(crate) fn open_patiently(context: &'c Context, patience: Duration) -> Result<Self> {
        Context::require_root()?;
        context.require_store()?;
        let lock = Lock::acquire(&context.layout, patience).map_err(lock_failure)?;
        let mut writer = Writer::new(Records::new(&context.layout));
        let loaded = writer.load();
        let verdict = loaded.verdict();
        if let Verdict::NewerFormat(format, _) = verdict {
            return Err(newer_format(context, format));
        }
        check_reader(context)?;
        let log = AuditLog::new(&context.layout);
        let (record, repairs) = match verdict.record() {
            Some(record) => {
                let mut record = record.clone();
                if let Some(head) = end_after(&log, &verdict, &record) {
                    record.audit = head;
                }
                (record, repairs(&loaded, &verdict))
            }
            None => rebuild(context, &loaded)?,
        };
        let is_unreadable = [&loaded.zero, &loaded.one]
            .into_iter()
            .any(|reading| matches!(reading, Reading::Unreadable(_)));
        let is_known = matches!(
            verdict,
            Verdict::Intact(_) | Verdict::Stale(..) | Verdict::OneCopy(..)
        );
        let blessed = match &loaded.blessed {
            Reading::Valid(record) => Some((**record).clone()),
            _ => None,
        };
        Ok(Self {
            context,
            writer,
            log,
            base: verdict.record().cloned(),
            record,
            repairs,
            blessed,
            is_certain: is_known && !is_unreadable,
            is_whole: matches!(verdict, Verdict::Intact(_)),
            _lock: lock,
        })
    }

    /// The record as it stands.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// The record, unless it had to be made up from what was left: what it does
    /// not name may be needed all the same then.
    pub(crate) fn certain_record(&self) -> Option<&Record> {
        self.is_certain.then_some(&self.record)
    }

    /// The record of the last bless, if it can be read.
    pub(crate) fn blessed_record(&self) -> Option<&Record> {
        self.blessed.as_ref()
    }

    /// Writes both copies if they differ, or one was lost.
    pub(crate) fn repair(&mut self) -> Result<()> {
        if self.is_whole {
            return Ok(());
        }
        self.amend(self.record.clone(), Vec::new())
    }

    /// Applies a transition: log first, record second. A refusal changes nothing.
    pub(crate) fn apply<T>(
        &mut self,
        what: &str,
        decide: impl FnOnce(&Record) -> std::result::Result<Change<T>, Refusal>,
    ) -> Result<T> {
        let mut events = self.repairs.clone();
        let start = match transition::hand_over_attempts(&self.record) {
            Some((record, attempts)) => {
                events.extend(attempts);
                record
            }
            None => self.record.clone(),
        };
        let change = decide(&start).map_err(|refusal| Failure::refused(what, &refusal))?;
        events.extend(change.events);
        // What is acknowledged without a change must be in both copies, too: one of
        // them may be older, from a write that was reported as failed.
        let is_due = change.record.is_some() || !self.repairs.is_empty() || !self.is_whole;
        let mut next = change.record.unwrap_or(start);
        if !events.is_empty() && !self.write_log(&mut next, &events) && !is_due {
            self.count_gap(next);
            return Ok(change.outcome);
        }
        if is_due || !events.is_empty() {
            self.commit(next)?;
        }
        Ok(change.outcome)
    }

    /// Writes events that go with no change of the record.
    pub(crate) fn note(&mut self, events: Vec<Event>) -> Result<()> {
        self.apply("audit log", |_| {
            Ok(Change {
                record: None,
                events,
                outcome: (),
            })
        })
    }

    /// What was refused in this boot, as far as the open segment of the log tells.
    pub(crate) fn refusals(&self) -> Vec<String> {
        // A log that can't be read takes no line either.
        let boot = self.context.author().boot;
        self.log.refusals(boot).unwrap_or_default()
    }

    /// Replaces the record, for a repair that is no transition.
    pub(crate) fn amend(&mut self, next: Record, events: Vec<Event>) -> Result<()> {
        self.apply("boot record", |start| {
            let record = Record {
                attempts: start.attempts.clone(),
                attempts_dropped: start.attempts_dropped,
                ..next
            };
            Ok(Change {
                record: Some(record),
                events,
                outcome: (),
            })
        })
    }

    /// Keeps the record as the one of the last bless, unless it is kept already.
    /// The bless itself is durable by then, so a failure is only a warning.
    pub(crate) fn keep_blessed(&mut self) {
        let record = &self.record;
        let is_kept = self.blessed.as_ref().is_some_and(|kept| {
            kept.good == record.good
                && kept.fallback == record.fallback
                && kept.quarantine == record.quarantine
                && kept.epoch_floor == record.epoch_floor
        });
        if is_kept {
            return;
        }
        match self.writer.keep_blessed(record) {
            Ok(()) => self.blessed = Some(record.clone()),
            Err(why) => self.context.warn(format!(
                "the copy of the boot record for emergencies was not renewed: {why}"
            )),
        }
    }

    /// Appends to the log and lets the record point to it. Without a log, what
    /// could not be logged is counted, and boot attempts stay in the record.
    fn write_log(&self, next: &mut Record, events: &[Event]) -> bool {
        let author = self.context.author();
        let limits = Audit::load(self.context).unwrap_or_else(|why| {
            self.context.warn(why.to_string());
            Audit::default()
        });
        let writing = Writing {
            author: &author,
            limits: limits.limits(),
            proved: proved(&self.record),
        };
        match self.log.append(self.record.audit, events, &writing) {
            Ok(head) => {
                next.audit = head;
                true
            }
            Err(why) => {
                next.attempts.clone_from(&self.record.attempts);
                next.attempts_dropped = self.record.attempts_dropped;
                next.audit.missed = next.audit.missed.saturating_add(1);
                let path = self.log.path();
                self.context.warn(format!(
                    "{}: the audit log could not be written: {why}",
                    path.display()
                ));
                false
            }
        }
    }

    /// Keeps count of what could not be logged, where nothing else changes: that
    /// there is a gap has to show, and is no reason to fail.
    fn count_gap(&mut self, next: Record) {
        if let Err(why) = self.commit(next) {
            self.context.warn(format!("nor counted: {why}"));
        }
    }

    fn commit(&mut self, next: Record) -> Result<()> {
        match self.writer.commit(self.base.as_ref(), next) {
            Ok(written) => {
                self.record = written.clone();
                self.base = Some(written);
                self.repairs.clear();
                self.is_whole = true;
                Ok(())
            }
            Err(why) => Err(commit_failure(self.context, why)),
        }
    }
}

/// The lock's error in our words, naming who holds it.
pub(crate) fn lock_failure(why: LockError) -> Failure {
    match why {
        LockError::Held { path } => {
            let who = holder::of(&path).unwrap_or_else(|| "another run".to_owned());
            Failure::new(
                Exit::Locked,
                path.display(),
                format_args!("held by {who}"),
                "wait for it to end and run the command again",
            )
        }
        LockError::Io { path, source } => match source.kind() {
            io::ErrorKind::NotFound => Failure::new(
                Exit::Store,
                path.display(),
                source,
                "is the store mounted there?",
            ),
            _ => Failure::io(format_args!("{}: open", path.display()), source),
        },
    }
}

fn newer_format(context: &Context, format: u32) -> Failure {
    Failure::new(
        Exit::Record,
        context.layout.boot_dir().display(),
        format_args!(
            "the boot record has format {format}, newer than this program's {}",
            codec::FORMAT
        ),
        "use the op-dbus-stage of the newer release",
    )
}

/// A record the initramfs' activator can't read would strand the device.
fn check_reader(context: &Context) -> Result<()> {
    let Ok(Some(activation)) = context.activation() else {
        return Ok(());
    };
    if activation.record_formats.contains(&codec::FORMAT) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Record,
        context.layout.activation().display(),
        format_args!(
            "the activator of this boot does not read boot records of format {}",
            codec::FORMAT
        ),
        "bring the initramfs up to date (dracut --force) and reboot",
    ))
}

/// Where the log ends, if the record is that of the last bless and the log's lines
/// of that time were removed since.
fn end_after(log: &AuditLog, verdict: &Verdict, record: &Record) -> Option<AuditHead> {
    matches!(verdict, Verdict::Rebuilt(_))
        .then(|| log.end_after(record.audit))
        .and_then(std::result::Result::ok)
        .flatten()
}

/// What a lost record is rebuilt to, the oldest first: not what was condemned.
fn proved(record: &Record) -> Vec<&Deployment> {
    let good = record.good.as_ref();
    let good = good.filter(|_| record.escalation == Escalation::None);
    record.fallback.iter().chain(good).collect()
}

fn repairs(loaded: &Loaded, verdict: &Verdict) -> Vec<Event> {
    let describe = |reading: &Reading| match reading {
        Reading::Absent => "missing".to_owned(),
        Reading::Bad(why) => why.to_string(),
        Reading::Unreadable(why) => why.clone(),
        Reading::Valid(_) => "intact".to_owned(),
    };
    let text = match verdict {
        Verdict::OneCopy(_, copy) => {
            let reading = if *copy == op_dbus_bootstate::store::Copy::Zero {
                &loaded.zero
            } else {
                &loaded.one
            };
            format!("{} was lost: {}", copy.file_name(), describe(reading))
        }
        Verdict::Rebuilt(_) => format!(
            "both copies of the boot record were lost ({}; {}); taken from the last bless",
            describe(&loaded.zero),
            describe(&loaded.one)
        ),
        // A crash between the two writes is regular: nothing was lost.
        _ => return Vec::new(),
    };
    vec![Event::general(Kind::Repaired, text)]
}

/// A record from what is left: the versions the audit log says were blessed.
fn rebuild(context: &Context, loaded: &Loaded) -> Result<(Record, Vec<Event>)> {
    for reading in [&loaded.zero, &loaded.one, &loaded.blessed] {
        if let Reading::Unreadable(why) = reading {
            return Err(Failure::new(
                Exit::Record,
                context.layout.boot_dir().display(),
                format_args!("the boot record can't be read: {why}"),
                "check the medium (journalctl -k, btrfs device stats)",
            ));
        }
    }
    let (record, text) = match history::rebuild(&context.layout) {
        Some(record) => {
            let good = record
                .good
                .as_ref()
                .map_or_else(String::new, |good| good.version.to_string());
            (
                record,
                format!(
                    "every copy of the boot record was lost; rebuilt from the audit log with {good} as good"
                ),
            )
        }
        None => (
            Record::default(),
            "every copy of the boot record was lost, and no intact version was ever blessed"
                .to_owned(),
        ),
    };
    context.warn(text.clone());
    Ok((record, vec![Event::general(Kind::Repaired, text)]))
}

fn commit_failure(context: &Context, why: CommitError<RecordError>) -> Failure {
    let what = context.layout.boot_dir();
    match why {
        CommitError::Medium { error, .. } => Failure::io(
            format_args!("{}: {}", error.path.display(), error.operation),
            error.source,
        ),
        CommitError::NewerFormat(format) => newer_format(context, format),
        CommitError::Codec(CodecError::TooLarge) => Failure::new(
            Exit::Failure,
            what.display(),
            CodecError::TooLarge,
            "use shorter version names",
        ),
        why => {
            let text = why.to_string();
            let (why, remedy) = text
                .split_once("; ")
                .unwrap_or((&text, "run the command again"));
            Failure::new(Exit::Failure, what.display(), why, remedy)
        }
    }
}
