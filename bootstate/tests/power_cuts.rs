//! The state machine under power cuts: every short story, and many long ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::collections::{HashSet, VecDeque};

use common::device::{Cut, Device, Event, story};
use op_dbus_bootstate::record::Limits;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

fn events(versions: u8) -> Vec<Event> {
    let mut events = Vec::new();
    for cut in Cut::ALL {
        events.extend([
            Event::Boot {
                cut,
                writable: true,
            },
            Event::Rollback { cut },
            Event::Cancel { cut },
            Event::Bless { cut },
            Event::Condemn { cut },
            Event::OrderlyShutdown { cut },
        ]);
        events.extend((1..versions).map(|version| Event::Stage { version, cut }));
    }
    events.push(Event::Boot {
        cut: Cut::None,
        writable: false,
    });
    for version in 0..versions {
        for on in [true, false] {
            events.push(Event::Damage {
                version,
                damaged: on,
            });
            events.push(Event::Unmountable {
                version,
                unmountable: on,
            });
        }
    }
    events.extend([Event::LoseCopy { copy: 0 }, Event::LoseCopy { copy: 1 }]);
    events
}

/// Breadth first, so that a violation is told by its shortest story.
#[test]
fn every_story_up_to_a_depth_keeps_the_invariants() {
    const DEPTH: usize = 7;
    let limits = Limits {
        tries: 1,
        refunds: 1,
        good_boots: 2,
    };
    let events = events(2);
    let start = Device::new(limits);
    let mut seen = HashSet::from([start.key()]);
    let mut queue = VecDeque::from([(start, Vec::new())]);
    while let Some((device, told)) = queue.pop_front() {
        if told.len() == DEPTH {
            continue;
        }
        for &event in events.iter().filter(|&&event| device.allows(event)) {
            let mut next = device.clone();
            let mut told = told.clone();
            told.push(event);
            if let Err(why) = next.play(event).and_then(|()| next.check_liveness()) {
                panic!("{why}\n{}", story(&told));
            }
            if seen.insert(next.key()) {
                queue.push_back((next, told));
            }
        }
    }
    assert!(
        seen.len() > 10_000,
        "only {} states: the events no longer interleave",
        seen.len()
    );
    println!("{} states", seen.len());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/power_cuts.regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn long_stories_with_full_limits_keep_the_invariants(
        picks in proptest::collection::vec(any::<proptest::sample::Index>(), 1..160)
    ) {
        let all = events(4);
        let mut device = Device::new(common::LIMITS);
        let mut told = Vec::new();
        for pick in picks {
            let allowed: Vec<Event> = all.iter().copied().filter(|&event| device.allows(event)).collect();
            let event = *pick.get(&allowed);
            told.push(event);
            if let Err(why) = device.play(event).and_then(|()| device.check_liveness()) {
                return Err(TestCaseError::fail(format!("{why}\n{}", story(&told))));
            }
        }
    }
}
