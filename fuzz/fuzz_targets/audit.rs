//! Audit logs of any bytes, with any head in the record: what verifies can be
//! written on, and no longer verifies once a bit of it is changed.
//!
//! Four bytes say how many of the log's lines the record knows of, and which
//! bit is changed; the rest is the log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use op_dbus_bootstate::audit::{
    AuditError, AuditHead, Event, Kind, Line, Stamp, Verifier, append, hash_line,
};
use op_dbus_bootstate::rebuild::History;

/// As the reader of the file does: what has no newline is no line.
fn lines(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    log.split_inclusive(|&byte| byte == b'\n')
        .filter_map(|line| line.strip_suffix(b"\n"))
}

fn verify(log: &[u8], anchor: Option<AuditHead>) -> Result<(AuditHead, Vec<Line>), AuditError> {
    let mut verifier = Verifier::new(anchor);
    let mut found = Vec::new();
    for line in lines(log) {
        found.push(verifier.line(line)?);
    }
    Ok((verifier.end()?, found))
}

fuzz_target!(|data: &[u8]| {
    let Some((&[known, _, low, high], log)) = data.split_first_chunk() else {
        return;
    };
    let mut history = History::default();
    for line in lines(log) {
        if let Ok(line) = serde_json::from_slice::<Line>(line) {
            history.line(&line);
        }
    }
    let _ = history.rebuild(|_| None);

    let Ok((head, found)) = verify(log, None) else {
        return;
    };
    if head.length == u64::MAX {
        return;
    }
    // A log may begin anywhere, if a line of it says that the rest was removed.
    let removed = found.first().map_or(0, |line| line.n - 1);
    assert_eq!(head.length, removed + found.len() as u64);
    if removed > 0 {
        let stated = |line: &Line| line.rotation.and_then(|rotation| rotation.removed);
        let stated = found.iter().filter_map(stated).next_back();
        assert!(stated.is_some_and(|stated| stated.n >= removed));
    }
    // The record may know of fewer lines, never of more, and of one that is kept.
    let least = if removed > 0 { removed + 1 } else { 0 };
    let known = u64::from(known).max(least).min(head.length);
    let known_line = usize::try_from(known - removed)
        .ok()
        .and_then(|n| n.checked_sub(1));
    let anchor = AuditHead {
        length: known,
        head: known_line
            .and_then(|n| lines(log).nth(n))
            .map_or(AuditHead::default().head, hash_line),
        missed: 2,
    };
    assert_eq!(
        verify(log, Some(anchor)).map(|(head, _)| head.missed),
        Ok(2)
    );
    let behind = AuditHead {
        length: head.length + 1,
        ..anchor
    };
    assert!(verify(log, Some(behind)).is_err());

    let whole: usize = lines(log).map(|line| line.len() + 1).sum();
    let event = Event::general(Kind::Staged, "more");
    let (line, next) = append(head, event, &Stamp::default()).expect("encodes");
    let mut longer = log[..whole].to_vec();
    longer.extend(line.as_bytes());
    longer.push(b'\n');
    assert_eq!(verify(&longer, Some(next)).map(|(head, _)| head), Ok(next));

    let bit = usize::from(u16::from_le_bytes([low, high])) % (longer.len() * 8);
    longer[bit / 8] ^= 1 << (bit % 8);
    assert!(verify(&longer, Some(next)).is_err(), "bit {bit}");
});
