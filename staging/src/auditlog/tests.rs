//! Rotation, and what a power cut leaves between any two of its steps.

use std::collections::BTreeMap;

use op_dbus_bootstate::audit::{AuditError, AuditHead, Event, Kind, Line};
use op_dbus_bootstate::{Deployment, Digest, Identity, Uuid};

use super::*;

/// A log in a directory of its own.
struct Place {
    dir: tempfile::TempDir,
    log: AuditLog,
    author: Author,
}

/// Names and contents of a directory.
type Files = BTreeMap<String, Vec<u8>>;

const LIMITS: Limits = Limits {
    bytes: 900,
    keep: 2,
};

impl Place {
    fn new() -> Self {
        Self::with(&Files::new())
    }

    fn with(files: &Files) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let log = AuditLog {
            directory: dir.path().to_owned(),
            file: dir.path().join(OPEN),
        };
        let author = Author {
            actor: "test".to_owned(),
            boot: None,
            up_ms: None,
        };
        Self { dir, log, author }
    }

    fn files(&self) -> Files {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        entries
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    fn append(&self, known: AuditHead, detail: &str) -> AuditHead {
        let events = [Event::general(Kind::Pinned, detail)];
        let writing = Writing {
            limits: LIMITS,
            ..Writing::new(&self.author)
        };
        self.log.append(known, &events, &writing).unwrap()
    }

    fn append_many(&self, mut known: AuditHead, count: usize) -> AuditHead {
        for number in 0..count {
            known = self.append(known, &format!("event {number}"));
        }
        known
    }

    fn state(&self, anchor: AuditHead) -> Result<(AuditHead, Vec<Line>), AuditError> {
        let mut lines = Vec::new();
        let read = self
            .log
            .read(Some(anchor), |line| lines.push(line.clone()))
            .unwrap();
        match read {
            State::Sound { head, .. } => Ok((head, lines)),
            State::Broken(why) => Err(why),
        }
    }
}

fn details(lines: &[Line]) -> Vec<&str> {
    let told = lines.iter().filter(|line| line.event == Kind::Pinned);
    told.map(|line| line.detail.as_str()).collect()
}

#[test]
fn a_log_goes_on_in_segments_and_forgets_the_oldest() {
    let place = Place::new();
    let mut head = AuditHead::default();
    let mut most = 0;
    for number in 0..60 {
        head = place.append(head, &format!("event {number}"));
        let files = place.files();
        most = most.max(files.len());
        let (found, _) = place.state(head).unwrap();
        assert_eq!(found, head, "{:?}", files.keys());
    }
    assert_eq!(most, 1 + LIMITS.keep);
    let (_, lines) = place.state(head).unwrap();
    let first = lines.first().unwrap();
    assert!(first.n > 1 && first.event == Kind::Rotated, "{first:?}");
    let removed = lines
        .iter()
        .filter_map(|line| line.rotation?.removed)
        .next_back();
    assert_eq!(removed.unwrap().n, first.n - 1);
    let mut salvaged = 0;
    place.log.salvage(|_| salvaged += 1).unwrap();
    assert_eq!(salvaged, lines.len());
}

#[test]
fn a_segment_begins_with_what_had_proved_itself() {
    let place = Place::new();
    let head = place.append_many(AuditHead::default(), 6);
    let deployment = |version: &str, digest| Deployment {
        version: version.parse().unwrap(),
        digest: Digest([digest; 32]),
        identity: Identity {
            uuid: Uuid([1; 16]),
            received_uuid: Uuid([2; 16]),
            ctransid: 3,
            rtransid: 4,
        },
        epoch: 0,
    };
    let (fallback, good) = (deployment("v1.0.0", 1), deployment("v1.1.0", 2));
    let writing = Writing {
        limits: Limits { bytes: 1, keep: 1 },
        proved: vec![&fallback, &good],
        ..Writing::new(&place.author)
    };
    let events = [Event::general(Kind::Pinned, "")];
    let head = place.log.append(head, &events, &writing).unwrap();
    let (_, lines) = place.state(head).unwrap();
    let mut history = op_dbus_bootstate::rebuild::History::default();
    for line in &lines {
        history.line(line);
    }
    let candidates: Vec<_> = history.candidates().collect();
    assert_eq!(candidates, [good.digest, fallback.digest]);
}

/// The states of a directory during one append that closes a segment, removes one
/// and begins the next, and the head before it. Each state is what a power cut may
/// leave: what was not synced yet is there or not, and a file that was being
/// written has any of its beginnings.
fn states() -> (Vec<Files>, AuditHead) {
    let place = Place::new();
    let mut known = place.append_many(AuditHead::default(), 6);
    loop {
        let before = place.files();
        let next = place.append(known, "last");
        let after = place.files();
        let is_removal = before.len() == 1 + LIMITS.keep
            && before[OPEN] != after[OPEN]
            && !after[OPEN].starts_with(&before[OPEN]);
        if !is_removal {
            known = next;
            continue;
        }
        let closed = after.iter().find(|(name, _)| !before.contains_key(*name));
        let (closed, content) = closed.unwrap();
        assert_eq!(*content, before[OPEN]);
        let mut renamed = before.clone();
        renamed.remove(OPEN);
        renamed.insert(closed.clone(), content.clone());
        let mut states = vec![before, renamed.clone()];
        let whole = after[OPEN].len();
        let ends = (0..whole).filter(|&at| at % 7 == 0 || after[OPEN][at] == b'\n');
        for length in ends.chain([whole - 1, whole]) {
            let mut begun = renamed.clone();
            begun.insert(OPEN.to_owned(), after[OPEN][..length].to_vec());
            states.push(begun);
        }
        states.push(after);
        return (states, known);
    }
}

#[test]
fn every_state_that_a_cut_rotation_leaves_is_sound_and_goes_on() {
    let (states, known) = states();
    assert!(states.len() > 60);
    for (number, files) in states.iter().enumerate() {
        let place = Place::with(files);
        // As it is found: whole, and all that was acknowledged is there.
        let (head, before) = place
            .state(known)
            .unwrap_or_else(|why| panic!("state {number}: {why}"));
        assert!(head.length >= known.length);
        let kept = before.len();
        // What is written after it comes after it, whatever was torn.
        let next = place.append(known, "afterwards");
        let (head, lines) = place
            .state(next)
            .unwrap_or_else(|why| panic!("state {number}: {why}"));
        assert_eq!(head, next);
        assert_eq!(details(&lines).last(), Some(&"afterwards"));
        assert!(details(&lines).contains(&"last"), "state {number}");
        assert!(place.log.set_aside().unwrap().is_empty(), "state {number}");
        if number % 16 > 0 && number + 1 < states.len() {
            continue;
        }
        // And so does what comes after that.
        let last = place.append_many(next, 12);
        assert_eq!(place.state(last).unwrap().0, last, "state {number}");
        assert!(place.files().len() <= 1 + LIMITS.keep, "state {number}");
        assert!(kept > 0);
    }
}

#[test]
fn a_torn_line_is_cut_off_before_its_segment_is_closed() {
    let place = Place::new();
    let known = place.append_many(AuditHead::default(), 2);
    // Whole lines the record does not know of, and half a one, at the limit.
    let mut ahead = known;
    while fs::metadata(place.log.path()).unwrap().len() < LIMITS.bytes {
        ahead = place.append(ahead, "ahead");
    }
    let mut text = fs::read(place.log.path()).unwrap();
    text.extend(b"{\"n\":99,\"torn");
    fs::write(place.log.path(), text).unwrap();
    let head = place.append(known, "after");
    assert_eq!(place.files().len(), 2);
    let (_, lines) = place.state(head).unwrap();
    assert_eq!(lines.last().unwrap().detail, "after");
}

#[test]
fn cuts_one_after_the_other_lose_nothing_either() {
    // The record is never committed: each run sees the same old head.
    let place = Place::new();
    let known = place.append_many(AuditHead::default(), 3);
    for number in 0..40 {
        let head = place.append(known, &format!("run {number}"));
        assert!(place.state(known).is_ok() && place.state(head).is_ok());
    }
    let (_, lines) = place.state(known).unwrap();
    // Nothing of it is removed, because the record does not know of it yet.
    assert_eq!(details(&lines).len(), 43);
    assert!(lines.iter().any(|line| line.event == Kind::Rotated));
}

#[test]
fn a_log_in_segments_that_does_not_verify_is_set_aside_whole() {
    let place = Place::new();
    let head = place.append_many(AuditHead::default(), 12);
    let before = place.files();
    assert!(before.len() > 1);
    let mut text = fs::read(place.log.path()).unwrap();
    let end = text.len();
    text.truncate(end / 2);
    text.push(b'\n');
    fs::write(place.log.path(), &text).unwrap();
    for time in 1..=2 {
        let next = place.append(head, "after");
        let (_, lines) = place.state(next).unwrap();
        assert_eq!(lines[0].event, Kind::Repaired);
        let files = place.files();
        let aside = files.keys().filter(|name| name.starts_with(ASIDE)).count();
        assert_eq!(aside, (before.len() - 1) + time, "{:?}", files.keys());
        assert!(!files[&format!("{ASIDE}{time}")].is_empty());
        // The second time it is an open file alone that was tampered with.
        fs::write(place.log.path(), "nothing\n").unwrap();
    }
    let content = place.files();
    for (name, kept) in &before {
        if name != OPEN {
            assert!(content.values().any(|found| found == kept), "{name}");
        }
    }
}

#[test]
fn a_lost_record_finds_the_end_of_a_log_that_has_forgotten_its_time() {
    let place = Place::new();
    let old = place.append(AuditHead::default(), "bless");
    assert_eq!(place.log.end_after(old).unwrap(), None);
    let head = place.append_many(old, 50);
    assert!(matches!(place.state(old), Err(AuditError::After { .. })));
    assert_eq!(place.log.end_after(old).unwrap(), Some(head));
    assert_eq!(place.log.end_after(head).unwrap(), None);
}

#[test]
fn a_file_that_is_closed_while_it_is_read_is_read_once() {
    let place = Place::new();
    let head = place.append_many(AuditHead::default(), 5);
    let name = op_dbus_bootstate::audit::Segment {
        first: 1,
        last: head.length,
    };
    // What a reader sees that opened the file before it was renamed.
    fs::hard_link(place.log.path(), place.dir.path().join(name.to_string())).unwrap();
    assert_eq!(place.log.open().unwrap().len(), 1);
    assert_eq!(place.state(head).unwrap().0, head);
}

#[test]
fn names_are_known() {
    let closed = "log.000000000001-000000000512.jsonl";
    for name in [OPEN, closed] {
        assert!(is_log(name) && is_current(name));
        let kept = kept_name(name, &"ab".repeat(32)).unwrap();
        assert!(is_kept(&kept) && is_log(&kept) && !is_current(&kept));
    }
    for name in ["notified", "console", "log", "log.jsonl.old"] {
        assert!(!is_log(name), "{name}");
        assert_eq!(kept_name(name, &"ab".repeat(32)), None);
    }
    let aside = kept_name("log.set-aside.2.1-512", &"ab".repeat(32)).unwrap();
    assert_eq!(aside, "restored-abababababab.set-aside.2.1-512");
}
