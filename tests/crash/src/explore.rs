//! Exploring many states, in an order that is shuffled by the seed: a run that is
//! ended early has seen a sample of the whole story. Within a batch they go
//! forwards, as it takes time to go far. Which worker looks at which state is
//! settled beforehand, too. What they find is put together.

mod process;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::error::{Error, Result};
use crate::explorer::{Depth, Outcome};
use crate::recording::Recording;
use crate::report::{Found, Summary};
use crate::times::Times;
use crate::worker::{Answer, Order};
use crate::{Log, State, states};

use process::{Ended, Process};

/// How to explore.
#[derive(Debug, Clone)]
pub struct Plan {
    /// This program, which is started as each worker.
    pub program: PathBuf,
    /// What a worker is started with to find the recording.
    pub arguments: Vec<String>,
    /// How many states.
    pub states: usize,
    /// Chooses them.
    pub seed: u64,
    /// Workers at once.
    pub workers: usize,
    /// Enough is enough.
    pub max_violations: usize,
    /// Every so-many-th state gets a second boot and the interrupted command again.
    pub again: u64,
    /// Every so-many-th gets a second power cut during its recovery.
    pub twice: u64,
    /// How long one state may take, and each that a second cut makes of it.
    pub limit: Duration,
    /// Where evidence goes.
    pub evidence: PathBuf,
}

impl Plan {
    /// How closely the state at this place of the order is looked at.
    fn depth(&self, index: usize) -> Depth {
        let chosen = |every: u64| {
            let number = (index as u64).wrapping_add(self.seed);
            every > 0 && number % every == 0
        };
        if chosen(self.twice) {
            Depth::Twice
        } else if chosen(self.again) {
            Depth::Again
        } else {
            Depth::Boot
        }
    }
}

/// The states of each worker, by their places in the order. Those of one depth are
/// dealt apart from the others: they are many times as much work, and by the place
/// alone all of them could be one worker's.
fn deal(depths: &[Depth], workers: usize) -> Vec<Vec<usize>> {
    let mut hands = vec![Vec::new(); workers];
    let mut next = BTreeMap::new();
    for (index, depth) in depths.iter().enumerate() {
        let worker = next.entry(depth).or_insert(0);
        hands[*worker].push(index);
        *worker = (*worker + 1) % workers;
    }
    hands
}

/// What workers share.
struct Shared<'a> {
    plan: &'a Plan,
    recording: &'a Recording,
    states: &'a [State],
    depths: &'a [Depth],
    done: Mutex<Done>,
    stop: AtomicBool,
}

/// What is known so far.
#[derive(Default)]
struct Done {
    explored: usize,
    again: usize,
    twice: usize,
    times: Times,
    by_step: BTreeMap<Option<u32>, usize>,
    found: BTreeMap<usize, Found>,
    broken: Option<Error>,
}

/// Explores; `tell` hears of progress now and then.
pub fn explore(
    recording: &Recording,
    plan: &Plan,
    mut tell: impl FnMut(&Progress),
) -> Result<Summary> {
    let states = chosen(&recording.log, plan.seed, plan.states);
    let depths: Vec<_> = (0..states.len()).map(|index| plan.depth(index)).collect();
    let hands = deal(&depths, plan.workers.max(1));
    let began = Instant::now();
    let shared = Shared {
        plan,
        recording,
        states: &states,
        depths: &depths,
        done: Mutex::default(),
        stop: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let workers: Vec<_> = hands
            .iter()
            .enumerate()
            .map(|(number, hand)| {
                let shared = &shared;
                scope.spawn(move || shared.work(number, hand))
            })
            .collect();
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(TICK);
            let done = lock(&shared.done);
            tell(&Progress {
                explored: done.explored,
                of: states.len(),
                violations: done.found.len(),
                elapsed: began.elapsed(),
            });
        }
    });
    let done = shared
        .done
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(why) = done.broken {
        return Err(why);
    }
    let found = done.found.into_values().take(plan.max_violations).collect();
    Ok(Summary {
        log_entries: recording.log.entries.len(),
        states: done.explored,
        again: done.again,
        twice: done.twice,
        seed: plan.seed,
        workers: plan.workers,
        seconds: began.elapsed().as_secs_f64(),
        times: done.times,
        by_step: by_name(recording, &done.by_step),
        violations: found,
    })
}

/// States of the whole story that are looked at from its beginning to its end:
/// the next one of a worker differs little from the one before.
const BATCH: usize = 1024;

/// So many states, of all kinds: prefixes alone may be more. Shuffled, and each
/// batch sorted.
fn chosen(log: &Log, seed: u64, count: usize) -> Vec<State> {
    let all = states::enumerate(log, seed, count.max(2 * log.entries.len()));
    let first = usize::try_from(seed).unwrap_or(0) % all.len().max(1);
    let mut states: Vec<_> = (0..count.min(all.len()))
        .map(|nth| all[(nth * all.len() + first) / count % all.len()])
        .collect();
    // What the last step acknowledged is told by this one alone.
    let end = State {
        position: log.entries.len(),
        kind: states::Kind::Prefix,
    };
    if !states.contains(&end) && states.pop().is_some() {
        states.push(end);
    }
    let mut chance = Chance::new(seed);
    // Fisher and Yates: each place gets one of those that no later place has.
    for last in (1..states.len()).rev() {
        states.swap(last, chance.below(last + 1));
    }
    for batch in states.chunks_mut(BATCH) {
        batch.sort_unstable();
    }
    states
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// States explored.
    pub explored: usize,
    /// States there are to explore.
    pub of: usize,
    /// States in which something is wrong.
    pub violations: usize,
    /// Since the beginning.
    pub elapsed: Duration,
}

/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);

fn by_name(recording: &Recording, counts: &BTreeMap<Option<u32>, usize>) -> Vec<(String, usize)> {
    let name = |number: Option<u32>| match number {
        Some(number) => {
            let name = recording.step(number).map_or("?", |step| &step.name);
            format!("{number:>2} {name}")
        }
        None => "between two steps".to_owned(),
    };
    counts
        .iter()
        .map(|(number, count)| (name(*number), *count))
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared<'_> {
    /// One worker's life; the process behind it may be several, one after the other.
    fn work(&self, number: usize, hand: &[usize]) {
        if let Err(why) = self.orders(number, hand) {
            self.stop.store(true, Ordering::Relaxed);
            lock(&self.done).broken.get_or_insert(why);
        }
    }

    fn orders(&self, number: usize, hand: &[usize]) -> Result<()> {
        let place = self.plan.evidence.join(format!("worker.{number}"));
        let mut process = None;
        for &index in hand {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let ready = match &mut process {
                Some(process) => process,
                none => none.insert(Process::start(self.plan, &place)?),
            };
            let state = self.states[index];
            let depth = self.depths[index];
            let directory = self.evidence(index, &state);
            let order = Order {
                state: state.to_string(),
                depth,
                directory: directory.clone(),
            };
            let limit = self.plan.limit * depth.states();
            let answer = ready.ask(&order, limit);
            let outcome = match answer {
                Ok(Answer::Done(outcome)) => outcome,
                Ok(Answer::Ready) => Outcome::wrong("worker", "an outcome", "a greeting"),
                Ok(Answer::Failed(why)) => {
                    // Its device or mounts may be in the way of the next state.
                    process = None;
                    Outcome::wrong("host", "a state that can be explored", &why)
                }
                Err(ended) => {
                    process = None;
                    match ended {
                        Ended::Hung(stacks) => {
                            let limit = format!("an end within {limit:?}");
                            Outcome::wrong("hung", &limit, &stacks)
                        }
                        Ended::Gone(how) => Outcome::wrong("worker", "an answer", &how),
                    }
                }
            };
            self.take_in(index, &state, depth, outcome, &directory)?;
        }
        drop(process);
        // What is left there is nobody's.
        let _ = fs::remove_dir(&place);
        Ok(())
    }

    fn evidence(&self, index: usize, state: &State) -> PathBuf {
        let name = state.to_string().replace(':', "-");
        self.plan.evidence.join(format!("{index:06}-{name}"))
    }

    fn take_in(
        &self,
        index: usize,
        state: &State,
        depth: Depth,
        outcome: Outcome,
        directory: &Path,
    ) -> Result<()> {
        let mut done = lock(&self.done);
        done.explored += 1;
        done.again += usize::from(depth == Depth::Again);
        done.twice += usize::from(depth == Depth::Twice);
        done.times.add(&outcome.times);
        let within = self.recording.log.step_at(state.position);
        *done.by_step.entry(within.in_flight).or_default() += 1;
        if outcome.violations.is_empty() {
            return Ok(());
        }
        let found = Found::new(
            self.recording,
            state,
            outcome,
            directory,
            &self.plan.arguments,
        );
        found.write(directory)?;
        done.found.insert(index, found);
        if done.found.len() >= self.plan.max_violations {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
