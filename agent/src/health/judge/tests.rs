use super::*;

const TIMES: Times = Times {
    settle: Duration::from_secs(5),
    timeout: Duration::from_secs(60),
    limit: Duration::from_secs(285),
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rule(name: &str, kind: Kind) -> Rule {
    Rule {
        name: name.to_owned(),
        kind,
        retries: 3,
    }
}

fn well() -> Finding {
    Finding::well()
}

fn run(mark: u64) -> Finding {
    Finding::Well {
        mark: mark.to_string(),
    }
}

fn bad() -> Finding {
    Finding::NotYet("bad".to_owned())
}

fn unknown() -> Finding {
    Finding::Unknown("no carrier".to_owned())
}

/// Looks once a second at checks of these kinds, each found as told, until there
/// is a verdict; and when that was.
fn play(kinds: &[Kind], mut found: impl FnMut(u64, usize) -> Finding) -> (u64, Decision) {
    let rules = kinds
        .iter()
        .enumerate()
        .map(|(number, &kind)| rule(&number.to_string(), kind));
    let mut judge = Judge::new(TIMES, rules);
    for second in 0..=300 {
        for number in 0..kinds.len() {
            judge.observe(seconds(second), number, found(second, number));
        }
        if let Some(decision) = judge.decide(seconds(second)) {
            return (second, decision);
        }
    }
    panic!("no verdict by the limit");
}

fn verdict(kinds: &[Kind], found: impl FnMut(u64, usize) -> Finding) -> (u64, Verdict) {
    let (second, decision) = play(kinds, found);
    let deciding = decision
        .failures
        .iter()
        .filter(|failure| failure.kind != Kind::Wanted)
        .count();
    assert_eq!(deciding == 0, decision.verdict == Verdict::Healthy);
    (second, decision.verdict)
}

use Kind::{Infrastructure, Required, Wanted};
use Verdict::{Healthy, Unhealthy, Unknown};

#[test]
fn healthy_after_the_settle_time() {
    let found = |second, _| if second == 0 { bad() } else { well() };
    assert_eq!(verdict(&[Required], found), (6, Healthy));
}

#[test]
fn a_bad_try_starts_the_settle_time_again() {
    let found = |second, _| if second == 4 { bad() } else { well() };
    assert_eq!(verdict(&[Required], found), (10, Healthy));
}

#[test]
fn a_restart_between_looks_starts_it_again() {
    let found = |second, _| run(u64::from(second >= 4));
    assert_eq!(verdict(&[Required], found), (9, Healthy));
}

#[test]
fn restarting_in_a_loop_is_unhealthy_after_the_timeout() {
    // Dies every three seconds, and is up again at every look.
    let (second, decision) = play(&[Required], |second, _| run(second / 3));
    assert_eq!((second, decision.verdict), (60, Unhealthy));
    assert!(decision.failures[0].reason.starts_with("restarted within"));
}

#[test]
fn all_must_hold_at_once() {
    // The second comes when the first has long held.
    let found = |second, number| {
        if number == 1 && second < 20 {
            bad()
        } else {
            well()
        }
    };
    assert_eq!(verdict(&[Required, Required], found), (25, Healthy));
}

#[test]
fn never_well_ends_at_the_timeout() {
    assert_eq!(verdict(&[Required], |_, _| bad()), (60, Unhealthy));
}

#[test]
fn the_settle_time_may_reach_beyond_the_timeout() {
    let found = |second, _| if second < 58 { bad() } else { well() };
    assert_eq!(verdict(&[Required], found), (63, Healthy));
}

#[test]
fn what_is_lost_needs_no_waiting() {
    let found = |_, _| Finding::Lost("failed (exit-code)".to_owned());
    assert_eq!(verdict(&[Required], found), (0, Unhealthy));
}

#[test]
fn nothing_to_check_is_healthy_after_the_settle_time() {
    assert_eq!(verdict(&[], |_, _| bad()), (5, Healthy));
}

#[test]
fn without_a_settle_time_once_is_enough() {
    let times = Times {
        settle: Duration::ZERO,
        ..TIMES
    };
    let mut judge = Judge::new(times, [rule("a", Required)]);
    assert_eq!(judge.decide(seconds(0)), None);
    judge.observe(seconds(0), 0, well());
    let decision = judge.decide(seconds(0)).unwrap();
    assert_eq!(decision.verdict, Healthy);
}

#[test]
fn after_the_timeout_bad_tries_count_in_a_row() {
    // Waits for the network; meanwhile the service does not answer three times.
    let kinds = [Required, Infrastructure];
    let with_gap = |gap: u64| {
        verdict(&kinds, move |second, number| match number {
            0 if (100..100 + gap).contains(&second) => bad(),
            1 if second < 150 => unknown(),
            _ => well(),
        })
    };
    assert_eq!(with_gap(3), (155, Healthy));
    assert_eq!(with_gap(4), (103, Unhealthy));
}

#[test]
fn a_steady_check_is_forgiven_what_was_before() {
    let found = |second, number| match number {
        0 if second % 30 == 0 => bad(),
        1 if second < 250 => unknown(),
        _ => well(),
    };
    let kinds = [Required, Infrastructure];
    assert_eq!(verdict(&kinds, found), (255, Healthy));
}

#[test]
fn what_flaps_is_unhealthy_soon_after_the_timeout() {
    for (period, latest) in [(2, 63), (3, 65), (5, 70)] {
        let (second, decision) = play(&[Required], |second, _| {
            if second % period == 0 { bad() } else { well() }
        });
        assert_eq!(decision.verdict, Unhealthy, "every {period} s");
        assert!(
            (60..=latest).contains(&second),
            "every {period} s: {second}"
        );
        assert!(decision.failures[0].reason.starts_with("comes and goes"));
    }
}

#[test]
fn a_restart_after_the_timeout_is_the_end() {
    let found = |second, number| match number {
        0 => run(u64::from(second >= 100)),
        _ => unknown(),
    };
    let (second, decision) = play(&[Required, Infrastructure], found);
    assert_eq!((second, decision.verdict), (100, Unhealthy));
    assert_eq!(decision.failures[0].kind, Required);
}

#[test]
fn what_is_not_known_is_waited_for_until_the_limit() {
    assert_eq!(verdict(&[Required], |_, _| unknown()), (285, Unknown));
    assert_eq!(verdict(&[Infrastructure], |_, _| bad()), (285, Unknown));
    let lost = |_, _| Finding::Lost("failed".to_owned());
    assert_eq!(verdict(&[Infrastructure], lost), (285, Unknown));
    let late = |second, _| if second < 200 { bad() } else { well() };
    assert_eq!(verdict(&[Infrastructure], late), (205, Healthy));
}

#[test]
fn what_came_too_late_after_not_being_known_is_not_known() {
    let late = |second, _| if second < 282 { unknown() } else { well() };
    assert_eq!(verdict(&[Required], late), (285, Unknown));
}

#[test]
fn infrastructure_that_flaps_or_restarts_is_not_known() {
    let flaps = |second: u64, _| if second % 2 == 0 { bad() } else { well() };
    assert_eq!(verdict(&[Infrastructure], flaps), (285, Unknown));
    assert_eq!(
        verdict(&[Infrastructure], |second, _| run(second)),
        (285, Unknown)
    );
}

#[test]
fn bad_beside_not_known_is_unhealthy_and_first() {
    let found = |_, number| if number == 1 { bad() } else { unknown() };
    let (second, decision) = play(&[Infrastructure, Required], found);
    assert_eq!((second, decision.verdict), (60, Unhealthy));
    let kinds: Vec<_> = decision.failures.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [Required, Infrastructure]);
}

#[test]
fn what_is_wanted_never_decides_and_is_told() {
    for finding in [bad(), unknown(), Finding::Lost("failed".to_owned())] {
        let (second, decision) = play(&[Required, Wanted], |_, number| match number {
            0 => well(),
            _ => finding.clone(),
        });
        assert_eq!((second, decision.verdict), (5, Healthy), "{finding:?}");
        assert_eq!(decision.failures.len(), 1);
        assert_eq!(decision.failures[0].kind, Wanted);
    }
}

#[test]
fn what_is_wanted_is_heard_once_before_all_is_well() {
    let rules = [rule("a", Required), rule("b", Wanted)];
    let mut judge = Judge::new(TIMES, rules);
    for second in 0..=8 {
        judge.observe(seconds(second), 0, well());
        assert_eq!(judge.decide(seconds(second)), None);
    }
    judge.observe(seconds(8), 1, bad());
    let decision = judge.decide(seconds(8)).unwrap();
    assert_eq!((decision.verdict, decision.failures.len()), (Healthy, 1));
}

#[test]
fn there_is_a_verdict_at_the_limit_whatever_was_seen() {
    for (kind, expected) in [
        (Required, Unhealthy),
        (Infrastructure, Unknown),
        (Wanted, Healthy),
    ] {
        let judge = Judge::new(TIMES, [rule("a", kind)]);
        assert_eq!(judge.decide(TIMES.limit).unwrap().verdict, expected);
    }
}
