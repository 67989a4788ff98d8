//! What lines come to.

use super::*;
use op_dbus_bootstate::audit::Event;

const GOOD: Digest = Digest([1; 32]);
const TRIED: Digest = Digest([2; 32]);

fn boot_id(boot: u8) -> BootId {
    BootId([boot; 16])
}

fn name(digest: Digest) -> Version {
    if digest == GOOD { "v1.0.0" } else { "v1.1.0" }
        .parse()
        .unwrap()
}

/// A line written in a boot: about itself, or about an earlier one.
fn line(kind: Kind, wrote: u8, about: u8, digest: Option<Digest>, detail: &str) -> Line {
    Line {
        n: 1,
        time: format!("2026-11-23T10:0{wrote}:00Z"),
        boot: Some(boot_id(about)),
        up_ms: (wrote == about).then_some(41_000),
        actor: "test".to_owned(),
        event: kind,
        version: digest.map(name),
        digest,
        ending: None,
        rotation: None,
        detail: detail.to_owned(),
        prev: Digest([0; 32]),
    }
}

fn attempt(
    slot: Option<Slot>,
    digest: Option<Digest>,
    outcome: Outcome,
    reason: Reason,
) -> record::Attempt {
    record::Attempt {
        boot_id: boot_id(0),
        slot,
        digest,
        outcome,
        reason,
    }
}

fn attempted(wrote: u8, about: u8, what: &record::Attempt) -> Line {
    let detail = Event::attempt(what).detail;
    line(Kind::Attempt, wrote, about, what.digest, &detail)
}

fn trial() -> record::Attempt {
    attempt(
        Some(Slot::Trial),
        Some(TRIED),
        Outcome::Selected,
        Reason::TrialDue,
    )
}

fn good() -> record::Attempt {
    attempt(
        Some(Slot::Good),
        Some(GOOD),
        Outcome::Selected,
        Reason::Regular,
    )
}

fn ended(wrote: u8, about: u8, ending: Ending, words: &str) -> Line {
    Line {
        ending: Some(ending),
        ..line(Kind::Ended, wrote, about, None, words)
    }
}

#[test]
fn a_condemned_trial_and_the_boot_after_it() {
    let lines = [
        line(Kind::Staged, 1, 1, Some(TRIED), "upgrade"),
        attempted(2, 2, &trial()),
        line(
            Kind::Condemned,
            2,
            2,
            Some(TRIED),
            "was trial: unit demo.service: failed",
        ),
        ended(3, 2, Ending::Orderly, "it was shut down in order"),
        attempted(3, 3, &good()),
        line(Kind::Blessed, 3, 3, Some(GOOD), "was good"),
    ];
    let history = History::new(&lines, &[]);
    let [now, before] = history.boots() else {
        panic!("the boot that only staged is none of them: {history:?}");
    };
    assert_eq!(before.slot, Some(Slot::Trial));
    assert_eq!(before.version, Some(name(TRIED)));
    assert_eq!(before.verdict, Some(Verdict::Condemned));
    assert_eq!(before.why.as_deref(), Some("unit demo.service: failed"));
    assert_eq!(before.verdict_ms, Some(41_000));
    assert_eq!(before.ending, Some(Ending::Orderly));
    assert_eq!(before.time.as_deref(), Some("2026-11-23T10:02:00Z"));
    assert_eq!(
        (now.verdict, now.reason),
        (Some(Verdict::Blessed), Some(Reason::Regular))
    );
    assert_eq!(now.ending, None);
    assert_eq!(history.staged(), Some(TRIED));
    assert_eq!(history.condemned(&TRIED), Some("unit demo.service: failed"));
    assert_eq!(history.condemned(&GOOD), None);
}

#[test]
fn a_boot_that_said_nothing_has_no_time_of_its_own() {
    let lines = [
        attempted(5, 2, &trial()),
        ended(5, 2, Ending::Panic, "the kernel panicked"),
        attempted(5, 5, &good()),
    ];
    let history = History::new(&lines, &[]);
    let before = &history.boots()[1];
    assert_eq!((before.time.as_deref(), before.verdict_ms), (None, None));
    assert_eq!(before.logged.as_deref(), Some("2026-11-23T10:05:00Z"));
    assert_eq!(before.ending, Some(Ending::Panic));
}

#[test]
fn who_was_passed_over_is_told_beside_who_was_chosen() {
    let missing = attempt(
        Some(Slot::Trial),
        Some(TRIED),
        Outcome::TriesExhausted,
        Reason::TrialDue,
    );
    let chosen = attempt(
        Some(Slot::Good),
        Some(GOOD),
        Outcome::Selected,
        Reason::TriesExhausted,
    );
    // Once in the log, once more in the record that was read meanwhile.
    let waiting = record::Attempt {
        boot_id: boot_id(3),
        ..missing.clone()
    };
    let history = History::new(
        &[attempted(3, 3, &missing), attempted(3, 3, &chosen)],
        &[waiting],
    );
    let [boot] = history.boots() else {
        panic!("{history:?}");
    };
    assert_eq!(boot.slot, Some(Slot::Good));
    assert_eq!(boot.reason, Some(Reason::TriesExhausted));
    let passed: Vec<_> = boot
        .passed
        .iter()
        .map(|passed| (passed.version.clone(), passed.outcome))
        .collect();
    assert_eq!(passed, [(Some(name(TRIED)), Outcome::TriesExhausted)]);
}

#[test]
fn what_could_not_be_mounted_did_not_run() {
    let failed = attempt(
        Some(Slot::Trial),
        Some(TRIED),
        Outcome::ActivationFailed,
        Reason::TrialDue,
    );
    let history = History::new(&[attempted(3, 3, &trial()), attempted(3, 3, &failed)], &[]);
    let boot = &history.boots()[0];
    assert_eq!((boot.slot, boot.is_known), (None, false));
    let rescue = attempt(None, None, Outcome::Selected, Reason::NothingLeft);
    let lines = [
        attempted(3, 3, &trial()),
        attempted(3, 3, &failed),
        attempted(3, 3, &rescue),
    ];
    let history = History::new(&lines, &[]);
    let boot = &history.boots()[0];
    assert_eq!(
        (boot.slot, boot.is_known, boot.passed.len()),
        (None, true, 1)
    );
}

#[test]
fn attempts_the_log_does_not_have_yet_come_from_the_record() {
    let waiting = record::Attempt {
        boot_id: boot_id(7),
        ..trial()
    };
    let lines = [line(Kind::Received, 1, 1, Some(TRIED), "")];
    let history = History::new(&lines, &[waiting]);
    let [boot] = history.boots() else {
        panic!("{history:?}");
    };
    assert_eq!(boot.version, Some(name(TRIED)), "named by another line");
    assert_eq!((&boot.time, &boot.logged), (&None, &None));
}

#[test]
fn lines_without_a_boot_and_of_other_kinds_are_no_boots() {
    let mut unbound = attempted(1, 1, &trial());
    unbound.boot = None;
    let lines = [
        unbound,
        line(Kind::Staged, 1, 1, Some(TRIED), ""),
        line(Kind::Cancelled, 1, 1, Some(TRIED), ""),
        line(Kind::Unknown, 1, 1, None, "of a later release"),
    ];
    let history = History::new(&lines, &[]);
    assert!(history.boots().is_empty());
    assert_eq!(history.staged(), None);
}
