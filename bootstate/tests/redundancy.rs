//! The two-copy store under faults.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{Fault, Injected, Medium, boot, deployment};
use op_dbus_bootstate::codec::{self, BLOCK, Block};
use op_dbus_bootstate::record::{Choice, Escalation, LastBoot, Reason, Record};
use op_dbus_bootstate::store::{CommitError, Copy, Storage, Verdict, Writer, load};

fn record(sequence: u64, good: u8) -> Record {
    Record {
        sequence,
        good: Some(deployment(good)),
        ..Record::default()
    }
}

#[allow(clippy::unnecessary_wraps)] // the shape of a copy on the medium
fn block(record: &Record) -> Option<Vec<u8>> {
    Some(codec::encode(record).unwrap().to_vec())
}

#[test]
fn commit_writes_the_older_copy_first_and_raises_the_sequence() {
    let mut medium = Medium::holding(&record(7, 1));
    *medium.copy(Copy::One) = block(&record(6, 1));
    let written = Writer::new(&mut medium)
        .commit(Some(&record(7, 1)), record(0, 2))
        .unwrap();
    assert_eq!(written, record(8, 2));
    assert_eq!(medium.writes, [Copy::One, Copy::Zero]);
    assert_eq!(
        load(&mut &mut medium).verdict(),
        Verdict::Intact(Box::new(record(8, 2)))
    );
}

#[test]
fn commit_writes_the_lost_copy_first() {
    for lost in [Copy::Zero, Copy::One] {
        let mut medium = Medium::holding(&record(7, 1));
        *medium.copy(lost) = None;
        Writer::new(&mut medium)
            .commit(Some(&record(7, 1)), record(0, 2))
            .unwrap();
        assert_eq!(medium.writes[0], lost, "the one that is left stands");
    }
}

/// At every crash point the medium holds the old record or the new one.
#[test]
fn a_crash_anywhere_in_a_commit_leaves_old_or_new() {
    let old = record(7, 1);
    for after in 0..2 {
        for fault in [
            Fault::Lost,
            Fault::Torn(0),
            Fault::Torn(1),
            Fault::Torn(512),
            Fault::Torn(4095),
            Fault::Torn(BLOCK),
        ] {
            let mut medium = Medium {
                fault: Some((after, fault.clone())),
                ..Medium::holding(&old)
            };
            assert!(
                Writer::new(&mut medium)
                    .commit(Some(&old), record(0, 2))
                    .is_err()
            );
            medium.fault = None;
            let verdict = load(&mut &mut medium).verdict();
            let found = verdict.record().cloned().unwrap();
            assert!(
                found == old || found == record(8, 2),
                "{after} {fault:?}: {verdict:?}"
            );
            // The first copy durable means new: that is what the count relies on.
            if after == 1 {
                assert_eq!(found, record(8, 2));
            }
            Writer::new(&mut medium).repair().unwrap();
            assert_eq!(
                load(&mut &mut medium).verdict(),
                Verdict::Intact(Box::new(found))
            );
        }
    }
}

#[test]
fn after_a_failed_write_nothing_more_is_written() {
    for fault in [Fault::Refused, Fault::FailedButPersisted] {
        let old = record(7, 1);
        let mut medium = Medium {
            fault: Some((0, fault)),
            ..Medium::holding(&old)
        };
        let mut writer = Writer::new(&mut medium);
        assert!(matches!(
            writer.commit(Some(&old), record(0, 2)),
            Err(CommitError::Medium {
                copy: Copy::Zero,
                ..
            })
        ));
        assert!(matches!(
            writer.commit(Some(&old), record(0, 2)),
            Err(CommitError::Poisoned)
        ));
        assert!(matches!(writer.repair(), Err(CommitError::Poisoned)));
        assert!(matches!(
            writer.keep_blessed(&old),
            Err(CommitError::Poisoned)
        ));
        assert_eq!(medium.writes.len(), 1);
    }
}

#[test]
fn a_record_that_changed_meanwhile_is_not_overwritten() {
    let mut medium = Medium::holding(&record(8, 3));
    let outcome = Writer::new(&mut medium).commit(Some(&record(7, 1)), record(0, 2));
    assert!(matches!(outcome, Err(CommitError::Conflict)));
    assert!(medium.writes.is_empty());
}

/// A medium whose reads have begun to fail.
struct Unreadable(Medium);

impl Storage for Unreadable {
    type Error = Injected;

    fn read(&mut self, _: Copy) -> Result<Option<Vec<u8>>, Injected> {
        Err(Injected(Fault::Refused))
    }

    fn write(&mut self, copy: Copy, block: &Block) -> Result<(), Injected> {
        (&mut self.0).write(copy, block)
    }
}

#[test]
fn a_record_that_can_no_longer_be_read_is_told_from_one_that_changed() {
    let old = record(7, 1);
    let mut writer = Writer::new(Unreadable(Medium::holding(&old)));
    let why = writer.commit(Some(&old), record(0, 2)).unwrap_err();
    let text = why.to_string();
    assert!(text.contains("can't be read back: record.0: "), "{text}");
}

#[test]
fn equal_sequence_with_different_content_counts_as_both_lost() {
    let mut medium = Medium::holding(&record(7, 1));
    *medium.copy(Copy::One) = block(&record(7, 2));
    assert_eq!(load(&mut &mut medium).verdict(), Verdict::Lost);
    *medium.copy(Copy::Blessed) = block(&record(5, 3));
    assert_eq!(
        load(&mut &mut medium).verdict(),
        Verdict::Rebuilt(Box::new(record(5, 3)))
    );
}

#[test]
fn both_lost_is_rebuilt_from_the_last_bless_without_trial_and_counts() {
    let mut kept = record(5, 1);
    kept.fallback = Some(deployment(0));
    kept.good_unblessed = 4;
    kept.fallback_unblessed = 3;
    kept.escalation = Escalation::FallbackDue;
    kept.last_boot = Some(LastBoot {
        boot_id: boot(1),
        choice: Choice::Rescue,
        reason: Reason::NothingLeft,
        after_rescue: false,
        refunded: false,
        verdict: None,
    });
    kept.trial = Some(op_dbus_bootstate::Trial {
        deployment: deployment(2),
        tries_left: 3,
        refunds_left: 3,
        attempts: 0,
        origin: op_dbus_bootstate::record::Origin::Stage,
    });
    let mut medium = Medium::default();
    *medium.copy(Copy::Blessed) = block(&kept);
    *medium.copy(Copy::Zero) = Some(vec![0; BLOCK]);
    assert!(Writer::new(&mut medium).repair().unwrap());
    let found = load(&mut &mut medium).verdict();
    let expected = Record {
        sequence: 6,
        fallback: Some(deployment(0)),
        ..record(0, 1)
    };
    assert_eq!(
        found,
        Verdict::Intact(Box::new(Record {
            sequence: 6,
            ..expected
        }))
    );
    assert!(
        !Writer::new(&mut medium).repair().unwrap(),
        "repair is idempotent"
    );
}

#[test]
fn all_three_lost_is_said_and_nothing_is_invented() {
    let mut medium = Medium::default();
    assert_eq!(load(&mut &mut medium).verdict(), Verdict::Lost);
    assert!(!Writer::new(&mut medium).repair().unwrap());
    assert!(medium.writes.is_empty());
}

#[test]
fn a_newer_format_is_never_overwritten() {
    for newer in [Copy::Zero, Copy::One] {
        let old = record(7, 1);
        let mut medium = Medium::holding(&old);
        let copy = medium.copy(newer).as_mut().unwrap();
        copy[8] = 9;
        let crc = crc32fast::hash(&copy[..BLOCK - 4]).to_le_bytes();
        copy[BLOCK - 4..].copy_from_slice(&crc);
        let verdict = load(&mut &mut medium).verdict();
        assert_eq!(
            verdict,
            Verdict::NewerFormat(9, Some(Box::new(old.clone())))
        );
        let mut writer = Writer::new(&mut medium);
        assert!(matches!(
            writer.commit(Some(&old), record(0, 2)),
            Err(CommitError::NewerFormat(9))
        ));
        assert!(matches!(writer.repair(), Err(CommitError::NewerFormat(9))));
        assert!(medium.writes.is_empty());
    }
}

/// Record 7 in both copies, and record 5 of the last bless.
fn with_blessed() -> Medium {
    let mut medium = Medium::holding(&record(7, 1));
    *medium.copy(Copy::Blessed) = block(&record(5, 3));
    medium
}

/// A damaged record.blessed changes nothing while a copy is there, and nobody
/// writes because of it; it is of no use where both copies are lost.
fn blessed_is_damaged(medium: &mut Medium, damage: &str) {
    let verdict = load(&mut &mut *medium).verdict();
    assert_eq!(verdict, Verdict::Intact(Box::new(record(7, 1))), "{damage}");
    assert!(!Writer::new(&mut *medium).repair().unwrap(), "{damage}");
    assert!(medium.writes.is_empty(), "{damage}");
    for lost in [Copy::Zero, Copy::One] {
        let held = medium.copy(lost).take();
        let verdict = load(&mut &mut *medium).verdict();
        assert_eq!(
            verdict,
            Verdict::OneCopy(Box::new(record(7, 1)), lost),
            "{damage}"
        );
        *medium.copy(lost) = held;
    }
    let both = [Copy::Zero, Copy::One].map(|copy| medium.copy(copy).take());
    assert_eq!(load(&mut &mut *medium).verdict(), Verdict::Lost, "{damage}");
    let [zero, one] = both;
    *medium.copy(Copy::Zero) = zero;
    *medium.copy(Copy::One) = one;
}

#[test]
fn every_bit_flip_of_the_blessed_copy_is_survived() {
    let mut medium = with_blessed();
    for bit in 0..BLOCK * 8 {
        flip(&mut medium, Copy::Blessed, bit);
        blessed_is_damaged(&mut medium, &format!("bit {bit}"));
        flip(&mut medium, Copy::Blessed, bit);
    }
}

#[test]
fn every_truncation_of_the_blessed_copy_is_survived() {
    let mut medium = with_blessed();
    let whole = medium.copy(Copy::Blessed).clone().unwrap();
    for length in 0..BLOCK {
        *medium.copy(Copy::Blessed) = Some(whole[..length].to_vec());
        blessed_is_damaged(&mut medium, &format!("{length} bytes"));
    }
}

fn flip(medium: &mut Medium, copy: Copy, bit: usize) {
    medium.copy(copy).as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
}

/// What else may have become of a copy.
fn damages(whole: &[u8]) -> Vec<Option<Vec<u8>>> {
    let flipped = |bit: usize| {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        Some(bytes)
    };
    vec![
        None,
        Some(whole[..512].to_vec()),
        flipped(70),
        flipped(BLOCK * 8 - 1),
    ]
}

/// Every bit of one copy with other damage to the other one, and every bit of both
/// alike: the last bless counts, and nothing is made of the remains.
#[test]
fn two_damaged_copies_fall_back_on_the_last_bless() {
    let mut medium = with_blessed();
    let whole = medium.copy(Copy::Zero).clone().unwrap();
    let expected = Verdict::Rebuilt(Box::new(record(5, 3)));
    let mut pairs = 0;
    for (flipped, other) in [(Copy::Zero, Copy::One), (Copy::One, Copy::Zero)] {
        for damage in damages(&whole) {
            medium.copy(other).clone_from(&damage);
            for bit in 0..BLOCK * 8 {
                flip(&mut medium, flipped, bit);
                let verdict = load(&mut &mut medium).verdict();
                assert_eq!(verdict, expected, "bit {bit} of {flipped:?}, {damage:?}");
                flip(&mut medium, flipped, bit);
                pairs += 1;
            }
        }
        *medium.copy(other) = Some(whole.clone());
    }
    for bit in 0..BLOCK * 8 {
        for copy in [Copy::Zero, Copy::One] {
            flip(&mut medium, copy, bit);
        }
        assert_eq!(
            load(&mut &mut medium).verdict(),
            expected,
            "bit {bit} of both"
        );
        for copy in [Copy::Zero, Copy::One] {
            flip(&mut medium, copy, bit);
        }
        pairs += 1;
    }
    println!("{pairs} pairs");
}
