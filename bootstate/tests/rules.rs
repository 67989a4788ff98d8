//! The eleven rules of the state machine, one by one (docs/ARCHITECTURE.md).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{LIMITS, boot, deployment};
use op_dbus_bootstate::audit::Kind;
use op_dbus_bootstate::cmdline::Select;
use op_dbus_bootstate::quarantine::Cause;
use op_dbus_bootstate::record::{Deployment, Escalation, Next, Outcome, Reason, Record, Slot};
use op_dbus_bootstate::select::{BootInput, Failure, Selection, select};
use op_dbus_bootstate::transition::{
    Blessed, Overrides, Refusal, RolledBack, Running, Staged, bless, cancel, condemn,
    hand_over_attempts, orderly_shutdown, rollback, stage, undecided,
};

fn input(n: u8) -> BootInput<'static> {
    BootInput {
        boot_id: boot(n),
        select: None,
        named: None,
        limits: LIMITS,
        durable: true,
        failures: &[],
    }
}

/// Version 1 good, version 0 fallback.
fn device() -> Record {
    Record {
        good: Some(deployment(1)),
        fallback: Some(deployment(0)),
        ..Record::default()
    }
}

fn staged(record: &Record, n: u8) -> Record {
    let change = stage(record, &deployment(n), LIMITS, Overrides::default(), |_| {
        true
    })
    .unwrap();
    change.record.unwrap()
}

/// Boots; the record afterwards and what runs.
fn booted(record: &Record, n: u8) -> (Record, Running) {
    let selection = select(record, &input(n));
    let record = selection.record.clone().unwrap_or_else(|| record.clone());
    (record, running(&selection, n))
}

fn running(selection: &Selection, n: u8) -> Running {
    let (slot, chosen) = selection.candidate.clone().expect("something was selected");
    Running {
        boot_id: boot(n),
        slot,
        version: chosen.version,
        digest: chosen.digest,
        counted: selection.counted,
    }
}

fn failure(slot: Slot, n: u8, outcome: Outcome) -> Failure {
    Failure {
        slot,
        digest: deployment(n).digest,
        outcome,
    }
}

fn chosen(selection: &Selection) -> Option<(Slot, Deployment)> {
    selection.candidate.clone()
}

#[test]
fn rule_1_trial_then_good_then_fallback_then_rescue() {
    let record = staged(&device(), 2);
    let first = select(&record, &input(1));
    assert_eq!(chosen(&first), Some((Slot::Trial, deployment(2))));
    assert_eq!(first.record.unwrap().trial.unwrap().tries_left, 2);

    let altered = [failure(Slot::Trial, 2, Outcome::Altered)];
    let second = select(
        &record,
        &BootInput {
            failures: &altered,
            ..input(1)
        },
    );
    assert_eq!(chosen(&second), Some((Slot::Good, deployment(1))));
    let kept = second.record.unwrap();
    assert_eq!(
        kept.trial, None,
        "what was altered never becomes intact again"
    );
    assert!(
        !kept.quarantine.contains(&deployment(2).digest),
        "but a fresh copy of it may be staged"
    );

    let both = [
        failure(Slot::Trial, 2, Outcome::Missing),
        failure(Slot::Good, 1, Outcome::Altered),
    ];
    let third = select(
        &record,
        &BootInput {
            failures: &both,
            ..input(1)
        },
    );
    assert_eq!(chosen(&third), Some((Slot::Fallback, deployment(0))));

    let all = [
        both[0].clone(),
        both[1].clone(),
        failure(Slot::Fallback, 0, Outcome::Missing),
    ];
    let last = select(
        &record,
        &BootInput {
            failures: &all,
            ..input(1)
        },
    );
    assert_eq!((chosen(&last), last.reason), (None, Reason::NothingLeft));
}

#[test]
fn rule_1_what_is_quarantined_is_skipped_in_every_role() {
    let (record, bad) = booted(&staged(&device(), 2), 1);
    let record = condemn(&record, &bad, "").unwrap().record.unwrap();
    assert!(record.quarantine.contains(&deployment(2).digest));
    let on_trial = Record {
        trial: staged(&device(), 2).trial,
        ..record.clone()
    };
    let as_good = Record {
        good: Some(deployment(2)),
        ..record.clone()
    };
    let everywhere = Record {
        fallback: Some(deployment(2)),
        ..as_good.clone()
    };
    for (record, expected) in [
        (on_trial, Some((Slot::Good, deployment(1)))),
        (as_good, Some((Slot::Fallback, deployment(0)))),
        (everywhere, None),
    ] {
        assert_eq!(chosen(&select(&record, &input(2))), expected);
    }
}

#[test]
fn rule_1_without_a_durable_count_the_trial_is_not_run() {
    let record = staged(&device(), 2);
    let selection = select(
        &record,
        &BootInput {
            durable: false,
            ..input(1)
        },
    );
    assert_eq!(chosen(&selection), Some((Slot::Good, deployment(1))));
    assert_eq!(
        (selection.reason, selection.counted, selection.record),
        (Reason::NotDurable, false, None)
    );
}

#[test]
fn rule_2_the_same_kernel_boot_gets_the_same_answer_uncounted() {
    let (record, _) = booted(&staged(&device(), 2), 1);
    let again = select(&record, &input(1));
    assert_eq!(chosen(&again), Some((Slot::Trial, deployment(2))));
    assert_eq!((again.reason, again.record), (Reason::SameBoot, None));
    let next = select(&record, &input(2));
    assert_eq!(
        next.record.unwrap().trial.unwrap().tries_left,
        1,
        "another kernel boot counts"
    );
}

#[test]
fn rule_2_a_condemned_choice_is_not_repeated_in_the_same_boot() {
    let (record, running) = booted(&staged(&device(), 2), 1);
    let record = condemn(&record, &running, "died").unwrap().record.unwrap();
    assert_eq!(
        chosen(&select(&record, &input(1))),
        Some((Slot::Good, deployment(1)))
    );

    let (record, running) = booted(&device(), 1);
    let record = condemn(&record, &running, "died").unwrap().record.unwrap();
    assert_eq!(
        chosen(&select(&record, &input(1))),
        Some((Slot::Fallback, deployment(0)))
    );
}

#[test]
fn rule_2_a_blessed_trial_is_the_same_choice_in_its_new_role() {
    let (record, running) = booted(&staged(&device(), 2), 1);
    let record = bless(&record, &running).unwrap().record.unwrap();
    assert_eq!(
        chosen(&select(&record, &input(1))),
        Some((Slot::Good, deployment(2)))
    );
}

#[test]
fn rule_3_used_up_tries_are_quarantined_and_good_comes_up_in_that_same_boot() {
    let mut record = staged(&device(), 2);
    for n in 1..=3 {
        (record, _) = booted(&record, n);
    }
    let fourth = select(&record, &input(4));
    assert_eq!(chosen(&fourth), Some((Slot::Good, deployment(1))));
    assert_eq!(fourth.reason, Reason::TriesExhausted);
    let record = fourth.record.unwrap();
    assert_eq!(record.trial, None);
    assert_eq!(
        record.quarantine.get(&deployment(2).digest).unwrap().cause,
        Cause::TriesExhausted
    );
}

#[test]
fn rule_3_an_activation_error_quarantines_a_trial_but_never_good() {
    let (counted, _) = booted(&staged(&device(), 2), 1);
    let failures = [failure(Slot::Trial, 2, Outcome::ActivationFailed)];
    let next = select(
        &counted,
        &BootInput {
            failures: &failures,
            ..input(1)
        },
    );
    assert_eq!(chosen(&next), Some((Slot::Good, deployment(1))));
    let record = next.record.unwrap();
    assert_eq!(
        record.quarantine.get(&deployment(2).digest).unwrap().cause,
        Cause::ActivationFailed
    );

    let both = [
        failures[0].clone(),
        failure(Slot::Good, 1, Outcome::ActivationFailed),
    ];
    let next = select(
        &record,
        &BootInput {
            failures: &both,
            ..input(1)
        },
    );
    assert_eq!(chosen(&next), Some((Slot::Fallback, deployment(0))));
    assert!(
        !next
            .record
            .unwrap()
            .quarantine
            .contains(&deployment(1).digest)
    );
}

#[test]
fn rule_4_unblessed_boots_go_from_good_to_fallback_to_rescue_and_back_to_good() {
    let mut record = device();
    let mut slots = Vec::new();
    for n in 1..=13 {
        let selection = select(&record, &input(n));
        slots.push(selection.candidate.as_ref().map(|(slot, _)| *slot));
        record = selection.record.unwrap();
    }
    let (good, fallback) = (Some(Slot::Good), Some(Slot::Fallback));
    assert_eq!(slots[..5], [good; 5]);
    assert_eq!(slots[5..10], [fallback; 5]);
    assert_eq!(
        slots[10..],
        [None, good, None],
        "rescue is not sticky: good gets one attempt"
    );
    assert!(record.quarantine.entries().is_empty());
}

/// Found by the exhaustive search: the boot after a rescue counted good, failed to
/// mount it, and then held fallback's used-up limit against it, for ever.
#[test]
fn rule_4_the_boot_after_rescue_goes_on_to_fallback_when_good_can_not_be_activated() {
    let mut record = Record {
        good_unblessed: 5,
        fallback_unblessed: 5,
        ..device()
    };
    record = select(&record, &input(1)).record.unwrap();
    record = select(&record, &input(2)).record.unwrap();
    let failures = [failure(Slot::Good, 1, Outcome::ActivationFailed)];
    let next = select(
        &record,
        &BootInput {
            failures: &failures,
            ..input(2)
        },
    );
    assert_eq!(chosen(&next), Some((Slot::Fallback, deployment(0))));
}

#[test]
fn rule_5_a_condemned_trial_is_quarantined_and_good_returns() {
    let (record, running) = booted(&staged(&device(), 2), 1);
    let change = condemn(&record, &running, "service died").unwrap();
    assert_eq!(change.outcome, Next::Reboot);
    assert_eq!(change.events[0].kind, Kind::Condemned);
    let record = change.record.unwrap();
    assert_eq!(record.trial, None);
    assert_eq!(
        chosen(&select(&record, &input(2))),
        Some((Slot::Good, deployment(1)))
    );
    assert_eq!(
        condemn(&record, &running, "again").unwrap().record,
        None,
        "once per boot"
    );
}

#[test]
fn rule_5_a_condemned_good_gets_a_reboot_then_fallback_once_then_peace() {
    let mut record = device();
    let mut told = Vec::new();
    for n in 1..=4 {
        let (booted, running) = booted(&record, n);
        let change = condemn(&booted, &running, "unhealthy").unwrap();
        told.push((running.slot, change.outcome));
        record = change.record.unwrap();
    }
    assert_eq!(
        told,
        [
            (Slot::Good, Next::Reboot),
            (Slot::Good, Next::Reboot),
            (Slot::Fallback, Next::Reboot),
            (Slot::Good, Next::StayUp)
        ]
    );
    assert_eq!(
        record.good_unblessed, 0,
        "judged boots never add up to rescue"
    );
}

#[test]
fn rule_5_without_fallback_a_condemned_good_stays_up_after_one_reboot() {
    let mut record = Record {
        fallback: None,
        ..device()
    };
    for (n, expected) in [(1, Next::Reboot), (2, Next::StayUp), (3, Next::StayUp)] {
        let (booted, running) = booted(&record, n);
        let change = condemn(&booted, &running, "unhealthy").unwrap();
        assert_eq!(change.outcome, expected, "boot {n}");
        record = change.record.unwrap();
    }
}

#[test]
fn rule_5_a_health_verdict_never_leads_to_rescue() {
    let record = staged(&Record::default(), 2);
    let (record, running) = booted(&record, 1);
    assert_eq!(
        condemn(&record, &running, "unhealthy").unwrap().outcome,
        Next::StayUp
    );
}

#[test]
fn rule_5_what_is_not_known_condemns_nothing_and_only_a_trial_is_tried_again() {
    let (on_trial, running) = booted(&staged(&device(), 2), 1);
    assert_eq!(undecided(&on_trial, &running), Next::Reboot);
    // Decided already, by whoever was faster.
    let condemned = condemn(&on_trial, &running, "smoke").unwrap();
    assert_eq!(
        undecided(&condemned.record.unwrap(), &running),
        Next::StayUp
    );
    let blessed = bless(&on_trial, &running).unwrap().record.unwrap();
    assert_eq!(undecided(&blessed, &running), Next::StayUp);
    let cancelled = cancel(&on_trial).record.unwrap();
    assert_eq!(undecided(&cancelled, &running), Next::StayUp);
    // Not this boot's to say, or not counted.
    let other = Running {
        boot_id: boot(9),
        ..running.clone()
    };
    assert_eq!(undecided(&on_trial, &other), Next::StayUp);
    let uncounted = Running {
        counted: false,
        ..running
    };
    assert_eq!(undecided(&on_trial, &uncounted), Next::StayUp);
    let judged = condemn(&on_trial, &uncounted, "").unwrap();
    assert_eq!((judged.outcome, judged.record), (Next::StayUp, None));

    let (good, running) = booted(&device(), 1);
    assert_eq!(undecided(&good, &running), Next::StayUp);
}

#[test]
fn rule_5_and_7_a_trial_that_is_never_known_runs_for_its_tries_and_refunds() {
    let mut record = staged(&device(), 2);
    let mut boots = 0;
    loop {
        let (next, running) = booted(&record, boots + 1);
        record = next;
        if undecided(&record, &running) == Next::StayUp {
            break;
        }
        boots += 1;
        if let Some(next) = orderly_shutdown(&record, &running).record {
            record = next;
        }
    }
    assert_eq!(boots, LIMITS.tries + LIMITS.refunds);
    let entry = record.quarantine.get(&deployment(2).digest).unwrap();
    assert_eq!(entry.cause, Cause::TriesExhausted);
}

#[test]
fn rule_5_and_6_bind_to_the_boot_and_the_version() {
    let (record, running) = booted(&staged(&device(), 2), 1);
    let (later, _) = booted(&record, 2);
    assert!(matches!(
        bless(&later, &running),
        Err(Refusal::OtherBoot { .. })
    ));
    assert!(matches!(
        condemn(&later, &running, ""),
        Err(Refusal::OtherBoot { .. })
    ));
    let other = Running {
        digest: deployment(9).digest,
        ..running.clone()
    };
    assert!(bless(&record, &other).is_err());
    // In the record, too, but not what this boot was counted for.
    let good = Running {
        slot: Slot::Good,
        version: deployment(1).version,
        digest: deployment(1).digest,
        ..running
    };
    assert!(matches!(
        bless(&record, &good),
        Err(Refusal::OtherBoot { .. })
    ));
}

#[test]
fn rule_6_bless_moves_the_roles_and_clears_the_counters() {
    let mut record = staged(&device(), 2);
    record.trial.as_mut().unwrap().deployment.epoch = 4;
    let (record, running) = booted(&record, 1);
    let change = bless(&record, &running).unwrap();
    assert_eq!(change.outcome, Blessed::Trial);
    let record = change.record.unwrap();
    assert_eq!(record.good.as_ref().unwrap().version, deployment(2).version);
    assert_eq!(record.fallback, Some(deployment(1)));
    assert_eq!((&record.trial, record.epoch_floor), (&None, 4));
    assert_eq!(
        bless(&record, &running).unwrap().record,
        None,
        "blessing twice is one bless"
    );

    let (record, running) = booted(
        &Record {
            good_unblessed: 3,
            escalation: Escalation::GoodRetried,
            ..device()
        },
        1,
    );
    let record = bless(&record, &running).unwrap().record.unwrap();
    assert_eq!(
        (record.good_unblessed, record.escalation),
        (0, Escalation::None)
    );
}

#[test]
fn rule_6_a_blessed_fallback_is_good_and_leaves_no_fallback() {
    let (record, running) = booted(
        &Record {
            good_unblessed: 5,
            ..device()
        },
        1,
    );
    assert_eq!(running.slot, Slot::Fallback);
    let record = bless(&record, &running).unwrap().record.unwrap();
    assert_eq!((record.good, record.fallback), (Some(deployment(0)), None));
}

/// Fallback runs because good can't; the operator stages it, and it is blessed.
#[test]
fn rule_6_what_became_good_is_no_longer_on_trial() {
    let altered = [failure(Slot::Good, 1, Outcome::Altered)];
    let selection = select(
        &device(),
        &BootInput {
            failures: &altered,
            ..input(1)
        },
    );
    let on_trial_too = staged(selection.record.as_ref().unwrap(), 0);
    let change = bless(&on_trial_too, &running(&selection, 1)).unwrap();
    assert_eq!(change.outcome, Blessed::Fallback);
    let blessed = change.record.unwrap();
    assert_eq!(blessed.good, Some(deployment(0)));
    assert_eq!(blessed.trial, None, "it would end as its own fallback");
}

#[test]
fn rule_6_neither_a_condemned_nor_a_cancelled_trial_can_be_blessed() {
    let (record, running) = booted(&staged(&device(), 2), 1);
    let condemned = condemn(&record, &running, "").unwrap().record.unwrap();
    assert!(matches!(
        bless(&condemned, &running),
        Err(Refusal::Condemned(_))
    ));
    let cancelled = cancel(&record).record.unwrap();
    assert!(matches!(
        bless(&cancelled, &running),
        Err(Refusal::NoLongerOnTrial(_))
    ));
}

#[test]
fn rule_7_orderly_shutdowns_give_the_try_back_while_refunds_last() {
    let mut record = staged(&device(), 2);
    for n in 1..=3 {
        let (booted, running) = booted(&record, n);
        let change = orderly_shutdown(&booted, &running);
        assert!(change.outcome);
        record = change.record.unwrap();
        assert_eq!(record.trial.as_ref().unwrap().tries_left, 3);
        assert!(
            !orderly_shutdown(&record, &running).outcome,
            "once per boot"
        );
    }
    for n in 4..=6 {
        let (booted, running) = booted(&record, n);
        assert!(
            !orderly_shutdown(&booted, &running).outcome,
            "refunds are used up"
        );
        record = booted;
    }
    assert_eq!(
        chosen(&select(&record, &input(7))),
        Some((Slot::Good, deployment(1)))
    );
}

#[test]
fn rule_7_good_and_judged_trials_get_no_refund() {
    let (record, running) = booted(&device(), 1);
    assert!(!orderly_shutdown(&record, &running).outcome);
    let (record, running) = booted(&staged(&device(), 2), 1);
    let condemned = condemn(&record, &running, "").unwrap().record.unwrap();
    assert!(!orderly_shutdown(&condemned, &running).outcome);
    let blessed = bless(&record, &running).unwrap().record.unwrap();
    assert!(!orderly_shutdown(&blessed, &running).outcome);
}

#[test]
fn rule_8_rollback_tries_fallback_and_good_stays_until_bless() {
    let change = rollback(&device(), None, LIMITS, Overrides::default(), |_| true).unwrap();
    assert_eq!(change.outcome, RolledBack::OnTrial(deployment(0).version));
    let record = change.record.unwrap();
    assert_eq!(record.good, Some(deployment(1)));
    let (record, running) = booted(&record, 1);
    let record = bless(&record, &running).unwrap().record.unwrap();
    assert_eq!(
        (record.good, record.fallback),
        (Some(deployment(0)), Some(deployment(1)))
    );
}

#[test]
fn rule_8_with_a_trial_rollback_only_takes_the_trial_back() {
    let (record, _) = booted(&staged(&device(), 2), 1);
    let change = rollback(&record, None, LIMITS, Overrides::default(), |_| true).unwrap();
    assert_eq!(
        change.outcome,
        RolledBack::CancelledTrial(deployment(2).version)
    );
    let record = change.record.unwrap();
    assert_eq!(record.trial, None);
    assert!(record.quarantine.entries().is_empty());
}

#[test]
fn rule_8_fallback_is_exempt_from_the_floor_and_others_are_not() {
    let record = Record {
        epoch_floor: 3,
        ..device()
    };
    assert!(rollback(&record, None, LIMITS, Overrides::default(), |_| true).is_ok());
    let other = rollback(
        &record,
        Some(&deployment(5)),
        LIMITS,
        Overrides::default(),
        |_| true,
    );
    assert!(matches!(
        other,
        Err(Refusal::EpochBelowFloor { floor: 3, .. })
    ));
    let forced = Overrides {
        old_epoch: true,
        ..Overrides::default()
    };
    assert!(rollback(&record, Some(&deployment(5)), LIMITS, forced, |_| true).is_ok());
    let none = Record {
        fallback: None,
        ..record
    };
    let refused = rollback(&none, None, LIMITS, Overrides::default(), |_| true);
    assert_eq!(refused.unwrap_err(), Refusal::NoFallback);
}

/// The last resort is not thrown away because a rollback to it met three power cuts.
#[test]
fn rule_8_a_failed_rollback_does_not_quarantine_the_fallback() {
    let mut record = rollback(&device(), None, LIMITS, Overrides::default(), |_| true)
        .unwrap()
        .record
        .unwrap();
    for n in 1..=4 {
        (record, _) = booted(&record, n);
    }
    assert_eq!(record.trial, None);
    let failures = [failure(Slot::Good, 1, Outcome::Altered)];
    let selection = select(
        &record,
        &BootInput {
            failures: &failures,
            ..input(5)
        },
    );
    assert_eq!(chosen(&selection), Some((Slot::Fallback, deployment(0))));
}

#[test]
fn rule_9_stage_replaces_what_has_not_booted_and_refuses_what_has() {
    let record = staged(&device(), 2);
    let change = stage(
        &record,
        &deployment(3),
        LIMITS,
        Overrides::default(),
        |_| true,
    )
    .unwrap();
    assert_eq!(
        change.outcome,
        Staged::OnTrial {
            replaced: Some(deployment(2).version)
        }
    );
    assert_eq!(
        change
            .events
            .iter()
            .map(|event| event.kind)
            .collect::<Vec<_>>(),
        [Kind::Replaced, Kind::Staged]
    );

    let (record, _) = booted(&record, 1);
    let refused = stage(
        &record,
        &deployment(3),
        LIMITS,
        Overrides::default(),
        |_| true,
    );
    assert_eq!(
        refused.unwrap_err(),
        Refusal::TrialRunning(deployment(2).version)
    );
}

#[test]
fn rule_9_staging_what_is_good_or_staged_already_does_nothing() {
    let change = stage(
        &device(),
        &deployment(1),
        LIMITS,
        Overrides::default(),
        |_| true,
    )
    .unwrap();
    assert_eq!((change.outcome, change.record), (Staged::AlreadyGood, None));
    let record = staged(&device(), 2);
    let change = stage(
        &record,
        &deployment(2),
        LIMITS,
        Overrides::default(),
        |_| true,
    )
    .unwrap();
    assert_eq!(
        (change.outcome, change.record),
        (Staged::AlreadyStaged, None)
    );
}

#[test]
fn rule_9_quarantine_and_floor_need_an_explicit_word_that_is_audited() {
    let (record, running) = booted(&staged(&device(), 2), 1);
    let record = condemn(&record, &running, "").unwrap().record.unwrap();
    let refused = stage(
        &record,
        &deployment(2),
        LIMITS,
        Overrides::default(),
        |_| true,
    );
    assert!(matches!(
        refused,
        Err(Refusal::Quarantined {
            cause: Cause::Condemned,
            ..
        })
    ));
    let forced = Overrides {
        quarantined: true,
        ..Overrides::default()
    };
    let change = stage(&record, &deployment(2), LIMITS, forced, |_| true).unwrap();
    assert_eq!(change.events[0].kind, Kind::Released);
    let (_, running) = booted(&change.record.unwrap(), 2);
    assert_eq!(running.digest, deployment(2).digest);
}

#[test]
fn rule_10_stage_is_refused_when_no_bad_version_could_be_remembered() {
    let mut record = device();
    for n in 10..26 {
        let (booted, running) = booted(&staged(&record, n), n);
        record = condemn(&booted, &running, "").unwrap().record.unwrap();
    }
    assert_eq!(record.quarantine.entries().len(), 16);
    let refused = stage(
        &record,
        &deployment(30),
        LIMITS,
        Overrides::default(),
        |_| true,
    );
    assert_eq!(refused.unwrap_err(), Refusal::QuarantineFull);
    let gone = deployment(12).digest;
    let change = stage(
        &record,
        &deployment(30),
        LIMITS,
        Overrides::default(),
        |digest| *digest != gone,
    )
    .unwrap();
    let record = change.record.unwrap();
    assert!(!record.quarantine.contains(&gone));
    assert!(
        record.quarantine.contains(&deployment(10).digest),
        "still in the store, still refused"
    );
}

#[test]
fn rule_11_the_operator_chooses_uncounted_and_unblessable_even_from_quarantine() {
    let (record, running_bad) = booted(&staged(&device(), 2), 1);
    let record = condemn(&record, &running_bad, "").unwrap().record.unwrap();
    let bad = deployment(2);
    let choice = Select::Version(bad.version.clone());
    let selection = select(
        &record,
        &BootInput {
            select: Some(&choice),
            named: Some(&bad),
            ..input(2)
        },
    );
    assert_eq!(chosen(&selection), Some((Slot::Named, bad)));
    assert_eq!((selection.counted, &selection.record), (false, &None));
    let running = running(&selection, 2);
    assert!(matches!(
        bless(&record, &running),
        Err(Refusal::ByOperator(_))
    ));
    assert_eq!(
        condemn(&record, &running, "").unwrap().outcome,
        Next::StayUp
    );

    let none = select(
        &record,
        &BootInput {
            select: Some(&Select::None),
            ..input(2)
        },
    );
    assert_eq!(chosen(&none), None);
    let typo = Select::Version("v9.9.9".parse().unwrap());
    let safest = select(
        &record,
        &BootInput {
            select: Some(&typo),
            ..input(2)
        },
    );
    assert_eq!(
        (chosen(&safest), safest.reason),
        (Some((Slot::Good, deployment(1))), Reason::CommandLineFailed)
    );
}

#[test]
fn attempts_wait_in_the_record_until_the_log_takes_them() {
    let mut record = staged(&device(), 2);
    for n in 1..=20 {
        record = select(&record, &input(n)).record.unwrap();
    }
    assert_eq!(record.attempts.len(), 16);
    let (after, events) = hand_over_attempts(&record).unwrap();
    assert_eq!(events[0].kind, Kind::AttemptsDropped);
    assert_eq!(events.len(), 17);
    assert!(
        events[1..]
            .iter()
            .all(|event| event.version.is_some() || event.digest.is_none())
    );
    assert_eq!(hand_over_attempts(&after), None);
}

#[test]
fn a_device_without_any_version_boots_on() {
    let selection = select(&Record::default(), &input(1));
    assert_eq!(
        (chosen(&selection), selection.reason),
        (None, Reason::NothingInstalled)
    );
    let record = staged(&Record::default(), 1);
    let (record, running) = booted(&record, 2);
    let record = bless(&record, &running).unwrap().record.unwrap();
    assert_eq!((record.good, record.fallback), (Some(deployment(1)), None));
    assert_eq!(record.trial, None);
}
