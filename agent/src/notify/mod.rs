//! Tells the hooks in `hooks.d` what the audit log has to say since last time.
//!
//! | Module | Does |
//! |---|---|
//! | [`event`] | lines of the log to events; pure |
//! | `cursor` | remembers how far hooks have been told |
//! | `log` | reads the log |
//! | [`hooks`] | runs the hooks |
//! | `refresh` | has the D-Bus service look again |
//!
//! At least once: the cursor moves after the hooks have run, so a power cut
//! between the two has them told again. Hooks decide nothing; one that fails is
//! reported, and not called again for the same event.

mod arguments;
mod cursor;
pub mod event;
pub mod hooks;
mod log;
mod refresh;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use op_dbus_activator::activation::Activation;
use op_dbus_activator::files::{self, Durable};
use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::BootId;
use op_dbus_bootstate::audit::Line;
use serde::Serialize;

use crate::child::Runner;
pub use arguments::{Arguments, main};
use cursor::Cursor;
use event::{Event, Name};
use hooks::{Hooks, Outcome, Say};
use log::{BATCH, Log};

/// Lines before the new ones that are read along: they tell which version a
/// digest is, and what ran before.
const CONTEXT: u64 = BATCH / 4;

/// Lines of a log that took the place of another that are told: a new one has
/// few, and the history of an old one is no news.
const OTHER_LOG: u64 = 32;

/// Where things are, and how long they may take.
#[derive(Debug)]
pub struct Settings {
    /// The store and `/run`.
    pub layout: Layout,
    /// The folder of hooks.
    pub hooks: PathBuf,
    /// `op-dbus-stage`.
    pub stage: PathBuf,
    /// Who supervises hooks.
    pub runner: Runner,
    /// For one hook and one event.
    pub limit: Duration,
}

/// What a run did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Lines of the log that were new.
    pub lines: u64,
    /// The events in them.
    pub events: Vec<Event>,
    /// How hooks fared.
    pub hooks: Outcome,
}

impl Told {
    /// In a sentence.
    pub fn sentence(&self) -> String {
        format!(
            "{} new lines, {} events; hooks: {} runs went well, {} failed",
            self.lines,
            self.events.len(),
            self.hooks.well,
            self.hooks.failed
        )
    }
}

/// Tells hooks all that is new, and remembers it; `refresh` is called whenever there
/// was something. An error means that the log could not be read or the place in it
/// not be kept; never that a hook failed.
///
/// Nobody watches the log while this runs, and reading it takes a while, as does
/// `refresh`: it goes on until the log is the one that was there before the last look.
pub fn run(
    settings: &Settings,
    say: &mut dyn Say,
    mut refresh: impl FnMut(),
) -> Result<Told, Box<dyn Error>> {
    let layout = &settings.layout;
    let mut told = Told::default();
    let mut hooks = Hooks::new(
        &settings.hooks,
        settings.runner.clone(),
        settings.limit,
        say,
    );
    let activation = match Activation::read(layout) {
        Ok(activation) => activation,
        Err(why) => {
            hooks.say(&why.to_string());
            None
        }
    };
    let rescued = tell_rescue(layout, activation.as_ref(), &mut hooks, &mut told);
    loop {
        // A rescue may be one because there is no store.
        if !layout.audit_dir().is_dir() {
            break;
        }
        let before = (log::stamp(layout), told.lines);
        tell_log(
            settings,
            activation.as_ref(),
            rescued,
            &mut hooks,
            &mut told,
        )?;
        if told.lines > before.1 {
            refresh();
        }
        if log::stamp(layout) == before.0 {
            break;
        }
    }
    told.hooks = hooks.outcome;
    Ok(told)
}

/// Tells of this boot's rescue, once a boot: its log may never be written.
/// Returns the boot, if it was one.
fn tell_rescue(
    layout: &Layout,
    activation: Option<&Activation>,
    hooks: &mut Hooks<'_>,
    told: &mut Told,
) -> Option<BootId> {
    let event = event::rescue(activation?)?;
    let boot = event.boot;
    let mark = layout.run_dir().join("notified-rescue");
    if !mark.exists() {
        hooks.tell(&event);
        told.events.push(event);
        if let Err(why) = files::replace(&mark, b"", 0o600, Durable::No) {
            hooks.say(&format!(
                "{}: write: {why}; hooks will be told again",
                mark.display()
            ));
        }
    }
    boot
}

fn tell_log(
    settings: &Settings,
    activation: Option<&Activation>,
    rescued: Option<BootId>,
    hooks: &mut Hooks<'_>,
    told: &mut Told,
) -> Result<(), Box<dyn Error>> {
    let layout = &settings.layout;
    let log = Log {
        stage: settings.stage.clone(),
        layout,
    };
    let path = layout.notified();
    let read = |why| format!("{}: read: {why}", layout.audit_log().display());
    let found = Cursor::read(&path).unwrap_or_else(|why| {
        hooks.say(&format!(
            "{}: {why}; hooks are told of what comes from now on",
            path.display()
        ));
        None
    });
    let Some(mut cursor) = found else {
        // A device that has been running for years: its history is no news.
        let last = log.last().map_err(read)?;
        let cursor = last.as_ref().map_or_else(Cursor::start, Cursor::at);
        return Ok(keep(&cursor, &path)?);
    };
    loop {
        let batch = Batch::read(&log, &cursor).map_err(read)?;
        if let Some(why) = &batch.notice {
            hooks.say(why);
        }
        let Some(last) = batch.lines.last().filter(|last| last.n > batch.after) else {
            return Ok(());
        };
        told.lines += last.n - batch.after;
        for event in event::events(&batch.lines, batch.after, activation) {
            let is_told = event.event == Name::Rescue && rescued.is_some() && event.boot == rescued;
            if is_told {
                continue;
            }
            hooks.tell(&event);
            let line = batch.lines.iter().find(|line| Some(line.n) == event.n);
            told.events.push(event);
            if let Some(line) = line {
                cursor = Cursor::at(line);
                keep(&cursor, &path)?;
            }
        }
        cursor = Cursor::at(last);
        keep(&cursor, &path)?;
    }
}

/// A failure ends the run: to go on would be to tell everything again and again.
fn keep(cursor: &Cursor, path: &Path) -> Result<(), String> {
    cursor
        .write(path)
        .map_err(|why| format!("{}: write: {why}; hooks will be told again", path.display()))
}

/// Lines to deal with.
#[derive(Debug)]
struct Batch {
    /// Context, then what is new.
    lines: Vec<Line>,
    /// The last number that is not new.
    after: u64,
    /// What people should know.
    notice: Option<String>,
}

impl Batch {
    fn read(log: &Log<'_>, cursor: &Cursor) -> std::io::Result<Self> {
        let lines = log.after(cursor.n.saturating_sub(CONTEXT))?;
        if cursor.n == 0 || lines.iter().any(|line| cursor.is_at(line)) {
            return Ok(Self {
                lines,
                after: cursor.n,
                notice: None,
            });
        }
        // Set aside, restored, or rewritten: what is in it now may all be new.
        let end = log.last()?.map_or(0, |last| last.n);
        let after = end.saturating_sub(OTHER_LOG);
        Ok(Self {
            lines: log.after(after.saturating_sub(CONTEXT))?,
            after,
            notice: Some(format!(
                "the audit log is another one than before (line {} of that was the last one told); hooks are told of the lines after {after} of this one",
                cursor.n
            )),
        })
    }
}
