//! The on-disk format: golden bytes, and that no damage goes unnoticed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{Medium, boot, deployment};
use op_dbus_bootstate::codec::{self, BLOCK, CodecError, FORMAT};
use op_dbus_bootstate::quarantine::CAPACITY;
use op_dbus_bootstate::record::{
    Attempt, Choice, Escalation, LastBoot, MAX_ATTEMPTS, Next, Origin, Outcome, Reason, Record,
    Slot, Trial,
};
use op_dbus_bootstate::store::{Copy, Verdict, Writer, load};
use op_dbus_bootstate::transition::{Overrides, Running, condemn, stage};
use op_dbus_bootstate::{BootId, Digest, Version};
use proptest::prelude::*;

/// A record in which every field holds something.
fn rich() -> Record {
    let mut record = Record {
        sequence: 42,
        good: Some(deployment(1)),
        fallback: Some(deployment(0)),
        fallback_unblessed: 1,
        ..Record::default()
    };
    quarantine(&mut record, 9);
    record.epoch_floor = 7;
    record.escalation = Escalation::GoodRetried;
    record.good_unblessed = 2;
    record.trial = Some(Trial {
        deployment: deployment(2),
        tries_left: 2,
        refunds_left: 3,
        attempts: 1,
        origin: Origin::Stage,
    });
    record.last_boot = Some(LastBoot {
        boot_id: boot(5),
        choice: Choice::Deployment {
            slot: Slot::Trial,
            digest: Digest([2; 32]),
        },
        reason: Reason::TrialDue,
        after_rescue: true,
        refunded: true,
        verdict: Some(Next::Reboot),
    });
    record.attempts = vec![Attempt {
        boot_id: boot(5),
        slot: Some(Slot::Trial),
        digest: Some(Digest([2; 32])),
        outcome: Outcome::Selected,
        reason: Reason::TrialDue,
    }];
    record.attempts_dropped = 3;
    record.audit.length = 12;
    record.audit.head = Digest([0xab; 32]);
    record.audit.missed = 1;
    record
}

/// Quarantines version `n` the only way there is: stage, boot, condemn.
fn quarantine(record: &mut Record, n: u8) {
    let bad = deployment(n);
    let change = stage(record, &bad, common::LIMITS, Overrides::default(), |_| true).unwrap();
    *record = change.record.unwrap();
    record.last_boot = Some(LastBoot {
        boot_id: boot(n),
        choice: Choice::Deployment {
            slot: Slot::Trial,
            digest: bad.digest,
        },
        reason: Reason::TrialDue,
        after_rescue: false,
        refunded: false,
        verdict: None,
    });
    let running = Running {
        boot_id: boot(n),
        slot: Slot::Trial,
        version: bad.version.clone(),
        digest: bad.digest,
        counted: true,
    };
    *record = condemn(record, &running, "test").unwrap().record.unwrap();
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        text.extend(line.iter().map(|byte| format!("{byte:02x}")));
        text.push('\n');
    }
    text
}

/// Devices in the field hold these bytes. If this test fails the format has
/// changed: give it a new number, keep reading the old one, and add a golden file.
#[test]
fn format_1_is_what_it_always_was() {
    let block = codec::encode(&rich()).unwrap();
    let used = block.len()
        - 4
        - block[..BLOCK - 4]
            .iter()
            .rev()
            .take_while(|&&byte| byte == 0)
            .count();
    let shown = format!("{}crc {}", hex(&block[..used]), hex(&block[BLOCK - 4..]));
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/record-1.hex");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &shown).unwrap();
    }
    assert_eq!(shown, std::fs::read_to_string(&golden).unwrap());
    assert_eq!(codec::decode(&block), Ok(rich()));
}

/// The largest record there can be fits, whatever the names in it.
#[test]
fn the_largest_record_fits_a_block() {
    let long = |n: u8| -> Version { format!("1.0.0-{}{n:02}", "x".repeat(56)).parse().unwrap() };
    let big = |n: u8| {
        let mut deployment = deployment(n);
        deployment.version = long(n);
        deployment.identity.ctransid = u64::MAX;
        deployment.identity.rtransid = u64::MAX;
        deployment.epoch = u32::MAX;
        deployment
    };
    assert_eq!(long(1).as_str().len(), 64);
    let mut record = rich();
    for n in 20..40 {
        let bad = big(n);
        record.trial = Some(Trial {
            deployment: bad.clone(),
            tries_left: 1,
            refunds_left: 1,
            attempts: 1,
            origin: Origin::Rollback,
        });
        record.last_boot = Some(LastBoot {
            boot_id: boot(n),
            choice: Choice::Deployment {
                slot: Slot::Trial,
                digest: bad.digest,
            },
            reason: Reason::CommandLineFailed,
            after_rescue: true,
            refunded: true,
            verdict: None,
        });
        let running = Running {
            boot_id: boot(n),
            slot: Slot::Trial,
            version: bad.version,
            digest: bad.digest,
            counted: true,
        };
        record = condemn(&record, &running, "").unwrap().record.unwrap();
    }
    assert_eq!(record.quarantine.entries().len(), CAPACITY);
    record.sequence = u64::MAX;
    record.good = Some(big(41));
    record.fallback = Some(big(42));
    record.trial = Some(Trial {
        deployment: big(43),
        tries_left: u8::MAX,
        refunds_left: u8::MAX,
        attempts: u8::MAX,
        origin: Origin::Rollback,
    });
    record.epoch_floor = u32::MAX;
    record.attempts_dropped = u32::MAX;
    record.audit.length = u64::MAX;
    record.audit.missed = u32::MAX;
    record.attempts = (0..u8::try_from(MAX_ATTEMPTS).unwrap())
        .map(|n| Attempt {
            boot_id: boot(n),
            slot: Some(Slot::Named),
            digest: Some(Digest([n; 32])),
            outcome: Outcome::TriesExhausted,
            reason: Reason::CommandLineFailed,
        })
        .collect();
    let block = codec::encode(&record).unwrap();
    assert_eq!(codec::decode(&block), Ok(record));
}

/// Every single-bit flip of either copy is detected, the other copy is used, and
/// the repair restores what was there.
#[test]
fn every_bit_flip_of_either_copy_is_survived() {
    let record = rich();
    let intact = Medium::holding(&record);
    for damaged in [Copy::Zero, Copy::One] {
        let mut medium = intact.clone();
        for bit in 0..BLOCK * 8 {
            medium.copy(damaged).as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
            match load(&mut &mut medium).verdict() {
                Verdict::OneCopy(found, copy) => {
                    assert_eq!((&*found, copy), (&record, damaged), "bit {bit}");
                }
                other => panic!("bit {bit} of {damaged:?}: {other:?}"),
            }
            if bit % 61 == 0 {
                assert!(Writer::new(&mut medium).repair().unwrap());
                assert_eq!(medium.copies, intact.copies, "bit {bit}");
            } else {
                medium.copy(damaged).as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

#[test]
fn every_truncation_of_either_copy_is_survived() {
    let record = rich();
    let intact = Medium::holding(&record);
    for damaged in [Copy::Zero, Copy::One] {
        for length in 0..BLOCK {
            let mut medium = intact.clone();
            medium.copy(damaged).as_mut().unwrap().truncate(length);
            let verdict = load(&mut &mut medium).verdict();
            assert!(
                matches!(verdict, Verdict::OneCopy(found, copy) if *found == record && copy == damaged)
            );
            assert!(Writer::new(&mut medium).repair().unwrap());
            assert_eq!(medium.copies, intact.copies);
        }
    }
}

#[test]
fn longer_files_and_foreign_files_are_no_records() {
    let block = codec::encode(&rich()).unwrap();
    let mut longer = block.to_vec();
    longer.push(0);
    assert_eq!(codec::decode(&longer), Err(CodecError::Size(BLOCK + 1)));
    assert_eq!(codec::decode(&[0; BLOCK]), Err(CodecError::Blank));
    assert_eq!(codec::decode(&[b'#'; BLOCK]), Err(CodecError::Magic));
}

/// Re-seals a block after a deliberate change.
fn sealed(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    let crc = crc32fast::hash(&block[..BLOCK - 4]).to_le_bytes();
    block[BLOCK - 4..].copy_from_slice(&crc);
    block
}

#[test]
fn a_newer_format_is_told_from_damage() {
    let mut block = codec::encode(&rich()).unwrap();
    block[8] = 2;
    assert_eq!(
        codec::decode(&sealed(block)),
        Err(CodecError::NewerFormat(FORMAT + 1))
    );
    assert_eq!(codec::decode(&block), Err(CodecError::Crc));
}

#[test]
fn a_sealed_lie_is_refused() {
    let good = codec::encode(&rich()).unwrap();
    for (at, value) in [(12, 0xff), (13, 0xff), (15, 0xff), (8, 0), (BLOCK - 5, 1)] {
        let mut block = good;
        block[at] = value;
        assert_eq!(
            codec::decode(&sealed(block)),
            Err(CodecError::Payload),
            "byte {at}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a sealed payload says, decoding answers and never panics.
    #[test]
    fn any_sealed_payload_is_answered(payload in proptest::collection::vec(any::<u8>(), 0..1024), length in 0u32..4096) {
        let mut block = codec::encode(&Record::default()).unwrap();
        block[12..16].copy_from_slice(&length.to_le_bytes());
        block[16..16 + payload.len()].copy_from_slice(&payload);
        if let Ok(record) = codec::decode(&sealed(block)) {
            prop_assert_eq!(codec::decode(&codec::encode(&record).unwrap()), Ok(record));
        }
    }

    #[test]
    fn any_record_of_counts_round_trips(sequence: u64, good_unblessed: u8, epoch_floor: u32, id: [u8; 16], n in 0u8..200) {
        let record = Record {
            sequence, good_unblessed, epoch_floor,
            good: Some(deployment(n)),
            last_boot: Some(LastBoot {
                boot_id: BootId(id), choice: Choice::Rescue, reason: Reason::NothingLeft, after_rescue: false,
                refunded: false, verdict: None,
            }),
            ..Record::default()
        };
        prop_assert_eq!(codec::decode(&codec::encode(&record).unwrap()), Ok(record));
    }
}
