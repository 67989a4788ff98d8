use super::*;
use op_dbus_bootstate::record::{Attempt, Outcome, Reason};
use op_dbus_bootstate::{Digest, Slot};

fn id(n: u8) -> BootId {
    BootId([n; 16])
}

fn boot(n: u8, state: State) -> Boot {
    Boot {
        id: id(n),
        state,
        version: None,
        slot: None,
        watchdog: false,
    }
}

fn attempt(n: u8, slot: Option<Slot>, outcome: Outcome) -> Attempt {
    Attempt {
        boot_id: id(n),
        slot,
        digest: slot.map(|_| Digest([n; 32])),
        outcome,
        reason: Reason::Regular,
    }
}

#[test]
fn a_boot_stands_for_its_last_candidate() {
    let record = Record {
        attempts: vec![
            attempt(1, Some(Slot::Trial), Outcome::Missing),
            attempt(1, Some(Slot::Good), Outcome::Selected),
            attempt(2, None, Outcome::Selected),
        ],
        attempts_dropped: 4,
        ..Record::default()
    };
    let found: Vec<_> = counted(&record)
        .into_iter()
        .map(|boot| (boot.id, boot.slot))
        .collect();
    assert_eq!(found, [(id(1), Some(Slot::Good)), (id(2), None)]);
    assert_eq!(counted(&Record::default()), []);
}

#[test]
fn boots_are_told_in_order_and_each_by_its_own_word() {
    use State::{Counted, Orderly, Running};
    // 1 was handed over; 2 and 4 came to nothing; 3 ran, and was not told of.
    let marked = vec![boot(1, Orderly), boot(3, Running), boot(5, Running)];
    let waiting = vec![
        boot(2, Counted),
        boot(3, Counted),
        boot(4, Counted),
        boot(5, Counted),
    ];
    assert_eq!(
        merge(&marked, &waiting, id(5)),
        [
            boot(1, Orderly),
            boot(2, Counted),
            boot(3, Running),
            boot(4, Counted)
        ]
    );
    assert_eq!(merge(&[], &[], id(1)), []);
}
