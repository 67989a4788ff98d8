//! Tampering with logs.

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

#[test]
fn every_kind_of_tampering_is_named() {
    let (lines, head) = log(5);
    for at in 0..lines.len() {
        let mut edited = lines.clone();
        edited[at] = edited[at].replace("event", "Event");
        assert!(verify(&edited, head).is_err(), "edit of line {at}");

        let mut dropped = lines.clone();
        dropped.remove(at);
        assert!(verify(&dropped, head).is_err(), "line {at} dropped");

        let mut repeated = lines.clone();
        repeated.insert(at, lines[at].clone());
        assert!(verify(&repeated, head).is_err(), "line {at} repeated");

        assert_eq!(
            verify(&lines[..at], head),
            Err(AuditError::Behind {
                found: at as u64,
                expected: 5
            }),
            "cut before line {at}"
        );
    }
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    assert_eq!(
        verify(&swapped, head),
        Err(AuditError::Number { at: 2, found: 3 })
    );
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
