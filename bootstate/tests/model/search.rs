//! Breadth first, to closure: a violation is told by one of its shortest stories.
//!
//! Plain, and not stateright: what is checked here is steps as much as states
//! (what was acknowledged, what a boot took away), the ways one event can go are
//! found by playing it, and the story is wanted in words. stateright's properties
//! see states only, its actions must be listed before they are played, and its
//! search over several threads does not promise the shortest story; it would have
//! saved the fifty lines below.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

use crate::check::Violation;
use crate::fate::Fate;
use crate::liveness::Liveness;
use crate::play::{Device, Model, Op};
use crate::shape::{self, RunShape, V};
use crate::words::Words;

/// What a search found.
#[derive(Debug)]
pub struct Found {
    pub states: usize,
    pub transitions: u64,
    /// Events from the start to the farthest state.
    pub depth: u32,
    /// Most boots from any state until one selects something.
    pub boots: u32,
    pub took: Duration,
    pub violation: Option<(Violation, Vec<String>)>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} states, {} transitions, depth {}; at most {} boots until one selects; {:.1} s",
            self.states,
            self.transitions,
            self.depth,
            self.boots,
            self.took.as_secs_f64()
        )?;
        if let Some((violation, story)) = &self.violation {
            write!(f, "\n{violation}")?;
            for (n, line) in story.iter().enumerate() {
                write!(f, "\n{:3}. {line}", n + 1)?;
            }
        }
        Ok(())
    }
}

/// How a device came about: from which other, by what, answered how.
#[derive(Debug)]
struct Known {
    device: Device,
    from: usize,
    op: Op,
    answers: Vec<u16>,
    depth: u32,
}

/// Plays everything that can happen to a device of the model, until nothing new
/// comes of it.
pub fn search(model: &Model) -> Found {
    let mut search = Search::new(model);
    let violation = search.run().err();
    Found {
        states: search.known.len(),
        transitions: search.transitions,
        depth: search.known.last().map_or(0, |known| known.depth),
        boots: search.liveness.worst,
        took: search.began.elapsed(),
        violation: violation.map(|(violation, at, last)| {
            let story = search.story(at, &last);
            (violation, story)
        }),
    }
}

type Last = Option<(Op, Vec<u16>)>;

struct Search<'a> {
    model: &'a Model,
    renumberings: Vec<Vec<V>>,
    seen: HashSet<Device>,
    known: Vec<Known>,
    liveness: Liveness,
    transitions: u64,
    began: Instant,
}

impl<'a> Search<'a> {
    fn new(model: &'a Model) -> Self {
        Self {
            model,
            renumberings: renumberings(&model.library.scope.epochs),
            seen: HashSet::new(),
            known: Vec::new(),
            liveness: Liveness::default(),
            transitions: 0,
            began: Instant::now(),
        }
    }

    fn run(&mut self) -> Result<(), (Violation, usize, Last)> {
        let start = canonical(&self.model.start(), &self.renumberings);
        self.seen.insert(start);
        self.known.push(Known {
            device: start,
            from: 0,
            op: Op::Down,
            answers: Vec::new(),
            depth: 0,
        });
        let mut at = 0;
        while at < self.known.len() {
            self.beyond(at).map_err(|violation| (violation, at, None))?;
            for &op in &self.model.ops {
                self.play(at, op)
                    .map_err(|(violation, answers)| (violation, at, Some((op, answers))))?;
            }
            at += 1;
            if at % 50_000 == 0 {
                println!("{at} of {} states so far", self.known.len());
            }
        }
        Ok(())
    }

    /// What looks beyond one step.
    fn beyond(&mut self, at: usize) -> Result<(), Violation> {
        let Device { medium, up, .. } = self.known[at].device;
        let library = &self.model.library;
        self.liveness.recovery(library, &medium)?;
        if up {
            return Ok(());
        }
        self.liveness.check(library, &medium)
    }

    /// One event, in every way it can go.
    fn play(&mut self, at: usize, op: Op) -> Result<(), (Violation, Vec<u16>)> {
        let Known { device, depth, .. } = self.known[at];
        if !self.model.allows(&device, op) {
            return Ok(());
        }
        let mut fate = Fate::default();
        loop {
            self.transitions += 1;
            let next = self
                .model
                .play(&device, op, &fate)
                .map_err(|violation| (violation, fate.answers()))?;
            let next = canonical(&next, &self.renumberings);
            if self.seen.insert(next) {
                self.known.push(Known {
                    device: next,
                    from: at,
                    op,
                    answers: fate.answers(),
                    depth: depth + 1,
                });
            }
            if !fate.next() {
                return Ok(());
            }
        }
    }

    /// The way to a device, and the event after it that went wrong.
    fn story(&self, mut at: usize, last: &Last) -> Vec<String> {
        let mut events: Vec<_> = last
            .iter()
            .map(|(op, answers)| (at, *op, answers.as_slice()))
            .collect();
        while at != 0 {
            let known = &self.known[at];
            events.push((known.from, known.op, &known.answers));
            at = known.from;
        }
        // The search calls a version by another number now and then; the story
        // goes on calling it by the name it began with.
        let mut names: Vec<V> = self.model.library.scope.versions().collect();
        let mut story = Vec::new();
        for (from, op, answers) in events.into_iter().rev() {
            let fate = Fate::of(answers);
            let after = self.model.play(&self.known[from].device, op, &fate).ok();
            let words = Words::new(&self.model.library.scope, &names);
            story.push(words.told(op, &fate.facts(), after.as_ref()));
            if let Some(to) = after.and_then(|after| self.renumbering(&after)) {
                let old = names.clone();
                for (version, &new) in to.iter().enumerate() {
                    names[usize::from(new)] = old[version];
                }
            }
        }
        story
    }

    /// The renumbering that made a device canonical.
    fn renumbering(&self, device: &Device) -> Option<&Vec<V>> {
        let found = canonical(device, &self.renumberings);
        self.renumberings
            .iter()
            .find(|to| canonical(device, std::slice::from_ref(*to)) == found)
    }
}

/// All renumberings of versions that no decision could notice: those that keep
/// the epochs. Digests are only compared.
pub fn renumberings(epochs: &[u32]) -> Vec<Vec<V>> {
    let mut found = vec![Vec::new()];
    for &epoch in epochs {
        let longer = found.iter().flat_map(|so_far: &Vec<V>| {
            (0..)
                .zip(epochs)
                .filter(|&(version, &other)| other == epoch && !so_far.contains(&version))
                .map(|(version, _)| [so_far.as_slice(), &[version]].concat())
        });
        found = longer.collect();
    }
    found
}

/// One device for all that differ only in the numbers of their versions, and in
/// which copy is the first.
fn canonical(device: &Device, renumberings: &[Vec<V>]) -> Device {
    let renumbered = |to: &Vec<V>| {
        let medium = device.medium.renumbered(to);
        [medium, medium.mirrored()].map(|medium| Device {
            medium,
            running: device.running.map(|run| RunShape {
                version: to[usize::from(run.version)],
                ..run
            }),
            gone: shape::renumbered(device.gone, to),
            ..*device
        })
    };
    let all = renumberings.iter().flat_map(renumbered);
    all.min().unwrap_or(*device)
}
