//! Runs the hooks, one after the other.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::event::Event;
use crate::child::{How, Job, Runner};
use crate::folder;

/// For one hook and one event.
pub const LIMIT: Duration = Duration::from_secs(30);
/// How much of what a hook writes goes into the journal, from the end.
const OUTPUT: usize = 4096;
/// A hook that reached its limit so often is not run again in the same run, or
/// one that hangs would hold up all the news behind it.
const PATIENCE: u32 = 2;

/// What hooks did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Runs that ended with exit code 0.
    pub well: u32,
    /// Runs that did not, and runs that were left out.
    pub failed: u32,
}

/// The hooks of one run.
#[derive(Debug)]
pub(super) struct Hooks<'a> {
    runner: Runner,
    limit: Duration,
    executables: Vec<PathBuf>,
    /// How often each has reached its limit.
    hung: HashMap<PathBuf, u32>,
    say: &'a mut dyn Say,
    pub(super) outcome: Outcome,
}

/// Takes lines for the journal.
pub trait Say: std::fmt::Debug {
    /// One line.
    fn say(&mut self, line: &str);
}

impl<'a> Hooks<'a> {
    /// Those in `directory` that may be run; says which may not.
    pub(super) fn new(
        directory: &Path,
        runner: Runner,
        limit: Duration,
        say: &'a mut dyn Say,
    ) -> Self {
        let found = folder::look(directory);
        for refused in &found.refused {
            say.say(&format!("not run: {refused}"));
        }
        Self {
            runner,
            limit,
            executables: found.executables,
            hung: HashMap::new(),
            say,
            outcome: Outcome::default(),
        }
    }

    /// A line for the journal.
    pub(super) fn say(&mut self, line: &str) {
        self.say.say(line);
    }

    /// Tells every hook. Whatever they do, the next one is told as well.
    pub(super) fn tell(&mut self, event: &Event) {
        let mut stdin = match serde_json::to_vec(event) {
            Ok(text) => text,
            Err(why) => return self.say(&format!("an event can't be told: {why}")),
        };
        stdin.push(b'\n');
        for hook in self.executables.clone() {
            self.run(&hook, event.event.word(), &stdin);
        }
    }

    fn run(&mut self, hook: &Path, event: &str, stdin: &[u8]) {
        let name = hook.file_name().unwrap_or_default().to_string_lossy();
        let hung = self.hung.entry(hook.to_owned()).or_default();
        if *hung >= PATIENCE {
            self.outcome.failed += 1;
            let line = format!("{name}: left out for {event}: it hung {PATIENCE} times");
            return self.say(&line);
        }
        let ended = self.runner.run(&Job {
            argv: vec![hook.as_os_str().to_owned(), event.into()],
            stdin: stdin.to_owned(),
            limit: self.limit,
            keep: OUTPUT,
        });
        if ended.how == How::TimedOut {
            *hung += 1;
        }
        for line in ended.output.lines() {
            // What a terminal would take for a command has no place in a journal.
            let line: String = line.chars().filter(|c| !c.is_control()).collect();
            self.say(&format!("{name}: {line}"));
        }
        if ended.stuck > 0 {
            let line = format!("{name}: {} processes of it can't be killed", ended.stuck);
            self.say(&line);
        }
        if ended.how == How::Exited(0) {
            self.outcome.well += 1;
        } else {
            self.outcome.failed += 1;
            self.say(&format!("{name}: for {event}: {}", ended.how));
        }
    }
}
