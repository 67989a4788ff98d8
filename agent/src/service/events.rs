//! What happened since signals were sent last, out of the audit log.
//!
//! The service runs only while somebody uses it, so it cannot have seen what it
//! tells of. How far it has told stands in a file that lasts one boot; in a boot
//! in which nothing was told yet, all of this boot is news.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use op_dbus_activator::activation::Activation;
use op_dbus_activator::files::{self, Durable};
use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::audit::Line;

use super::error::{Error, Result};
use super::stage::{Job, Stage, Stop};
use crate::notify::event::{self, Name};

/// Lines before the first new one: they tell which version a digest is.
const CONTEXT: u64 = 256;
/// Lines that are read at once. More that is new is told the next time.
const BATCH: u64 = 2 * CONTEXT;

/// What is sent as a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A version was put on trial.
    Staged {
        /// Which.
        version: String,
    },
    /// A version proved itself.
    Blessed {
        /// Which.
        version: String,
    },
    /// A version was given up.
    FellBack {
        /// What runs in its place; empty: nothing does.
        to: String,
        /// Why.
        reason: String,
    },
}

/// What is new, once: it counts as told when this returns.
pub fn since(stage: &Stage, layout: &Layout, told: &Told, limit: Duration) -> Result<Vec<Event>> {
    let activation = Activation::read(layout).map_err(|why| Error::failed(why.to_string()))?;
    let before = told.read();
    let lines = lines(stage, before, limit)?;
    let Some(last) = lines.last() else {
        return Ok(Vec::new());
    };
    let news = news(&lines, before, activation.as_ref());
    let keep = told.write(last.n);
    keep.map_err(|why| Error::failed(format!("{}: write: {why}", told.0.display())))?;
    Ok(news)
}

/// Up to which line signals were sent: a file.
#[derive(Debug, Clone)]
pub struct Told(pub PathBuf);

impl Told {
    fn read(&self) -> Option<u64> {
        let text = files::read_text(&self.0, 32).ok()?;
        text.trim().parse().ok()
    }

    fn write(&self, n: u64) -> io::Result<()> {
        files::replace(&self.0, n.to_string().as_bytes(), 0o600, Durable::No)
    }
}

fn lines(stage: &Stage, before: Option<u64>, limit: Duration) -> Result<Vec<Line>> {
    let mut args: Vec<OsString> = vec!["audit".into(), "log".into()];
    match before {
        Some(n) => {
            let after = n.saturating_sub(CONTEXT);
            args.push(format!("--after={after}").into());
            args.push(format!("--first={BATCH}").into());
        }
        None => args.push(format!("--last={BATCH}").into()),
    }
    let job = Job {
        args,
        limit: Some(limit),
        ..Job::default()
    };
    let mut printed = stage.run(job, &Stop::default(), &mut |_| ())?;
    let lines = printed.get_mut("lines").map(serde_json::Value::take);
    serde_json::from_value(lines.unwrap_or_default())
        .map_err(|why| Error::failed(format!("audit log: {why}")))
}

/// What of the lines is news: those after number `before`; without it, or where
/// it is of another log, those of this boot.
fn news(lines: &[Line], before: Option<u64>, activation: Option<&Activation>) -> Vec<Event> {
    let before = before.filter(|n| *n == 0 || lines.iter().any(|line| line.n == *n));
    let boot = activation.and_then(|now| now.boot_id);
    let of_this_boot = |event: &event::Event| event.boot.is_some() && event.boot == boot;
    event::events(lines, before.unwrap_or_default(), activation)
        .into_iter()
        .filter(|event| before.is_some() || of_this_boot(event))
        .map(|event| {
            let version = event
                .version
                .map_or_else(String::new, |version| version.to_string());
            match event.event {
                Name::Staged => Event::Staged { version },
                Name::Blessed => Event::Blessed { version },
                Name::FellBack | Name::Rescue => Event::FellBack {
                    to: version,
                    reason: event.reason,
                },
            }
        })
        .collect()
}
