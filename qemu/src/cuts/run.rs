//! A run: one cut after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::disks::Disks;
use super::facts::Facts;
use super::life::{self, Depth, End, Life, Stop};
use super::state::{Cut, Purpose, State, Violation};
use crate::error::Result;
use crate::hardware::{Disk, Format};
use crate::powercut::Tally;
use crate::template::Template;

/// Cuts a device goes through before a new one takes its place: its store would
/// fill up, and soon hold every version there is.
const LIFETIME: u32 = 40;
/// After so many violations a run ends: more of the same tells nothing new.
const ENOUGH: usize = 5;
/// Requests a phase is taken to have before one was seen.
const UNKNOWN: usize = 60;

/// A run in its directory.
pub struct Run<'a> {
    /// How far it has come.
    pub state: State,
    directory: PathBuf,
    disks: Disks,
    template: Arc<Template>,
    releases: PathBuf,
    patience: u32,
    again: bool,
    tell: Box<dyn FnMut(&str) + 'a>,
}

/// What a run is made with.
#[derive(Debug)]
pub struct Parts {
    /// The machine whose copies are booted.
    pub template: Arc<Template>,
    /// The disk of a new device.
    pub prepared: PathBuf,
    /// The disk with the releases.
    pub releases: PathBuf,
    /// All deadlines are multiplied by it.
    pub patience: u32,
}

impl<'a> Run<'a> {
    /// A run in `directory` that goes on from `state`.
    pub fn new(state: State, directory: &Path, parts: Parts, tell: impl FnMut(&str) + 'a) -> Self {
        Self {
            state,
            directory: directory.to_owned(),
            disks: Disks::new(directory, &parts.prepared),
            template: parts.template,
            releases: parts.releases,
            patience: parts.patience,
            again: false,
            tell: Box::new(tell),
        }
    }

    /// Goes on until `count` cuts are made, and checks the boot after the last.
    /// When they are made already, that is all, and no file changes: a violation
    /// can be seen again as often as one likes.
    pub fn go(&mut self, count: u32) -> Result<()> {
        self.again = self.state.made >= count && self.state.cut.is_some();
        if self.again {
            return self.boot(false);
        }
        loop {
            let start = Instant::now();
            let done = self.state.made >= count || self.state.violations.len() >= ENOUGH;
            let old = self.state.age >= LIFETIME;
            if done && self.state.cut.is_none() {
                break;
            }
            self.boot(!done && !old)?;
            self.state.totals.seconds += start.elapsed().as_secs_f64();
        }
        self.disks.remove()
    }

    fn boot(&mut self, cut: bool) -> Result<()> {
        let number = self.state.made + 1;
        let left = self.disks.recover(&self.state)?;
        let disk = self.disks.power_on(number)?;
        let releases = Disk {
            path: self.releases.clone(),
            format: Format::Raw,
            read_only: true,
            log: None,
            faults: Vec::new(),
        };
        let guest = self
            .template
            .boot(vec![disk, releases], "", &self.console(number))?;
        let log = self.disks.log(number);
        let mut life = Life::new(guest, &log, self.state.at_least, self.patience)?;
        let lived = self.live(&mut life, cut);
        self.state.totals.boots += 1;
        match lived {
            Ok(Some(end)) => {
                life.kill()?;
                self.book(end, left, &life)
            }
            Ok(None) => {
                life.kill()?;
                self.state.totals.requests.add(left);
                self.state.new_device();
                self.save()
            }
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Cut) => Err(crate::Error::Host("a cut that was not asked for".into())),
            Err(Stop::Violation(what)) => {
                drop(life);
                self.violation(what, number)
            }
        }
    }

    /// One boot; none when no cut was to end it.
    fn live(&mut self, life: &mut Life, cut: bool) -> Result<Option<End>, Stop> {
        let number = self.state.made + 1;
        let mut place = self.state.chance(number, Purpose::Place);
        let mut story = self.state.chance(number, Purpose::Story);
        // Which part of this boot's life is hit: 0 is early boot, then its deeds.
        let part = if place.per_cent(30) {
            0
        } else {
            1 + place.below(3)
        };
        if cut && part == 0 {
            life.cut_after(place.below(self.typical("boot")));
        }
        let before = self.state.possible.clone();
        let after: Vec<Facts> = before.iter().map(Facts::booted).collect();
        match life.wait_ready() {
            Ok(()) => {}
            Err(Stop::Cut) => {
                let mut possible = before;
                possible.extend(after);
                let position = life.place(place.per_cent(75));
                return Ok(Some(ended(position, "boot", false, possible)));
            }
            Err(other) => return Err(other),
        }
        self.learn("boot", life.requests());
        let mut possible = match life.check(&after, depth(number)) {
            Ok(possible) => possible,
            Err(Stop::Cut) => return Ok(Some(ended(life.place(false), "boot", true, after))),
            Err(other) => return Err(other),
        };
        // They differ only in files that nothing looks at in this boot, so that
        // whatever is done now does the same to each.
        let Some(mut facts) = possible.first().cloned() else {
            return Err(Stop::Violation("nothing is possible".into()));
        };
        let role = facts
            .boot
            .runs
            .as_ref()
            .map_or("rescue".to_owned(), |(role, _)| {
                format!("{role:?}").to_lowercase()
            });
        *self.state.totals.roles.entry(role).or_default() += 1;
        if !cut {
            return Ok(None);
        }
        let mut last = "boot";
        for at in 1..=part {
            let Some(deed) = life::next(&facts, &mut story) else {
                break;
            };
            last = deed.word();
            if at == part {
                life.cut_after(place.below(self.typical(last)));
            }
            let begun = life.requests();
            match life.act(&deed, &facts) {
                Ok(()) => {}
                Err(Stop::Cut) => {
                    let position = life.place(place.per_cent(75));
                    let left = possible.iter().flat_map(|facts| facts.during(&deed));
                    return Ok(Some(ended(position, last, false, left.collect())));
                }
                Err(other) => return Err(other),
            }
            self.learn(last, life.requests() - begun);
            for facts in &mut possible {
                if let Some(after) = facts.after(&deed) {
                    *facts = after;
                }
            }
            facts = facts.after(&deed).unwrap_or(facts);
        }
        Ok(Some(ended(life.place(false), last, true, possible)))
    }

    /// A little beyond what such a part of a life has mostly made.
    fn typical(&self, what: &str) -> usize {
        let requests = self.state.typical.get(what).copied().unwrap_or(UNKNOWN);
        requests + requests / 8 + 2
    }

    fn learn(&mut self, what: &str, requests: usize) {
        let typical = self
            .state
            .typical
            .entry(what.to_owned())
            .or_insert(requests);
        // Follows what is usual, and forgets a lonely large one.
        *typical = (*typical * 7 / 8).max(requests);
    }

    fn book(&mut self, end: End, left: Tally, life: &Life) -> Result<()> {
        let last = self.state.cut.take();
        let cut = Cut {
            number: self.state.made + 1,
            position: end.position,
            during: end.during,
        };
        let totals = &mut self.state.totals;
        if last.is_some() {
            totals.requests.add(left);
        }
        *totals.during.entry(cut.during.clone()).or_default() += 1;
        totals.acknowledged += u32::from(end.acknowledged);
        self.state.at_least = life.at_least;
        self.state.possible = end.possible;
        self.state.possible.sort();
        self.state.possible.dedup();
        self.state.made = cut.number;
        self.state.age += 1;
        self.state.cut = Some(cut.clone());
        self.disks.book(&self.state, &cut, last.as_ref())?;
        let how = if end.acknowledged { "after" } else { "during" };
        let told = format!(
            "cut {:>5}  {how} {:<17} at request {:>4}, {:.1} s; the one before: {} durable, {} kept, {} torn, {} lost",
            cut.number,
            cut.during,
            cut.position,
            life.guest.seconds(),
            left.durable,
            left.kept,
            left.torn,
            left.lost,
        );
        (self.tell)(&told);
        Ok(())
    }

    fn violation(&mut self, what: String, number: u32) -> Result<()> {
        let cut = self.state.made;
        let evidence = self.directory.join(format!("violation-{cut}"));
        let consoles = [self.console(number), self.console(cut)];
        // As it was saved at the cut: the boot that failed has changed the totals.
        let saved = State::load(&self.disks.state()).unwrap_or_else(|_| self.state.clone());
        if !self.again {
            self.disks.keep_evidence(&saved, &consoles, &evidence)?;
        }
        let violation = Violation {
            cut,
            during: self
                .state
                .cut
                .as_ref()
                .map_or("a new device".to_owned(), |cut| cut.during.clone()),
            what,
            command: format!(
                "op-dbus-vm cuts --count {cut} --resume {}",
                if self.again {
                    self.disks.state()
                } else {
                    evidence.join("state.json")
                }
                .display()
            ),
        };
        (self.tell)(&format!(
            "VIOLATION after cut {cut}, during {}: {}\n  again: {}",
            violation.during, violation.what, violation.command
        ));
        self.state.violations.push(violation);
        self.state.new_device();
        self.save()
    }

    fn save(&self) -> Result<()> {
        if self.again {
            return Ok(());
        }
        self.state.save(&self.directory)
    }

    fn console(&self, number: u32) -> PathBuf {
        self.directory.join(format!("console-{}.log", number % 4))
    }
}

fn ended(position: usize, during: &str, acknowledged: bool, possible: Vec<Facts>) -> End {
    End {
        position,
        during: during.to_owned(),
        acknowledged,
        possible,
    }
}

fn depth(number: u32) -> Depth {
    match number {
        _ if number % 16 == 0 => Depth::Deep,
        _ if number % 4 == 0 => Depth::Verify,
        _ => Depth::Shallow,
    }
}
