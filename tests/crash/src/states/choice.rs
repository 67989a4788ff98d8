//! Which of the legal states are looked at.

use std::collections::HashSet;

use super::{Fate, Kind, State, units};
use crate::chance::blend;
use crate::log::Within;
use crate::{Entry, Log, Mark};

/// How much more often than elsewhere a state is chosen right after a step was
/// acknowledged: nothing is owed for what comes next yet, and everything for
/// what came before.
const AFTER_ACKNOWLEDGEMENT: usize = 8;
/// How often another seed is tried where one leads to a state that is there.
const ATTEMPTS: u64 = 8;

/// At most `count` states, always the same ones for a log and a seed, in the
/// order of their positions. No two are alike: where the disk holds the same, the
/// story stands elsewhere.
///
/// All prefixes come first: one after each write and each mark (after a flush
/// the disk holds what it held before). If these are too many they are spread
/// evenly. What is left of the count is spread over all positions in proportion
/// to the writes that no flush has covered there, half of it subsets, half torn.
pub fn enumerate(log: &Log, seed: u64, count: usize) -> Vec<State> {
    let places = Places::of(log);
    let prefixes = places.prefixes();
    let mut states: Vec<_> = if prefixes.len() > count {
        (0..count)
            .map(|nth| prefixes[nth * prefixes.len() / count])
            .collect()
    } else {
        prefixes
    };
    let mut known: HashSet<_> = states.iter().map(|state| places.outcome(state)).collect();
    // A round finds less than it should where there are few different states.
    for round in 0..ATTEMPTS {
        let missing = count - states.len();
        if missing == 0 {
            break;
        }
        for (nth, position) in places.spread(missing).enumerate() {
            let found = (0..ATTEMPTS).find_map(|attempt| {
                let numbers = [seed, round, position as u64, nth as u64, attempt];
                // Half the bits are enough, and easier to read.
                let seed = numbers.into_iter().fold(0, mixed) >> 32;
                let kind = if nth % 2 == 0 {
                    Kind::Subset(seed)
                } else {
                    Kind::Torn(seed)
                };
                let state = State { position, kind };
                known.insert(places.outcome(&state)).then_some(state)
            });
            states.extend(found);
        }
    }
    states.sort_unstable();
    states
}

/// What there is to know about each position of a log.
struct Places {
    places: Vec<Place>,
    /// Of each write its place in the log, and in how many pieces it may arrive.
    writes: Vec<(usize, usize)>,
}

struct Place {
    /// Whether the last thing that happened is a flush.
    after_flush: bool,
    within: Within,
    /// The writes since the last flush, as a range of all.
    unflushed: std::ops::Range<usize>,
    weight: usize,
}

impl Places {
    fn of(log: &Log) -> Self {
        let mut within = Within::default();
        let mut flushed = 0;
        let mut writes = Vec::new();
        let mut places = vec![Place {
            after_flush: false,
            within,
            unflushed: 0..0,
            weight: 0,
        }];
        for (position, entry) in log.entries.iter().enumerate() {
            let mut times = 1;
            match entry {
                Entry::Write { .. } => writes.extend(units(entry).map(|units| (position, units))),
                Entry::Flush => flushed = writes.len(),
                Entry::Mark(mark) => {
                    within = within.after(*mark);
                    if let Mark::Acknowledged(_) = mark {
                        times = AFTER_ACKNOWLEDGEMENT;
                    }
                }
            }
            places.push(Place {
                after_flush: *entry == Entry::Flush,
                within,
                unflushed: flushed..writes.len(),
                weight: times * (writes.len() - flushed),
            });
        }
        Self { places, writes }
    }

    fn prefixes(&self) -> Vec<State> {
        let places = self.places.iter().enumerate();
        places
            .filter(|(_, place)| !place.after_flush)
            .map(|(position, _)| State {
                position,
                kind: Kind::Prefix,
            })
            .collect()
    }

    /// So many positions, ascending, in proportion to their weights.
    fn spread(&self, count: usize) -> impl Iterator<Item = usize> {
        let total: usize = self.places.iter().map(|place| place.weight).sum();
        let mut places = self.places.iter().enumerate();
        let mut current = 0;
        let mut behind = 0;
        let count = if total == 0 { 0 } else { count };
        (0..count).map(move |nth| {
            let target = (2 * nth + 1) as u128 * total as u128 / (2 * count as u128);
            while behind as u128 <= target {
                let Some((position, place)) = places.next() else {
                    break;
                };
                current = position;
                behind += place.weight;
            }
            current
        })
    }

    /// A number for what the disk holds and where the story stands: the same for
    /// states that are alike.
    fn outcome(&self, state: &State) -> u64 {
        let place = &self.places[state.position];
        let writes = &self.writes[place.unflushed.clone()];
        let units: Vec<_> = writes.iter().map(|(_, units)| *units).collect();
        let fates = state.kind.fates(&units);
        // Flushed or not, what is there without a gap is there.
        let whole = fates.iter().take_while(|fate| **fate == Fate::Kept).count();
        let step = |step: Option<u32>| step.map_or(u64::MAX, u64::from);
        let mut outcome = mixed(0, (place.unflushed.start + whole) as u64);
        outcome = mixed(outcome, step(place.within.acknowledged));
        outcome = mixed(outcome, step(place.within.in_flight));
        for ((write, _), fate) in writes.iter().zip(fates).skip(whole) {
            if fate == Fate::Lost {
                continue;
            }
            outcome = mixed(outcome, *write as u64);
            if let Fate::Torn(stays) = fate {
                outcome = mixed(outcome, u64::MAX);
                for (sector, _) in stays.iter().enumerate().filter(|(_, stays)| **stays) {
                    outcome = mixed(outcome, sector as u64);
                }
            }
        }
        outcome
    }
}

fn mixed(before: u64, value: u64) -> u64 {
    blend(before.rotate_left(17) ^ blend(value.wrapping_add(0x9E37_79B9_7F4A_7C15)))
}
