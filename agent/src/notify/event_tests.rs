//! What is news, in a table of logs.

use op_dbus_activator::activation::Failed;
use op_dbus_bootstate::audit::{AuditHead, Event as Entry, Stamp, append};
use op_dbus_bootstate::record::Attempt;

use super::*;

fn digest(number: u8) -> Digest {
    Digest([number; 32])
}

fn version(number: u8) -> Version {
    format!("v1.{number}.0").parse().unwrap()
}

fn boot(number: u8) -> BootId {
    BootId([number; 16])
}

/// A line about version `number`.
fn about(kind: Kind, number: u8, detail: &str) -> Entry {
    Entry {
        version: Some(version(number)),
        digest: Some(digest(number)),
        boot: Some(boot(9)),
        ..Entry::general(kind, detail)
    }
}

/// What boot `at` did with version `number`, worded as the log words it.
fn tried(at: u8, slot: Slot, number: u8, outcome: Outcome, reason: Reason) -> Entry {
    Entry::attempt(&Attempt {
        boot_id: boot(at),
        slot: Some(slot),
        digest: Some(digest(number)),
        outcome,
        reason,
    })
}

fn took(at: u8, slot: Slot, number: u8, reason: Reason) -> Entry {
    tried(at, slot, number, Outcome::Selected, reason)
}

fn rescued(at: u8, reason: Reason) -> Entry {
    Entry::attempt(&Attempt {
        boot_id: boot(at),
        slot: None,
        digest: None,
        outcome: Outcome::Selected,
        reason,
    })
}

fn log(entries: Vec<Entry>) -> Vec<Line> {
    let mut head = AuditHead::default();
    let stamp = Stamp {
        time: "2026-11-23T12:00:00Z",
        ..Stamp::default()
    };
    let mut lines = Vec::new();
    for entry in entries {
        let (line, next) = append(head, entry, &stamp).unwrap();
        lines.push(serde_json::from_str(&line).unwrap());
        head = next;
    }
    lines
}

/// The news as `number event version from: reason`.
fn news(entries: Vec<Entry>) -> Vec<String> {
    let shown = |version: Option<Version>| version.map_or("-".to_owned(), |v| v.to_string());
    events(&log(entries), 0, None)
        .into_iter()
        .map(|event| {
            format!(
                "{} {} {} {}: {}",
                event.n.unwrap(),
                event.event.word(),
                shown(event.version),
                shown(event.from),
                event.reason
            )
        })
        .collect()
}

/// Version 0 is good and blessed, version 1 was staged.
fn upgrade(more: Vec<Entry>) -> Vec<Entry> {
    let mut all = vec![
        about(Kind::Blessed, 0, "was good"),
        about(Kind::Staged, 1, "upgrade"),
    ];
    all.extend(more);
    all
}

const STAGED: &str = "2 staged v1.1.0 -: upgrade";

#[test]
fn an_upgrade_that_works() {
    let log = upgrade(vec![
        took(1, Slot::Trial, 1, Reason::TrialDue),
        about(Kind::Blessed, 1, "was trial"),
        about(Kind::Ended, 1, ""),
        took(2, Slot::Good, 1, Reason::Regular),
        about(Kind::Blessed, 1, "was good"),
    ]);
    assert_eq!(news(log), [STAGED, "4 blessed v1.1.0 -: was trial"]);
}

#[test]
fn tries_used_up() {
    let log = upgrade(vec![
        took(1, Slot::Trial, 1, Reason::TrialDue),
        took(2, Slot::Trial, 1, Reason::TrialDue),
        tried(
            3,
            Slot::Trial,
            1,
            Outcome::TriesExhausted,
            Reason::TriesExhausted,
        ),
        took(3, Slot::Good, 0, Reason::TriesExhausted),
        // No second time for the same.
        took(4, Slot::Good, 0, Reason::Regular),
    ]);
    assert_eq!(
        news(log),
        [
            STAGED,
            "6 fell-back v1.0.0 v1.1.0: trial used up its tries; the trial used up its tries"
        ]
    );
}

#[test]
fn a_trial_that_could_not_be_activated() {
    let log = upgrade(vec![
        tried(1, Slot::Trial, 1, Outcome::Altered, Reason::CandidateFailed),
        took(1, Slot::Good, 0, Reason::CandidateFailed),
    ]);
    assert_eq!(
        news(log)[1],
        "4 fell-back v1.0.0 v1.1.0: trial altered since it was published; \
         a preferred version was missing, altered or could not be activated"
    );
}

#[test]
fn a_condemned_trial_is_told_with_its_reason() {
    let log = upgrade(vec![
        took(1, Slot::Trial, 1, Reason::TrialDue),
        about(Kind::Condemned, 1, "was trial: unit demo.service: failed"),
        took(2, Slot::Good, 0, Reason::Regular),
        took(3, Slot::Good, 0, Reason::Regular),
    ]);
    assert_eq!(
        news(log),
        [
            STAGED,
            "5 fell-back v1.0.0 v1.1.0: unit demo.service: failed"
        ]
    );
}

#[test]
fn a_condemned_good_is_no_fall_until_fallback_is_taken() {
    let log = upgrade(vec![
        about(Kind::Blessed, 1, "was trial"),
        about(Kind::Condemned, 1, "was good: slow"),
        took(2, Slot::Good, 1, Reason::Regular),
        about(Kind::Condemned, 1, "was good: slow"),
        took(3, Slot::Fallback, 0, Reason::GoodCondemned),
        about(Kind::Blessed, 0, "was fallback"),
    ]);
    assert_eq!(
        news(log)[2..],
        [
            "7 fell-back v1.0.0 v1.1.0: good was judged unhealthy twice",
            "8 blessed v1.0.0 -: was fallback"
        ]
    );
}

#[test]
fn a_trial_that_could_not_be_counted() {
    let log = upgrade(vec![took(1, Slot::Good, 0, Reason::NotDurable)]);
    assert_eq!(
        news(log)[1..],
        ["3 fell-back v1.0.0 -: the boot could not be counted durably, so no trial was run"]
    );
}

#[test]
fn good_at_its_limit() {
    let log = upgrade(vec![
        took(1, Slot::Good, 1, Reason::Regular),
        took(2, Slot::Fallback, 0, Reason::GoodLimit),
    ]);
    assert_eq!(
        news(log)[1..],
        ["4 fell-back v1.0.0 v1.1.0: good reached the limit of unblessed boots"]
    );
}

#[test]
fn a_trial_taken_back_is_no_fall() {
    let log = upgrade(vec![
        took(1, Slot::Trial, 1, Reason::TrialDue),
        about(Kind::Cancelled, 1, "after 1 boots"),
        took(2, Slot::Good, 0, Reason::Regular),
    ]);
    assert_eq!(news(log), [STAGED]);
}

#[test]
fn a_condemned_trial_that_is_tried_again_on_purpose_is_no_fall() {
    let log = upgrade(vec![
        took(1, Slot::Trial, 1, Reason::TrialDue),
        about(Kind::Condemned, 1, "was trial: no"),
        about(Kind::Staged, 1, "upgrade (quarantine overridden)"),
        took(2, Slot::Trial, 1, Reason::TrialDue),
        about(Kind::Cancelled, 1, ""),
        took(3, Slot::Good, 0, Reason::Regular),
    ]);
    assert_eq!(
        news(log),
        [STAGED, "5 staged v1.1.0 -: upgrade (quarantine overridden)"]
    );
}

#[test]
fn rescue_says_what_ran_before() {
    let log = upgrade(vec![
        took(1, Slot::Good, 0, Reason::Regular),
        rescued(2, Reason::NothingLeft),
        took(3, Slot::Good, 0, Reason::AfterRescue),
        rescued(4, Reason::GoodLimit),
    ]);
    assert_eq!(
        news(log)[1..],
        [
            "4 rescue - v1.0.0: no version that may be selected is left",
            "6 rescue - v1.0.0: good reached the limit of unblessed boots"
        ]
    );
}

#[test]
fn nothing_wanted_is_no_rescue() {
    let log = upgrade(vec![
        rescued(1, Reason::NothingInstalled),
        rescued(2, Reason::CommandLine),
    ]);
    assert_eq!(news(log), [STAGED]);
}

#[test]
fn the_operators_choice_is_no_news() {
    let log = upgrade(vec![
        took(1, Slot::Named, 1, Reason::CommandLine),
        took(2, Slot::Good, 0, Reason::CommandLineFailed),
    ]);
    assert_eq!(news(log), [STAGED]);
}

#[test]
fn lines_of_later_releases_are_passed_over() {
    let mut entries = upgrade(vec![about(Kind::Attempt, 1, "wholly: other words")]);
    entries.push(about(Kind::Unknown, 1, ""));
    assert_eq!(news(entries), [STAGED]);
}

#[test]
fn only_new_lines_are_news_and_old_ones_give_the_names() {
    let lines = log(upgrade(vec![
        tried(3, Slot::Trial, 1, Outcome::Missing, Reason::CandidateFailed),
        took(3, Slot::Good, 0, Reason::CandidateFailed),
    ]));
    let new = events(&lines, 3, None);
    assert_eq!(new.len(), 1);
    assert_eq!(new[0].version, Some(version(0)));
    assert_eq!(new[0].from, Some(version(1)));
    assert!(events(&lines, 4, None).is_empty());
}

fn activation(outcome: Activated) -> Activation {
    Activation {
        boot_id: Some(boot(4)),
        ..Activation::new(outcome, Reason::NothingLeft.sentence())
    }
}

#[test]
fn what_runs_gives_its_name() {
    let lines = log(vec![took(4, Slot::Fallback, 5, Reason::GoodLimit)]);
    assert_eq!(events(&lines, 0, None)[0].version, None);
    let running = Activation {
        digest: Some(digest(5)),
        version: Some(version(5)),
        ..activation(Activated::Activated)
    };
    assert_eq!(
        events(&lines, 0, Some(&running))[0].version,
        Some(version(5))
    );
}

#[test]
fn a_rescue_shows_without_a_log() {
    assert_eq!(rescue(&activation(Activated::Activated)), None);
    assert_eq!(rescue(&activation(Activated::Off)), None);
    let mut wanted = activation(Activated::Rescue);
    wanted.source = Source::CommandLine;
    assert_eq!(rescue(&wanted), None);
    let new = Activation::new(Activated::Rescue, Reason::NothingInstalled.sentence());
    assert_eq!(rescue(&new), None);

    let mut bad = activation(Activated::Rescue);
    bad.failures.push(Failed {
        slot: Slot::Good,
        version: version(1),
        reason: "altered".to_owned(),
    });
    let event = rescue(&bad).unwrap();
    assert_eq!((event.from, event.boot), (Some(version(1)), Some(boot(4))));
    assert!(rescue(&activation(Activated::Failed)).is_some());
}

#[test]
fn hooks_read_one_stable_object() {
    let lines = log(vec![
        about(Kind::Staged, 1, "upgrade"),
        tried(3, Slot::Trial, 1, Outcome::Missing, Reason::CandidateFailed),
        took(3, Slot::Good, 0, Reason::CandidateFailed),
    ]);
    let event = events(&lines, 1, None).remove(0);
    let expected = format!(
        r#"{{"schema":1,"event":"fell-back","version":null,"digest":"{}","from":"v1.1.0","reason":"trial missing from the store; a preferred version was missing, altered or could not be activated","boot":"{}","time":"2026-11-23T12:00:00Z","n":3}}"#,
        digest(0),
        boot(3)
    );
    assert_eq!(serde_json::to_string(&event).unwrap(), expected);
}
