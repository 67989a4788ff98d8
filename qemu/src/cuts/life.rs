//! One boot of a device, from power-on to the cut.

use std::path::Path;
use std::time::{Duration, Instant};

use op_dbus_vm_guest::proto::{Event, Exit, Request, Write};
use serde_json::json;

use super::facts::{Deed, Facts};
use super::plan;
use super::seen::{self, Seen};
use super::state::{AtLeast, FIRST};
use crate::chance::Chance;
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::logwrites::Follower;
use crate::release;

/// The file that stands for what a user changes.
const NOTE: &str = "/usr/local/op-dbus/note";
/// A file of each release that holds its version.
const VERSION: &str = "/opt/op-dbus/share/op-dbus-demo/version";
/// Every version there is.
const VERSIONS: &[&str] = &[FIRST, "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0"];

/// What the kernel says when something is wrong that no power cut excuses.
const COMPLAINTS: &[&str] = &[
    "BTRFS error",
    "BTRFS critical",
    "BTRFS warning",
    "overlayfs: failed",
    "WARNING:",
    "BUG:",
    "Oops",
    "Call Trace",
    "Kernel panic",
];

/// Why a life ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The cut's place is reached.
    Cut,
    /// Something that must hold does not.
    Violation(String),
    /// The test itself can't go on.
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            // A guest that hangs, or ends by itself, is a finding.
            Error::Deadline { .. } | Error::Guest { .. } => Self::Violation(error.to_string()),
            other => Self::Error(other),
        }
    }
}

/// Where and during what the power went.
#[derive(Debug)]
pub(super) struct End {
    pub(super) position: usize,
    pub(super) during: String,
    pub(super) acknowledged: bool,
    pub(super) possible: Vec<Facts>,
}

/// A running device.
pub(super) struct Life {
    pub(super) guest: Guest,
    follower: Follower,
    /// The request at which the power goes.
    target: Option<usize>,
    patience: u32,
    pub(super) at_least: AtLeast,
}

impl Life {
    pub(super) fn new(guest: Guest, log: &Path, at_least: AtLeast, patience: u32) -> Result<Self> {
        Ok(Self {
            guest,
            follower: Follower::new(log)?,
            target: None,
            patience,
            at_least,
        })
    }

    /// Requests so far.
    pub(super) fn requests(&mut self) -> usize {
        self.follower.count()
    }

    /// From now on the power goes `more` requests later, at least one.
    pub(super) fn cut_after(&mut self, more: usize) {
        self.target = Some(self.follower.count() + more.max(1));
    }

    /// The request at which the power went. A place where everything is durable
    /// is moved to just before the flush that made it so, if `eager`.
    pub(super) fn place(&mut self, eager: bool) -> usize {
        let all = self.follower.count();
        let place = self.target.map_or(all, |target| target.min(all));
        if eager && self.follower.is_flush(place) {
            place - 1
        } else {
            place
        }
    }

    /// The next event, unless the power goes first.
    fn event(&mut self, what: &str, seconds: u64) -> Result<Event, Stop> {
        let within = Duration::from_secs(seconds) * self.patience;
        let end = Instant::now() + within;
        loop {
            let event = self.guest.poll(Duration::from_millis(2))?;
            if self.target.is_some_and(|at| self.follower.count() >= at) {
                return Err(Stop::Cut);
            }
            if let Some(event) = event {
                return Ok(event);
            }
            if Instant::now() > end {
                let seconds = within.as_secs();
                return Err(Stop::Violation(format!(
                    "{what}: nothing within {seconds} s"
                )));
            }
        }
    }

    /// Waits until the activator is done and the guest answers.
    pub(super) fn wait_ready(&mut self) -> Result<(), Stop> {
        match self.event("the boot", 90)? {
            Event::Ready { .. } => Ok(()),
            other => Err(Stop::Violation(format!("the boot said {other:?}"))),
        }
    }

    fn ask(&mut self, request: &Request, what: &str) -> Result<Option<Exit>, Stop> {
        self.guest.send(request)?;
        match self.event(what, 90)? {
            Event::Exit(exit) => Ok(Some(exit)),
            Event::Error { .. } => Ok(None),
            other => Err(Stop::Violation(format!("{what} said {other:?}"))),
        }
    }

    fn run(&mut self, argv: &[&str]) -> Result<String, Stop> {
        let what = argv.join(" ");
        let words = argv.iter().map(ToString::to_string).collect();
        match self.ask(&Request::Run(words), &what)? {
            Some(exit) if exit.code == 0 => Ok(exit.stdout),
            Some(exit) => Err(Stop::Violation(format!(
                "`{what}` ended with {}: {}{}",
                exit.code, exit.stdout, exit.stderr
            ))),
            None => Err(Stop::Violation(format!("`{what}` could not be run"))),
        }
    }

    fn read(&mut self, path: &str) -> Result<Option<String>, Stop> {
        let answer = self.ask(&Request::Read(path.to_owned()), path)?;
        Ok(answer.map(|exit| exit.stdout))
    }

    /// Checks the booted device against what may be; what of it still may be.
    pub(super) fn check(&mut self, possible: &[Facts], depth: Depth) -> Result<Vec<Facts>, Stop> {
        let note = self.read(NOTE)?;
        let status = self.run(&["op-dbus-stage", "status", "--json"])?;
        let seen = seen::read(&status, note.as_deref()).map_err(Stop::Violation)?;
        let possible = seen::settle(possible, &seen).map_err(Stop::Violation)?;
        self.keeps(&seen)?;
        if let Some(version) = seen.facts.running() {
            let found = self.read(VERSION)?;
            if found.as_deref() != Some(version) {
                let what = format!("{version} runs, and {VERSION} says {found:?}");
                return Err(Stop::Violation(what));
            }
        }
        // A version without its name is rightly said to be missing.
        if depth != Depth::Shallow && seen.facts.nameless.is_empty() {
            self.run(&["op-dbus-stage", "audit", "verify"])?;
            let deep: &[&str] = if depth == Depth::Deep {
                &["--deep"]
            } else {
                &[]
            };
            self.run(&[&["op-dbus-stage", "verify"], deep].concat())?;
        }
        self.complaints()?;
        Ok(possible)
    }

    fn keeps(&mut self, seen: &Seen) -> Result<(), Stop> {
        let AtLeast { lines, sequence } = self.at_least;
        if seen.lines < lines || seen.sequence < sequence {
            return Err(Stop::Violation(format!(
                "{lines} lines of the audit log and sequence {sequence} of the record were acknowledged, and {} and {} are there",
                seen.lines, seen.sequence
            )));
        }
        self.at_least = AtLeast {
            lines: seen.lines,
            sequence: seen.sequence,
        };
        Ok(())
    }

    fn complaints(&self) -> Result<(), Stop> {
        let complains = |line: &&String| COMPLAINTS.iter().any(|word| line.contains(word));
        match self.guest.console().iter().find(complains) {
            Some(line) => Err(Stop::Violation(format!("the kernel says: {line}"))),
            None => Ok(()),
        }
    }

    /// Does `deed` to its end.
    pub(super) fn act(&mut self, deed: &Deed, facts: &Facts) -> Result<(), Stop> {
        let path;
        let argv: &[&str] = match deed {
            Deed::Note(text) => {
                let write = Write {
                    path: NOTE.to_owned(),
                    text: text.clone(),
                };
                return match self.ask(&Request::Keep(write), NOTE)? {
                    Some(_) => Ok(()),
                    None => Err(Stop::Violation(format!("{NOTE} can't be written"))),
                };
            }
            Deed::Receive(version) => {
                path = release::path_in_guest(&format!("{version}.json"));
                &["receive", &path]
            }
            Deed::Stage(version) if facts.quarantine.contains(version) => {
                &["stage", "--allow-quarantined", version]
            }
            Deed::Stage(version) => &["stage", version],
            Deed::Bless => &["bless"],
            Deed::Condemn => &["condemn"],
            Deed::Cancel => &["cancel"],
            Deed::Rollback => &["rollback"],
            Deed::OrderlyShutdown => &["orderly-shutdown"],
        };
        self.run(&[&["op-dbus-stage"], argv].concat())?;
        self.at_least.lines += 1;
        if !matches!(deed, Deed::Receive(_)) {
            self.at_least.sequence += 1;
        }
        Ok(())
    }

    /// Stops the machine between two instructions, when the log of its requests
    /// is complete, and kills it.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.guest.execute("stop", &json!({}))?;
        self.guest.cut()
    }
}

/// The next thing to do.
pub(super) fn next(facts: &Facts, chance: &mut Chance) -> Option<Deed> {
    plan::next(facts, VERSIONS, chance)
}

/// How much a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What the device says of itself.
    Shallow,
    /// Signatures, manifests, identities, and the audit log.
    Verify,
    /// Every byte.
    Deep,
}
