//! Crash states are legal, reproducible and different, whatever the log.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::HashSet;

use op_dbus_crash::states::enumerate;
use op_dbus_crash::{BLOCK, Entry, Fate, Image, Kind, Log, Mark, SECTOR, State, Tape};
use proptest::prelude::*;

/// Small enough that writes often overlap.
const BLOCKS: usize = 24;
const SECTORS: usize = BLOCKS * BLOCK / SECTOR;

#[derive(Clone, Debug)]
enum Event {
    Write { sector: usize, count: usize },
    Flush,
    Mark,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0..SECTORS, 1..40_usize).prop_map(|(sector, count)| Event::Write {
            sector,
            count: count.min(SECTORS - sector),
        }),
        4 => (0..BLOCKS, 1..4_usize).prop_map(|(block, blocks)| Event::Write {
            sector: block * 8,
            count: (blocks * 8).min(SECTORS - block * 8),
        }),
        2 => Just(Event::Flush),
        1 => Just(Event::Mark),
    ];
    prop::collection::vec(event, 0..60)
}

/// Every sector of a write holds the number of its event and its own.
fn content(event: usize, sector: usize) -> [u8; SECTOR] {
    let mut content = [0xAB; SECTOR];
    content[..8].copy_from_slice(&(event as u64 + 1).to_le_bytes());
    content[8..16].copy_from_slice(&(sector as u64).to_le_bytes());
    content
}

fn log(events: &[Event]) -> Log {
    let mut tape = Tape::new(Image::empty((BLOCKS * BLOCK) as u64));
    let mut step = 0;
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::Write { sector, count } => {
                let data: Vec<_> = (*sector..sector + count)
                    .flat_map(|sector| content(number, sector))
                    .collect();
                tape.write((sector * SECTOR) as u64, &data);
            }
            Event::Flush => tape.flush(),
            Event::Mark => {
                step += 1;
                tape.mark(if step % 2 == 1 {
                    Mark::Begin(step / 2)
                } else {
                    Mark::Acknowledged(step / 2 - 1)
                });
            }
        }
    }
    tape.into_log()
}

/// Which event wrote each sector, by the plainest of models.
fn expected(events: &[Event], state: &State, log: &Log) -> Vec<u64> {
    let fates = state.fates(log);
    let mut sectors = vec![0; SECTORS];
    for (number, event) in events.iter().enumerate().take(state.position) {
        let Event::Write { sector, count } = event else {
            continue;
        };
        let fate = fates.iter().find(|(place, _)| *place == number);
        for nth in 0..*count {
            let kept = match fate {
                None | Some((_, Fate::Kept)) => true,
                Some((_, Fate::Lost)) => false,
                Some((_, Fate::Torn(stays))) => stays[nth],
            };
            if kept {
                sectors[sector + nth] = number as u64 + 1;
            }
        }
    }
    sectors
}

fn found(image: &Image) -> Vec<u64> {
    let blocks = (0..BLOCKS).map(|number| image.block(number).unwrap());
    let sectors = blocks.flat_map(|block| block.chunks(SECTOR));
    let number = |sector: &[u8]| u64::from_le_bytes(sector[..8].try_into().unwrap());
    sectors.map(number).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_seed_names_the_same_different_states(events in events(), seed: u64, count in 0..120_usize) {
        let log = log(&events);
        let states = enumerate(&log, seed, count);
        prop_assert_eq!(&states, &enumerate(&log, seed, count));
        prop_assert!(states.len() <= count);
        prop_assert!(states.is_sorted());
        // Different in what the disk holds or where the story stands.
        let alike = |state: &State| {
            let within = log.step_at(state.position);
            let fates = state.fates(&log);
            let at_stake = fates.first().map_or(state.position, |(place, _)| *place);
            let writes = log.entries[..at_stake].iter().enumerate();
            let flushed = writes.filter(|(_, entry)| matches!(entry, Entry::Write { .. }));
            let survivors: Vec<_> = flushed
                .map(|(place, _)| (place, Fate::Kept))
                .chain(fates)
                .filter(|(_, fate)| *fate != Fate::Lost)
                .collect();
            (within.acknowledged, within.in_flight, survivors)
        };
        let different: HashSet<_> = states.iter().map(alike).collect();
        prop_assert_eq!(different.len(), states.len());
    }

    #[test]
    fn every_prefix_is_there_when_there_is_room(events in events(), seed: u64) {
        let log = log(&events);
        let count = log.entries.len() + 40;
        let prefixes: Vec<_> = enumerate(&log, seed, count)
            .into_iter()
            .filter(|state| state.kind == Kind::Prefix)
            .map(|state| state.position)
            .collect();
        let all: Vec<_> = (0..=log.entries.len())
            .filter(|position| *position == 0 || log.entries[position - 1] != Entry::Flush)
            .collect();
        prop_assert_eq!(&prefixes, &all);
        // Fewer are the same, spread evenly.
        let some = enumerate(&log, seed, all.len() / 2);
        prop_assert_eq!(some.len(), all.len() / 2);
        prop_assert!(some.iter().all(|state| state.kind == Kind::Prefix));
    }

    #[test]
    fn every_state_is_legal(events in events(), seed: u64) {
        let log = log(&events);
        for state in enumerate(&log, seed, log.entries.len() + 60) {
            let flush = log.entries[..state.position]
                .iter()
                .rposition(|entry| *entry == Entry::Flush);
            let fates = state.fates(&log);
            // Nothing that a flush had covered is at stake, nor what came later.
            prop_assert!(fates.iter().all(|(place, _)| *place < state.position));
            prop_assert!(fates.iter().all(|(place, _)| flush.is_none_or(|flush| *place > flush)));
            let mut torn = 0;
            for (place, fate) in &fates {
                let Entry::Write { data, .. } = &log.entries[*place] else {
                    panic!("{state}: no write at {place}");
                };
                if let Fate::Torn(stays) = fate {
                    torn += 1;
                    prop_assert_eq!(stays.len(), data.len() / SECTOR);
                    prop_assert!(stays.contains(&true) && stays.contains(&false));
                }
            }
            match state.kind {
                Kind::Prefix => prop_assert!(fates.iter().all(|(_, fate)| *fate == Fate::Kept)),
                Kind::Subset(_) => {
                    prop_assert!(torn == 0);
                    prop_assert!(fates.iter().any(|(_, fate)| *fate == Fate::Lost));
                }
                // Single sectors can't be torn: then it is a subset.
                Kind::Torn(_) => prop_assert!(torn <= 3),
            }
            let image = state.image(&log).unwrap();
            let found = found(&image);
            prop_assert_eq!(&found, &expected(&events, &state, &log));
        }
    }

    #[test]
    fn a_log_comes_back_as_it_was_saved(events in events(), seed: u64, cut: prop::sample::Index, bit: u8) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = log(&events);
        log.save(&path).unwrap();
        let loaded = Log::load(&path).unwrap();
        prop_assert_eq!(&loaded.entries, &log.entries);
        prop_assert_eq!(loaded.base(), log.base());
        for state in enumerate(&log, seed, 10) {
            prop_assert_eq!(state.image(&log).unwrap(), state.image(&loaded).unwrap());
        }
        let saved = std::fs::read(&path).unwrap();
        let cut = cut.index(saved.len());
        std::fs::write(&path, &saved[..cut]).unwrap();
        prop_assert!(Log::load(&path).is_err());
        let mut damaged = saved;
        damaged[cut] ^= 1 << (bit % 8);
        std::fs::write(&path, &damaged).unwrap();
        prop_assert!(Log::load(&path).is_err());
    }

    #[test]
    fn states_are_read_as_they_are_written(position: usize, kind in 0..3_usize, seed: u64) {
        let kind = [Kind::Prefix, Kind::Subset(seed), Kind::Torn(seed)][kind];
        let state = State { position, kind };
        prop_assert_eq!(state.to_string().parse(), Ok(state));
    }

    #[test]
    fn whatever_else_is_no_state(text in "[0-9]{0,3}:?(prefix|subset|torn|x)?:?[0-9-]{0,3}:?") {
        if let Ok(state) = text.parse::<State>() {
            let plain = |text: &str| text.replace(":0", ":").replace('0', "");
            prop_assert_eq!(plain(&state.to_string()), plain(&text));
        }
    }
}

#[test]
fn a_state_of_a_longer_log_is_refused() {
    let log = log(&[Event::Flush]);
    let state: State = "2:prefix".parse().unwrap();
    let refused = state.image(&log).unwrap_err();
    assert!(refused.contains("only 1 entries"), "{refused}");
}

#[test]
fn a_superblock_is_never_torn() {
    let mut tape = Tape::new(Image::empty(1 << 20));
    for _ in 0..20 {
        tape.write(64 << 10, &[1; BLOCK]);
        tape.write(128 << 10, &[1; BLOCK]);
    }
    let log = tape.into_log();
    let states = enumerate(&log, 1, 400);
    assert!(states.len() > 100);
    let mut others = 0;
    for (place, fate) in states.iter().flat_map(|state| state.fates(&log)) {
        let Entry::Write { offset, .. } = log.entries[place] else {
            panic!("no write at {place}");
        };
        if matches!(fate, Fate::Torn(_)) {
            assert_eq!(offset, 128 << 10);
            others += 1;
        }
    }
    assert!(others > 100);
}

#[test]
fn states_gather_where_much_is_at_stake() {
    let mut tape = Tape::new(Image::empty(1 << 20));
    for number in 0..100_u64 {
        tape.write(number << 12, &[1; BLOCK]);
        if number < 50 {
            tape.flush();
        }
    }
    tape.mark(Mark::Acknowledged(1));
    let log = tape.into_log();
    let states = enumerate(&log, 7, 1000);
    assert_eq!(states.len(), 1000);
    let sampled = |from: usize, to: usize| {
        let within = |state: &&State| (from..to).contains(&state.position);
        let states = states.iter().filter(within);
        states.filter(|state| state.kind != Kind::Prefix).count()
    };
    let end = log.entries.len();
    // One write at stake at each of the first positions, and nothing new in losing
    // it: the state before had lost it, too.
    assert!((1..50).contains(&sampled(0, 100)), "{}", sampled(0, 100));
    let lost = |state: &State| state.position < 100 && matches!(state.kind, Kind::Subset(_));
    assert!(!states.iter().any(lost));
    assert!(sampled(100, 125) < sampled(125, end));
    assert!(sampled(end, end + 1) > 100, "{}", sampled(end, end + 1));
}
