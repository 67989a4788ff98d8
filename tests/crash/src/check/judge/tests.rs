//! Each check can fail: a sight that agrees with the facts, and what happens when
//! one thing in it is another.

use super::*;
use crate::check::Seen;
use crate::story::{CONF, How, UserChange, conf_of};

const A: &str = "v1.0.0";
const B: &str = "v1.1.0";
const OWN: (&str, &str) = ("user/own", "mine");

/// v1.0.0 is good; v1.1.0 was received.
fn good() -> Facts {
    let mut facts = Facts {
        good: Some(A),
        versions: [A, B].into(),
        pins: [A].into(),
        log: vec![("prepared", None), ("blessed", Some(A))],
        sequence: 5,
        ..Facts::default()
    };
    facts.runs_good(0);
    facts.overlay(A, &[OWN]);
    facts
}

/// The same once v1.1.0 was staged.
fn staged() -> Facts {
    let mut facts = good();
    facts.on_trial(B, 3, 3);
    facts.overlay(B, &[OWN]);
    facts.logged("staged", B);
    facts.sequence = 6;
    facts
}

fn digests() -> Digests {
    [A, B]
        .map(|version| (version.to_owned(), format!("digest of {version}")))
        .into()
}

/// What the boot after a power cut looks like when all is well.
fn sight(facts: &Facts) -> Observation {
    let boot = facts.boots[0];
    let (role, version) = boot.active().unwrap();
    let active = Some((role.word().to_owned(), version.to_owned()));
    let (trial, unblessed) = match boot {
        Boot::Trial { tries, .. } => (Some((version.to_owned(), tries, 3)), 0),
        Boot::Good { unblessed, .. } => (None, unblessed),
        _ => (None, 0),
    };
    let record = Record {
        sequence: facts.sequence + 1,
        good: facts.good.map(str::to_owned),
        trial,
        unblessed,
        bytes: vec![1],
        ..Record::default()
    };
    let copies = vec![Copy::Valid(record.clone()), Copy::Valid(record)];
    let boot = Seen {
        outcome: "activated".to_owned(),
        active,
        counted: true,
        ..Seen::default()
    };
    let user = BTreeMap::from([(OWN.0.to_owned(), OWN.1.to_owned())]);
    let mut files = user.clone();
    let published = crate::story::published(version).into_iter();
    files.extend(published.map(|(path, text)| (path.to_owned(), text)));
    let line =
        |(event, version): &(&str, Option<&str>)| ((*event).to_owned(), version.map(str::to_owned));
    Observation {
        exit: Some(0),
        second: boot.clone(),
        boot,
        store: true,
        second_copies: copies.clone(),
        copies,
        digest: Some(format!("digest of {version}")),
        files,
        uppers: [A, B]
            .map(|version| (version.to_owned(), user.clone()))
            .into(),
        versions: vec![A.to_owned(), B.to_owned()],
        pins: vec![A.to_owned()],
        verify: Some((0, Vec::new())),
        audit: Some((0, String::new())),
        log: facts.log.iter().map(line).collect(),
        ..Observation::default()
    }
}

fn between<'a>(before: &'a Facts, after: Option<&'a Facts>) -> Between<'a> {
    Between {
        before,
        after,
        change: None,
        again: false,
        boots: (1, 1),
        twice: false,
    }
}

fn checks(between: &Between<'_>, seen: &Observation) -> Vec<String> {
    let violations = judge(between, &digests(), seen);
    violations.into_iter().map(|found| found.check).collect()
}

#[test]
fn what_is_as_it_must_be_is_no_violation() {
    let (good, staged) = (good(), staged());
    for (before, after, seen) in [
        (&good, None, sight(&good)),
        (&staged, None, sight(&staged)),
        // In flight: it has happened, or it has not.
        (&good, Some(&staged), sight(&good)),
        (&good, Some(&staged), sight(&staged)),
    ] {
        assert_eq!(checks(&between(before, after), &seen), Vec::<String>::new());
    }
}

#[test]
fn what_was_acknowledged_must_have_happened_and_what_was_not_begun_must_not() {
    let (good, staged) = (good(), staged());
    let lost = checks(&between(&staged, None), &sight(&good));
    assert!(lost.contains(&"boot".to_owned()), "{lost:?}");
    assert!(lost.contains(&"log".to_owned()), "{lost:?}");
    let early = checks(&between(&good, None), &sight(&staged));
    assert!(early.contains(&"boot".to_owned()), "{early:?}");
    assert!(early.contains(&"log".to_owned()), "{early:?}");
}

/// Changes the record that was seen, as if it had been found so on the disk.
fn in_both(seen: &mut Observation, change: fn(&mut Record)) {
    for copy in seen.copies.iter_mut().chain(&mut seen.second_copies) {
        let Copy::Valid(record) = copy else { panic!() };
        change(record);
    }
}

fn unsound(seen: &mut Observation, versions: &[&str]) {
    let versions = versions.iter();
    seen.unsound = versions
        .map(|version| ((*version).to_owned(), "why".to_owned()))
        .collect();
}

#[test]
#[allow(clippy::too_many_lines, reason = "it is a table")]
fn every_check_can_fail() {
    type Change = fn(&mut Observation);
    macro_rules! record {
        ($change:expr) => {
            |seen| in_both(seen, $change)
        };
    }
    let cases: &[(&str, Change)] = &[
        ("exit", |seen| seen.exit = Some(2)),
        ("exit", |seen| seen.exit = None),
        ("readable", |seen| seen.unreadable.push("x".into())),
        ("boot", |seen| seen.boot.outcome = "failed".into()),
        ("boot", |seen| {
            seen.boot.active = None;
            seen.second.active = None;
        }),
        ("boot", |seen| {
            seen.boot.active = Some(("good".into(), A.into()));
            seen.second.active = seen.boot.active.clone();
        }),
        ("degraded", |seen| seen.boot.counted = false),
        ("degraded", |seen| {
            seen.boot.degraded.push("overlay-missing".into());
        }),
        ("copies", |seen| {
            seen.copies[1] = Copy::Bad("checksum mismatch".into());
            seen.second_copies = seen.copies.clone();
        }),
        ("copies", |seen| {
            let Copy::Valid(record) = &mut seen.copies[1] else {
                panic!()
            };
            record.bytes = vec![2];
            seen.second_copies = seen.copies.clone();
        }),
        ("sequence", record!(|record| record.sequence = 6)),
        ("record", record!(|record| record.good = None)),
        ("record", record!(|record| record.fallback = Some(B.into()))),
        ("record", record!(|record| record.trial = None)),
        (
            "record",
            record!(|record| record.trial = Some((B.into(), 3, 3))),
        ),
        (
            "record",
            record!(|record| record.trial = Some((B.into(), 2, 2))),
        ),
        ("record", record!(|record| record.quarantine.push(A.into()))),
        ("record", record!(|record| record.floor = 1)),
        (
            "identity",
            record!(|record| record.strangers.push(A.into())),
        ),
        ("same-boot", |seen| seen.second.active = None),
        ("same-boot", |seen| {
            let Copy::Valid(record) = &mut seen.second_copies[0] else {
                panic!()
            };
            record.bytes = vec![2];
        }),
        ("tree", |seen| seen.digest = Some("another".into())),
        ("tree", |seen| seen.digest = None),
        ("overlay", |seen| drop(seen.files.remove(OWN.0))),
        ("overlay", |seen| {
            drop(seen.files.insert(OWN.0.into(), String::new()));
        }),
        ("overlay", |seen| {
            drop(seen.files.insert("user/x".into(), "x".into()));
        }),
        ("overlay", |seen| {
            drop(seen.files.insert(CONF.into(), conf_of(A)));
        }),
        ("overlay", |seen| drop(seen.uppers.remove(A))),
        ("overlay", |seen| {
            drop(seen.uppers.get_mut(A).unwrap().remove(OWN.0));
        }),
        ("overlay", |seen| {
            let aside = BTreeMap::new();
            drop(seen.uppers.insert(format!("{B}.failed"), aside));
        }),
        ("plans", |seen| seen.plans.push(B.into())),
        ("writable", |seen| seen.unwritable = Some("EROFS".into())),
        ("versions", |seen| drop(seen.versions.remove(0))),
        ("versions", |seen| seen.versions.push("v9.0.0".into())),
        ("pins", |seen| seen.pins.clear()),
        ("pins", |seen| seen.pins.push(B.into())),
        ("sound", |seen| unsound(seen, &[A])),
        ("chain", |seen| seen.broken_chain = Some("line 2".into())),
        ("verify", |seen| seen.verify = Some((9, vec![A.into()]))),
        ("verify", |seen| seen.verify = Some((1, Vec::new()))),
        ("audit", |seen| seen.audit = Some((9, "broken".into()))),
        ("log", |seen| drop(seen.log.remove(0))),
        ("log", |seen| drop(seen.log.pop())),
        ("log", |seen| {
            seen.log.push(("staged".into(), Some(B.into())));
        }),
    ];
    let facts = staged();
    for (index, (check, change)) in cases.iter().enumerate() {
        let mut seen = sight(&facts);
        change(&mut seen);
        let found = checks(&between(&facts, None), &seen);
        assert_eq!(found, [*check], "case {index}: {seen:?}");
    }
}

#[test]
fn good_s_boots_without_a_verdict_are_counted_one_by_one() {
    let facts = good();
    let mut seen = sight(&facts);
    let later = Between {
        boots: (1, 2),
        ..between(&facts, None)
    };
    for (unblessed, is_fine) in [(0, false), (1, true), (2, true), (3, false)] {
        for copy in seen.copies.iter_mut().chain(&mut seen.second_copies) {
            let Copy::Valid(record) = copy else { panic!() };
            record.unblessed = unblessed;
        }
        assert_eq!(checks(&later, &seen).is_empty(), is_fine, "{unblessed}");
    }
}

#[test]
fn fallback_runs_when_good_had_its_boots() {
    let mut facts = good();
    facts.fallback = Some(B);
    facts.boots = vec![Boot::Fallback {
        version: B,
        unblessed: 1,
    }];
    facts.overlay(B, &[OWN]);
    let mut seen = sight(&facts);
    in_both(&mut seen, |record| record.fallback = Some(B.into()));
    // Good has not had them.
    assert_eq!(checks(&between(&facts, None), &seen), ["record"]);
    in_both(&mut seen, |record| {
        (record.unblessed, record.fallback_unblessed) = (5, 1);
    });
    assert_eq!(checks(&between(&facts, None), &seen), Vec::<String>::new());
}

#[test]
fn a_change_of_the_user_in_flight_may_be_partly_there_and_others_not() {
    let facts = good();
    let mut seen = sight(&facts);
    seen.files.insert("user/new".into(), "half of".into());
    seen.uppers
        .get_mut(A)
        .unwrap()
        .insert("user/new".into(), "half of".into());
    let change = |path| Between {
        change: Some(UserChange {
            path,
            content: "half of it",
            how: How::New,
        }),
        ..between(&facts, None)
    };
    assert_eq!(checks(&change("user/new"), &seen), Vec::<String>::new());
    assert_eq!(checks(&change("user/other"), &seen), ["overlay", "overlay"]);
}

#[test]
fn a_command_that_was_run_again_may_log_again_what_it_does_and_nothing_else() {
    let (good, staged) = (good(), staged());
    let mut seen = sight(&staged);
    let again = Between {
        again: true,
        ..between(&good, Some(&staged))
    };
    seen.log.push(("staged".into(), Some(B.into())));
    assert_eq!(checks(&again, &seen), Vec::<String>::new());
    assert_eq!(checks(&between(&good, Some(&staged)), &seen), ["log"]);
    seen.log.push(("blessed".into(), Some(B.into())));
    assert_eq!(checks(&again, &seen), ["log"]);
    seen.log.drain(1..);
    assert_eq!(checks(&again, &seen), ["log"]);
}

#[test]
fn an_altered_version_is_told_of_and_may_be_away_while_it_is_mended() {
    let whole = good();
    let mut altered = good();
    altered.altered.insert(B);
    let mut seen = sight(&altered);
    assert_eq!(checks(&between(&altered, None), &seen), ["sound", "verify"]);
    seen.verify = Some((9, vec![B.into()]));
    unsound(&mut seen, &[B]);
    assert_eq!(
        checks(&between(&altered, None), &seen),
        Vec::<String>::new()
    );
    assert_eq!(checks(&between(&whole, None), &seen), ["sound", "verify"]);
    // It need not be asked.
    seen.verify = None;
    assert_eq!(checks(&between(&whole, None), &seen), ["sound"]);
    seen.versions.pop();
    assert_eq!(
        checks(&between(&altered, Some(&whole)), &seen),
        Vec::<String>::new()
    );
    unsound(&mut seen, &[A]);
    assert_eq!(checks(&between(&altered, Some(&whole)), &seen), ["sound"]);
}

#[test]
fn what_a_try_left_is_set_aside_as_it_was() {
    let mut facts = staged();
    let anew: &[(&'static str, &'static str)] = &[OWN];
    let failed: &'static str = "v1.1.0.failed";
    let with = |content: &str| {
        let mut seen = sight(&staged());
        let files = BTreeMap::from([(OWN.0.to_owned(), content.to_owned())]);
        seen.uppers.insert(failed.to_owned(), files);
        seen
    };
    // It need not be there yet.
    facts.trial_overlay(B, anew);
    assert_eq!(checks(&between(&facts, None), &sight(&facts)), [""; 0]);
    assert_eq!(checks(&between(&facts, None), &with(OWN.1)), [""; 0]);
    assert_eq!(checks(&between(&facts, None), &with("half")), ["overlay"]);
    // The user wrote something, and waited for it.
    facts.failed_with(B, &[(OWN.0, "by the try")], anew);
    let later = |twice| Between {
        boots: (2, 2),
        twice,
        ..between(&facts, None)
    };
    assert_eq!(checks(&between(&facts, None), &sight(&facts)), ["overlay"]);
    assert_eq!(checks(&between(&facts, None), &with("by the try")), [""; 0]);
    assert_eq!(checks(&between(&facts, None), &with(OWN.1)), ["overlay"]);
    // The next try's takes its place, unless power went before that was durable.
    let found = |twice, content| checks(&later(twice), &with(content)).contains(&"overlay".into());
    assert!(found(false, "by the try"));
    assert!(!found(false, OWN.1));
    assert!(!found(true, "by the try"));
    assert!(!found(true, OWN.1));
    assert!(found(true, "half"));
}

#[test]
fn before_there_is_a_store_nothing_need_be_there_and_nothing_may_run() {
    let nothing = crate::story::before();
    let mut seen = Observation {
        exit: Some(0),
        ..Observation::default()
    };
    seen.boot.outcome = "failed".to_owned();
    assert_eq!(
        checks(&between(&nothing, None), &seen),
        Vec::<String>::new()
    );
    seen.boot.active = Some(("good".into(), A.into()));
    assert_eq!(checks(&between(&nothing, None), &seen), ["boot"]);
}
