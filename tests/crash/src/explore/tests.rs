#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use super::*;
use crate::{BLOCK, Image, Tape};

/// A log of so many writes, each flushed.
fn log(writes: usize) -> Log {
    let mut tape = Tape::new(Image::empty((writes * BLOCK) as u64));
    for number in 0..writes {
        tape.write((number * BLOCK) as u64, &[1; BLOCK]);
        tape.flush();
    }
    tape.into_log()
}

#[test]
fn a_seed_gives_one_order() {
    let log = log(200);
    let states = chosen(&log, 7, 100);
    assert_eq!(states.len(), 100);
    assert_eq!(states, chosen(&log, 7, 100));
    assert_ne!(states, chosen(&log, 8, 100));
    let different: BTreeSet<_> = states.iter().collect();
    assert_eq!(different.len(), states.len());
}

#[test]
fn the_end_is_always_among_them() {
    let log = log(200);
    let end = State {
        position: log.entries.len(),
        kind: states::Kind::Prefix,
    };
    for seed in 0..50 {
        let states = chosen(&log, seed, 10);
        assert_eq!(states.len(), 10);
        assert!(states.contains(&end), "{seed}");
    }
}

#[test]
fn every_batch_is_from_all_over_the_log() {
    let log = log(3000);
    let end = log.entries.len();
    let states = chosen(&log, 1, 3000);
    for batch in states.chunks_exact(BATCH) {
        // Forwards, so that one differs little from the next.
        assert!(batch.is_sorted());
        for part in 0..4 {
            let here = |state: &&State| state.position * 4 / (end + 1) == part;
            let found = batch.iter().filter(here).count();
            let wanted = BATCH / 6..BATCH / 3;
            assert!(wanted.contains(&found), "{found} in quarter {part}");
        }
    }
    assert!(!states.is_sorted());
}

#[test]
fn every_worker_gets_as_much_of_every_depth() {
    let depth = |index: usize| match index {
        index if index % 100 == 7 => Depth::Twice,
        index if index % 8 == 3 => Depth::Again,
        _ => Depth::Boot,
    };
    let depths: Vec<_> = (0..2000).map(depth).collect();
    let hands = deal(&depths, 4);
    for wanted in [Depth::Boot, Depth::Again, Depth::Twice] {
        let of_depth = |hand: &Vec<usize>| {
            let hand = hand.iter();
            hand.filter(|index| depths[**index] == wanted).count()
        };
        let counts: Vec<_> = hands.iter().map(of_depth).collect();
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(
            most.unwrap() - least.unwrap() <= 1,
            "{wanted:?}: {counts:?}"
        );
    }
    assert!(hands.iter().all(|hand| hand.is_sorted()));
    let mut dealt = hands.concat();
    dealt.sort_unstable();
    assert!(dealt.into_iter().eq(0..2000));
}
