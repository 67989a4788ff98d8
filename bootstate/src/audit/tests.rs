//! Tampering with logs.

mod segments;

use super::*;

fn stamp() -> Stamp<'static> {
    Stamp {
        actor: "test",
        time: "2026-01-01T00:00:00Z",
        ..Stamp::default()
    }
}

fn log(count: u64) -> (Vec<String>, AuditHead) {
    let mut head = AuditHead::default();
    let mut lines = Vec::new();
    for n in 0..count {
        let event = Event::general(Kind::Staged, format!("event {n}"));
        let (line, next) = append(head, event, &stamp()).unwrap();
        lines.push(line);
        head = next;
    }
    (lines, head)
}

fn verify(lines: &[String], anchor: AuditHead) -> Result<AuditHead, AuditError> {
    let mut verifier = Verifier::new(Some(anchor));
    for line in lines {
        verifier.line(line.as_bytes())?;
    }
    verifier.end()
}

#[test]
fn an_untouched_log_verifies_and_may_be_ahead() {
    let (lines, head) = log(5);
    assert_eq!(verify(&lines, head), Ok(head));
    let (_, earlier) = log(3);
    assert_eq!(verify(&lines, earlier).unwrap().length, 5);
}

/// The lines that an error is about.
fn named(why: &AuditError) -> std::ops::RangeInclusive<u64> {
    match *why {
        AuditError::Malformed(n)
        | AuditError::Chain(n)
        | AuditError::Head(n)
        | AuditError::Removed(n) => n..=n,
        AuditError::Number { at, found } => at.min(found)..=at.max(found),
        AuditError::Missing { first, last } => first..=last,
        AuditError::Segment(segment) => segment.first..=segment.last,
        AuditError::Behind { found, expected } => found..=expected,
        AuditError::After { first, expected } => expected..=first,
    }
}

/// What somebody may do to one line, and whether its neighbours show it too.
fn tampered(lines: &[String], at: usize) -> Vec<(&'static str, Vec<String>)> {
    let mut ways = Vec::new();
    let mut edit = |what, change: &dyn Fn(&mut Vec<String>)| {
        let mut changed = lines.to_vec();
        change(&mut changed);
        ways.push((what, changed));
    };
    edit("a word changed", &|lines| {
        lines[at] = lines[at].replace("event ", "Event ");
    });
    edit("its hash changed", &|lines| {
        let hash = lines[at].rfind("\"}").unwrap() - 1;
        let other = if lines[at].as_bytes()[hash] == b'0' {
            "1"
        } else {
            "0"
        };
        lines[at].replace_range(hash..=hash, other);
    });
    edit("cut short", &|lines| {
        lines[at].truncate(20);
    });
    edit("emptied", &|lines| lines[at].clear());
    edit("dropped", &|lines| {
        lines.remove(at);
    });
    edit("repeated", &|lines| lines.insert(at, lines[at].clone()));
    edit("repeated at the end", &|lines| {
        lines.push(lines[at].clone());
    });
    edit("repeated at the beginning", &|lines| {
        lines.insert(0, lines[at].clone());
    });
    edit("everything after it cut off", &|lines| lines.truncate(at));
    if at + 1 < lines.len() {
        edit("swapped with the next", &|lines| lines.swap(at, at + 1));
        edit("moved to the end", &|lines| {
            let line = lines.remove(at);
            lines.push(line);
        });
        edit("moved to the beginning", &|lines| {
            let line = lines.remove(at + 1);
            lines.insert(0, line);
        });
        edit("everything before it dropped", &|lines| {
            lines.drain(..=at);
        });
    }
    ways
}

/// Whether what was done to line `at` (from 0) shows, with a line close to it.
fn check_tampering(lines: &[String], head: AuditHead, at: usize) {
    let number = at as u64 + 1;
    for (what, changed) in tampered(lines, at) {
        let why = verify(&changed, head).expect_err(what);
        let named = named(&why);
        let is_near = |n: u64| named.contains(&n);
        let elsewhere = match what {
            // Line 1 twice is line 1 twice, wherever it is meant to belong.
            "repeated at the beginning"
            | "moved to the beginning"
            | "everything before it dropped" => 1,
            "repeated at the end" => head.length + 1,
            _ => number,
        };
        let near = [elsewhere.saturating_sub(1), elsewhere, elsewhere + 1];
        assert!(near.into_iter().any(is_near), "line {number} {what}: {why}");
    }
}

#[test]
fn every_kind_of_tampering_is_named_at_every_line() {
    let (lines, head) = log(40);
    for at in 0..lines.len() {
        check_tampering(&lines, head, at);
        assert_eq!(
            verify(&lines[..at], head),
            Err(AuditError::Behind {
                found: at as u64,
                expected: 40
            }),
        );
    }
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    assert_eq!(
        verify(&swapped, head),
        Err(AuditError::Number { at: 2, found: 3 })
    );
}

#[test]
fn tampering_anywhere_in_a_large_log_is_named() {
    let (lines, head) = log(3000);
    // Places spread by a step that has no factor in common with the length.
    for index in 0..25 {
        check_tampering(&lines, head, index * 1213 % lines.len());
    }
    check_tampering(&lines, head, lines.len() - 1);
}

/// A file's whole lines, as its reader takes them.
fn read(text: &[u8], anchor: AuditHead) -> Result<AuditHead, AuditError> {
    let mut verifier = Verifier::new(Some(anchor));
    let lines = text.split_inclusive(|&byte| byte == b'\n');
    for line in lines.filter_map(|line| line.strip_suffix(b"\n")) {
        verifier.line(line)?;
    }
    verifier.end()
}

#[test]
fn every_flip_and_every_beginning_of_a_log_shows() {
    let (lines, head) = log(4);
    let text = lines.join("\n") + "\n";
    let text = text.as_bytes();
    assert_eq!(read(text, head), Ok(head));
    for bit in 0..text.len() * 8 {
        let mut changed = text.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&changed, head).is_err(), "bit {bit}");
    }
    for length in 0..text.len() {
        let behind = read(&text[..length], head);
        assert!(matches!(behind, Err(AuditError::Behind { .. })), "{length}");
    }
}

#[test]
fn a_consistently_rewritten_log_shows_against_the_record() {
    let (_, head) = log(5);
    let mut other = AuditHead::default();
    let mut lines = Vec::new();
    for _ in 0..5 {
        let forger = Stamp {
            actor: "forger",
            ..stamp()
        };
        let event = Event::general(Kind::Blessed, "");
        let (line, next) = append(other, event, &forger).unwrap();
        lines.push(line);
        other = next;
    }
    assert_eq!(verify(&lines, head), Err(AuditError::Head(5)));
}

#[test]
fn a_kind_of_a_later_release_is_an_entry_too() {
    let (mut lines, head) = log(1);
    let newer = format!(
        r#"{{"n":2,"time":"now","actor":"newer","event":"teleported","prev":"{}"}}"#,
        head.head
    );
    let head = AuditHead {
        length: 2,
        head: hash_line(newer.as_bytes()),
        missed: 0,
    };
    lines.push(newer.clone());
    assert_eq!(verify(&lines, head), Ok(head));
    let line: Line = serde_json::from_str(&newer).unwrap();
    assert_eq!(line.event, Kind::Unknown);
}

#[test]
fn kinds_are_written_as_they_are_shown() {
    for kind in [
        Kind::Prepared,
        Kind::Received,
        Kind::Refused,
        Kind::Staged,
        Kind::Replaced,
        Kind::Cancelled,
        Kind::Attempt,
        Kind::AttemptsDropped,
        Kind::Blessed,
        Kind::Condemned,
        Kind::Refunded,
        Kind::Released,
        Kind::Repaired,
        Kind::Pruned,
        Kind::Pinned,
        Kind::Unpinned,
        Kind::Restored,
        Kind::Ended,
        Kind::Rotated,
    ] {
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
    }
}

#[test]
fn a_line_tells_how_long_the_boot_has_been_up_if_it_is_of_this_boot() {
    let (this, before) = (BootId([1; 16]), BootId([2; 16]));
    let stamp = Stamp {
        boot: Some(this),
        up_ms: Some(12_345),
        ..stamp()
    };
    for (boot, up_ms) in [
        (None, Some(12_345)),
        (Some(this), Some(12_345)),
        (Some(before), None),
    ] {
        let event = Event {
            boot,
            ending: Some(Ending::PowerCut),
            ..Event::general(Kind::Ended, "")
        };
        let (line, _) = append(AuditHead::default(), event, &stamp).unwrap();
        let line: Line = serde_json::from_str(&line).unwrap();
        assert_eq!((line.boot, line.up_ms), (boot.or(Some(this)), up_ms));
        assert_eq!(line.ending, Some(Ending::PowerCut));
    }
}

#[test]
fn a_log_of_an_earlier_release_verifies() {
    let first = format!(
        r#"{{"n":1,"time":"2026-11-22T22:00:00Z","actor":"op-dbus-stage 0.1.0 uid 0","event":"prepared","detail":"x","prev":"{}"}}"#,
        AuditHead::default().head
    );
    let mut verifier = Verifier::new(None);
    let line = verifier.line(first.as_bytes()).unwrap();
    assert_eq!((line.up_ms, line.ending, line.rotation), (None, None, None));
}

#[test]
fn long_details_are_shortened_below_the_line_limit() {
    let event = Event::general(Kind::Refused, "é\"\n".repeat(5000));
    let (line, head) = append(AuditHead::default(), event, &stamp()).unwrap();
    assert!(line.len() < LINE_MAX);
    assert_eq!(verify(&[line], head), Ok(head));
}
