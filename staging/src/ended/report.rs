//! The report of one boot, in two steps.
//!
//! [`begin`] writes the mark: this boot runs, and these are not told of yet.
//! [`tell`] weighs their traces, logs how they ended together with the boot
//! attempts that wait in the record, and then writes the mark without them.
//! Between the two there is time to wait for a watchdog's driver.
//!
//! Power may go anywhere. Before the first mark nothing has changed. After it,
//! this boot is one that ran, and the next tells of all of them. After the log
//! and before the second mark the next boot finds in the log what was told, and
//! does not tell it again. A log that takes no lines (a full disk) leaves the
//! mark as it is, so that a later boot tells.

use std::collections::BTreeSet;

use op_dbus_activator::activation::Activation;
use op_dbus_activator::lock::Lock;
use op_dbus_activator::records::Records;
use op_dbus_bootstate::BootId;
use op_dbus_bootstate::Record;
use op_dbus_bootstate::audit::{Event, Kind};
use op_dbus_bootstate::store::Writer;
use op_dbus_bootstate::transition;

use super::console;
use super::mark::{self, Boot, Marks, State};
use super::pstore;
use super::watchdog;
use super::weigh::{Ended, Traces, weigh};
use crate::boots::tail;
use crate::context::Context;
use crate::error::Result;
use crate::session::{PATIENCE, Session};

/// Bytes of the log's end that are searched for what was told already: a few
/// hundred lines, where a handful was written since.
const TOLD_WITHIN: u64 = 128 * 1024;

/// A report that was begun.
#[derive(Debug)]
pub(crate) struct Report {
    this: Boot,
    /// Boots to tell of, the oldest first.
    pub(crate) boots: Vec<Boot>,
    seen: Vec<String>,
    /// Whether the mark says all that.
    pub(crate) is_marked: bool,
}

/// Marks that this boot runs. What can't be written is a warning: what can be
/// told is told all the same.
pub(crate) fn begin(context: &Context) -> Result<Report> {
    let mut report = find(context)?;
    let _lock = lock(context);
    report.is_marked = put(context, &report.marks());
    Ok(report)
}

/// The lock, or not: the mark is replaced in one step, and waiting for ever for
/// somebody else would keep it from being made at all.
fn lock(context: &Context) -> Option<Lock> {
    match Lock::acquire(&context.layout, PATIENCE) {
        Ok(lock) => Some(lock),
        Err(why) => {
            context.warn(format!(
                "the mark of this boot is written without the lock: {why}"
            ));
            None
        }
    }
}

fn put(context: &Context, marks: &Marks) -> bool {
    match mark::write(&context.layout, marks) {
        Ok(()) => true,
        Err(why) => {
            let path = mark::path(&context.layout);
            context.warn(format!(
                "{}: write: {why}; the next boot will not know how this one ended",
                path.display()
            ));
            false
        }
    }
}

/// Finds out which boots are to be told of. Changes nothing.
pub(crate) fn find(context: &Context) -> Result<Report> {
    let boot_id = context.boot_id()?;
    let marks = match mark::read(&context.layout) {
        Ok(marks) => marks.unwrap_or_default(),
        Err(why) => {
            let path = mark::path(&context.layout);
            context.warn(format!("{}: {why}; it is made anew", path.display()));
            Marks::default()
        }
    };
    let verdict = Writer::new(Records::new(&context.layout)).load().verdict();
    let counted = verdict.record().map(counted).unwrap_or_default();
    let known = marks.boots.iter().find(|boot| boot.id == boot_id);
    let this = known.map_or_else(
        || this_boot(context, boot_id),
        // After a soft reboot it runs again.
        |known| Boot {
            state: State::Running,
            ..known.clone()
        },
    );
    Ok(Report {
        boots: merge(&marks.boots, &counted, boot_id),
        this,
        seen: marks.seen,
        is_marked: false,
    })
}

/// What this boot says of itself.
fn this_boot(context: &Context, boot: BootId) -> Boot {
    let activation = match context.activation() {
        Ok(activation) => activation.filter(|activation| activation.boot_id == Some(boot)),
        Err(why) => {
            context.warn(why.to_string());
            None
        }
    };
    let running = activation.as_ref().and_then(Activation::running);
    Boot {
        id: boot,
        state: State::Running,
        version: running.as_ref().map(|running| running.version.clone()),
        slot: running.map(|running| running.slot),
        watchdog: watchdog::has_reset(&context.layout),
    }
}

/// Boots whose attempts wait in the record, in order.
fn counted(record: &Record) -> Vec<Boot> {
    let events = transition::hand_over_attempts(record).map(|(_, events)| events);
    let events = events.unwrap_or_default();
    let attempts = events.iter().filter(|event| event.kind == Kind::Attempt);
    let mut boots: Vec<Boot> = Vec::new();
    for (event, attempt) in attempts.zip(&record.attempts) {
        let boot = Boot {
            id: attempt.boot_id,
            state: State::Counted,
            version: event.version.clone(),
            slot: attempt.slot,
            watchdog: false,
        };
        // The last candidate of a boot is the one that it ran.
        match boots.last_mut().filter(|last| last.id == boot.id) {
            Some(last) => *last = boot,
            None => boots.push(boot),
        }
    }
    boots
}

/// The boots before this one: those with a mark, and those that were counted
/// only, each where it belongs.
fn merge(marked: &[Boot], counted: &[Boot], this: BootId) -> Vec<Boot> {
    let is_counted = |boot: &Boot| counted.iter().any(|other| other.id == boot.id);
    // Whoever has a mark and no attempt left was handed over before the others.
    let mut boots: Vec<Boot> = marked
        .iter()
        .filter(|boot| !is_counted(boot))
        .cloned()
        .collect();
    for boot in counted {
        let own = marked.iter().find(|other| other.id == boot.id);
        boots.push(own.unwrap_or(boot).clone());
    }
    boots.retain(|boot| boot.id != this);
    boots
}

/// How the boots of a report ended, and what goes into the log about it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Those that the log does not hold yet.
    pub(crate) ended: Vec<Ended>,
    /// All panics in sight.
    seen: Vec<String>,
}

impl Told {
    /// For the log.
    pub(crate) fn events(&self) -> Vec<Event> {
        let events = self.ended.iter().map(|ended| Event {
            version: ended.boot.version.clone(),
            boot: Some(ended.boot.id),
            ending: Some(ended.ending),
            ..Event::general(Kind::Ended, ended.sentence.clone())
        });
        events.collect()
    }
}

impl Report {
    /// Whether only a watchdog could still tell how the last boot ended.
    pub(crate) fn is_open(&self, context: &Context) -> bool {
        let cut_short = |boot: &Boot| boot.state != State::Orderly;
        self.boots.last().is_some_and(cut_short) && self.traces(context).0.panics.is_empty()
    }

    fn traces(&self, context: &Context) -> (Traces, Vec<String>) {
        let host = |path: &str| context.layout.host(path);
        let panics = pstore::panics(host, began());
        let seen = panics.iter().map(|panic| panic.id.clone()).collect();
        let is_new = |panic: &pstore::Panicked| panic.is_recent && !self.seen.contains(&panic.id);
        let traces = Traces {
            panics: panics.into_iter().filter(is_new).collect(),
            watchdog: watchdog::has_reset(&context.layout),
            keeps_panics: pstore::keeps_panics(host),
        };
        (traces, seen)
    }

    /// Weighs what is to be seen, and keeps the words of those who panicked.
    pub(crate) fn weigh(&self, context: &Context) -> Told {
        let (traces, seen) = self.traces(context);
        let mut ended = weigh(&self.boots, &traces);
        let told = told_already(context);
        ended.retain(|ended| !told.contains(&ended.boot.id));
        for ended in &ended {
            let Some(words) = &ended.words else { continue };
            if let Err(why) = console::keep(&context.layout, ended.boot.id, words) {
                context.warn(format!(
                    "{}: the last words of boot {} were not kept: {why}",
                    console::dir(&context.layout).display(),
                    ended.boot.id
                ));
            }
        }
        Told { ended, seen }
    }

    /// Marks that all is told, and that this boot runs, or (`ends`) that it is
    /// being shut down in order.
    pub(crate) fn finish(self, context: &Context, told: Told, ends: bool) -> bool {
        let mut this = self.this;
        // Its driver may have come since the report was begun.
        this.watchdog |= watchdog::has_reset(&context.layout);
        // A shutdown may have been faster.
        let has_ended = || {
            let marks = mark::read(&context.layout).ok().flatten();
            marks.is_some_and(|marks| {
                let last = marks.last();
                last.is_some_and(|last| last.id == this.id && last.state == State::Orderly)
            })
        };
        if ends || (self.is_marked && has_ended()) {
            this.state = State::Orderly;
        }
        put(context, &Marks::new(vec![this], told.seen))
    }

    /// With all that is not told of yet.
    fn marks(&self) -> Marks {
        let boots = self.boots.iter().chain([&self.this]).cloned().collect();
        Marks::new(boots, self.seen.clone())
    }

    /// Marks only that this boot ends in order: nothing could be told.
    pub(crate) fn end(mut self, context: &Context) -> bool {
        self.this.state = State::Orderly;
        put(context, &self.marks())
    }
}

/// Boots of whose end the log tells, as far as it is searched.
fn told_already(context: &Context) -> BTreeSet<BootId> {
    let (lines, problem) = tail::read(&context.layout, TOLD_WITHIN);
    if let Some(problem) = problem {
        context.warn(problem);
    }
    let ended = lines.into_iter().filter(|line| line.event == Kind::Ended);
    ended.filter_map(|line| line.boot).collect()
}

/// When this boot began, in seconds by the clock as it goes now.
fn began() -> i64 {
    let now = |clock| rustix::time::clock_gettime(clock).tv_sec;
    now(rustix::time::ClockId::Realtime).saturating_sub(now(rustix::time::ClockId::Boottime))
}

/// Logs what was weighed, and hands the waiting attempts over. Whether the log
/// holds it now.
pub(crate) fn log(session: &mut Session<'_>, told: &Told) -> Result<bool> {
    let events = told.events();
    let before = session.record().audit.length;
    let is_due = !events.is_empty() || transition::hand_over_attempts(session.record()).is_some();
    session.note(events)?;
    Ok(!is_due || session.record().audit.length > before)
}

#[cfg(test)]
mod tests;
