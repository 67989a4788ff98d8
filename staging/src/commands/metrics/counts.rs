//! What is counted over the audit log.
//!
//! A counter must not go down when an old segment of the log is removed, or
//! Prometheus takes that for a restart and counts everything once more. So the
//! counts are kept, with the line up to which they count, in the store's
//! `metrics.json`. That file is a convenience: without it, or with one that does
//! not fit the log, the lines that are there are counted anew.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use op_dbus_activator::files::{self, Durable};
use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::audit::{AuditHead, Kind, Line};
use op_dbus_bootstate::record::{Outcome, Reason};
use op_dbus_bootstate::{Digest, Slot};
use serde::{Deserialize, Serialize};

use crate::boots::attempt::Attempt;

const SCHEMA: u32 = 1;
/// Longest file that is read, in bytes.
const FILE_MAX: usize = 64 * 1024;
/// Reasons for which a boot passes over the version it should have taken.
pub(crate) const PASSED_OVER: [Reason; 5] = [
    Reason::TriesExhausted,
    Reason::CandidateFailed,
    Reason::NotDurable,
    Reason::GoodLimit,
    Reason::GoodCondemned,
];
/// The reason of a fallback after a verdict.
pub(crate) const CONDEMNED: &str = "condemned";

/// Numbers that only go up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Lines of each kind.
    pub(crate) events: BTreeMap<String, u64>,
    /// Boots' dealings with a candidate: role, outcome and reason, spaces between.
    pub(crate) attempts: BTreeMap<String, u64>,
    /// Boots that ran another version than they should have, by reason.
    pub(crate) fallbacks: BTreeMap<String, u64>,
    /// Boots that ran none, though there are some.
    pub(crate) rescues: u64,
    /// Boots, by how they ended.
    pub(crate) endings: BTreeMap<String, u64>,
    /// Milliseconds from boot to bless, of the last bless.
    pub(crate) to_bless_ms: Option<u64>,
    /// The version condemned since the last boot.
    condemned: Option<Digest>,
}

impl Counts {
    /// Counts one more line.
    fn line(&mut self, line: &Line) {
        add(&mut self.events, line.event.to_string());
        match line.event {
            Kind::Attempt => {
                if let Some(attempt) = Attempt::parse(&line.detail) {
                    self.attempt(attempt, line.digest);
                }
            }
            Kind::Blessed => self.to_bless_ms = line.up_ms.or(self.to_bless_ms),
            Kind::Condemned => self.condemned = line.digest,
            Kind::Ended => {
                if let Some(ending) = line.ending {
                    add(&mut self.endings, ending.to_string());
                }
            }
            _ => {}
        }
    }

    fn attempt(&mut self, attempt: Attempt, digest: Option<Digest>) {
        let role = attempt
            .slot
            .map_or_else(|| "none".to_owned(), |slot| slot.to_string());
        let key = format!(
            "{role} {} {}",
            word(&attempt.outcome),
            word(&attempt.reason)
        );
        add(&mut self.attempts, key);
        if attempt.slot.is_none() {
            let is_wanted = matches!(
                attempt.reason,
                Reason::NothingInstalled | Reason::CommandLine
            );
            self.rescues = self.rescues.saturating_add(u64::from(!is_wanted));
            self.condemned = None;
            return;
        }
        if attempt.outcome != Outcome::Selected {
            return;
        }
        let condemned = self.condemned.take();
        let is_other = condemned.is_some_and(|condemned| Some(condemned) != digest);
        if PASSED_OVER.contains(&attempt.reason) {
            add(&mut self.fallbacks, word(&attempt.reason));
        } else if is_other && attempt.slot != Some(Slot::Trial) {
            add(&mut self.fallbacks, CONDEMNED.to_owned());
        }
    }
}

fn add(counts: &mut BTreeMap<String, u64>, key: String) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
}

/// A value as it is written in JSON: a stable word.
pub(crate) fn word(value: &impl Serialize) -> String {
    let text = serde_json::to_value(value).unwrap_or_default();
    text.as_str().unwrap_or("unknown").to_owned()
}

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    schema: u32,
    /// The last line that is counted, and its hash.
    lines: u64,
    head: Digest,
    counts: Counts,
}

/// Counts lines, from where the last run ended.
#[derive(Debug)]
pub(crate) struct Counter {
    kept: Option<Kept>,
    /// Whether the kept counts are about this log; not known before their line.
    fits: Option<bool>,
    all: Counts,
    more: Counts,
    at: AuditHead,
}

impl Counter {
    /// Goes on from what the last run left.
    pub(crate) fn open(layout: &Layout) -> Self {
        let bytes = files::read_bounded(&path(layout), FILE_MAX).unwrap_or_default();
        let kept: Option<Kept> = serde_json::from_slice(&bytes).ok();
        Self::new(kept.filter(|kept| kept.schema == SCHEMA))
    }

    fn new(kept: Option<Kept>) -> Self {
        Self {
            more: kept
                .as_ref()
                .map(|kept| kept.counts.clone())
                .unwrap_or_default(),
            kept,
            fits: None,
            all: Counts::default(),
            at: AuditHead::default(),
        }
    }

    /// The next line of the log, and the head with it.
    pub(crate) fn line(&mut self, line: &Line, head: &AuditHead) {
        self.all.line(line);
        if let Some(kept) = &self.kept {
            if line.n == kept.lines {
                self.fits = Some(head.head == kept.head);
            } else if line.n > kept.lines {
                // The line itself may be gone, with the segment it was in.
                self.fits.get_or_insert(true);
                self.more.line(line);
            }
        }
        self.at = *head;
    }

    /// The counts.
    pub(crate) fn counts(&self) -> &Counts {
        match self.fits {
            Some(true) => &self.more,
            // No lines at all: the log can't be read, or is gone.
            None if self.at.length == 0 => &self.more,
            _ => &self.all,
        }
    }

    /// Keeps the counts for the next run, if there is anything new.
    pub(crate) fn keep(&self, layout: &Layout) -> io::Result<()> {
        let is_known = self.kept.as_ref().is_some_and(|kept| {
            self.fits == Some(true) && (kept.lines, kept.head) == (self.at.length, self.at.head)
        });
        if is_known || self.at.length == 0 {
            return Ok(());
        }
        let kept = Kept {
            schema: SCHEMA,
            lines: self.at.length,
            head: self.at.head,
            counts: self.counts().clone(),
        };
        let text = serde_json::to_vec(&kept)?;
        files::replace(&path(layout), &text, 0o600, Durable::Yes)
    }
}

/// Where the counts are kept.
pub(crate) fn path(layout: &Layout) -> PathBuf {
    layout.store.join("metrics.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::audit::{Event, hash_line};
    use op_dbus_bootstate::ending::Ending;
    use op_dbus_bootstate::{BootId, record};

    const GOOD: Digest = Digest([1; 32]);
    const TRIED: Digest = Digest([2; 32]);

    fn line(n: u64, event: Kind, digest: Option<Digest>, detail: &str) -> Line {
        Line {
            n,
            time: "2026-11-23T10:00:00Z".to_owned(),
            boot: Some(BootId([1; 16])),
            up_ms: Some(n * 1000),
            actor: "test".to_owned(),
            event,
            version: None,
            digest,
            ending: (event == Kind::Ended).then_some(Ending::Panic),
            rotation: None,
            detail: detail.to_owned(),
            prev: Digest([0; 32]),
        }
    }

    fn attempted(
        n: u64,
        slot: Option<Slot>,
        digest: Option<Digest>,
        outcome: Outcome,
        reason: Reason,
    ) -> Line {
        let attempt = record::Attempt {
            boot_id: BootId([1; 16]),
            slot,
            digest,
            outcome,
            reason,
        };
        line(n, Kind::Attempt, digest, &Event::attempt(&attempt).detail)
    }

    fn selected(n: u64, slot: Slot, digest: Digest, reason: Reason) -> Line {
        attempted(n, Some(slot), Some(digest), Outcome::Selected, reason)
    }

    fn head(line: &Line) -> AuditHead {
        AuditHead {
            length: line.n,
            head: hash_line(line.detail.as_bytes()),
            missed: 0,
        }
    }

    fn count(counter: &mut Counter, lines: &[Line]) {
        for line in lines {
            counter.line(line, &head(line));
        }
    }

    fn story() -> Vec<Line> {
        vec![
            selected(1, Slot::Trial, TRIED, Reason::TrialDue),
            line(2, Kind::Condemned, Some(TRIED), "was trial: x"),
            line(3, Kind::Ended, None, ""),
            selected(4, Slot::Good, GOOD, Reason::Regular),
            line(5, Kind::Blessed, Some(GOOD), "was good"),
            attempted(
                6,
                Some(Slot::Trial),
                Some(TRIED),
                Outcome::TriesExhausted,
                Reason::TrialDue,
            ),
            selected(7, Slot::Good, GOOD, Reason::TriesExhausted),
            // Good gets another chance: no fallback.
            line(8, Kind::Condemned, Some(GOOD), "was good: x"),
            selected(9, Slot::Good, GOOD, Reason::Regular),
            attempted(10, None, None, Outcome::Selected, Reason::NothingLeft),
            attempted(11, None, None, Outcome::Selected, Reason::NothingInstalled),
        ]
    }

    #[test]
    fn a_boot_that_ran_another_version_than_it_should_is_a_fallback() {
        let mut counter = Counter::new(None);
        count(&mut counter, &story());
        let counts = counter.counts();
        let expected = [
            ("condemned".to_owned(), 1),
            ("tries-exhausted".to_owned(), 1),
        ];
        assert_eq!(counts.fallbacks, expected.into());
        assert_eq!((counts.rescues, counts.to_bless_ms), (1, Some(5000)));
        assert_eq!(counts.endings, [("panic".to_owned(), 1)].into());
        assert_eq!(counts.attempts["good selected regular"], 2);
        assert_eq!(counts.events["condemned"], 2);
    }

    #[test]
    fn counting_in_parts_is_counting_at_once() {
        let (_dir, layout) = store();
        let story = story();
        let mut whole = Counter::new(None);
        count(&mut whole, &story);
        for cut in 0..=story.len() {
            let _ = std::fs::remove_file(path(&layout));
            let mut first = Counter::open(&layout);
            count(&mut first, &story[..cut]);
            first.keep(&layout).unwrap();
            let mut second = Counter::open(&layout);
            count(&mut second, &story);
            assert_eq!(second.counts(), whole.counts(), "{cut}");
        }
    }

    #[test]
    fn a_segment_that_is_gone_takes_no_counts_with_it() {
        let (_dir, layout) = store();
        let story = story();
        let mut first = Counter::open(&layout);
        count(&mut first, &story[..6]);
        first.keep(&layout).unwrap();
        for kept in 0..story.len() {
            let mut second = Counter::open(&layout);
            count(&mut second, &story[kept..]);
            let counts = second.counts();
            assert!(counts.events["condemned"] >= 1, "{kept}: {counts:?}");
            assert!(counts.events["attempt"] >= 3, "{kept}: {counts:?}");
        }
    }

    #[test]
    fn another_log_is_counted_anew_and_a_missing_one_changes_nothing() {
        let (_dir, layout) = store();
        let mut first = Counter::open(&layout);
        count(&mut first, &story());
        first.keep(&layout).unwrap();
        let file = std::fs::read(path(&layout)).unwrap();
        let other = [
            line(
                1,
                Kind::Repaired,
                None,
                "the log before this one does not verify",
            ),
            line(2, Kind::Condemned, Some(GOOD), ""),
        ];
        // Shorter than what was counted, and with another line at its place.
        let mut longer = other.to_vec();
        longer.extend((3..20).map(|n| line(n, Kind::Pinned, None, "other")));
        for other in [other.to_vec(), longer] {
            let mut second = Counter::open(&layout);
            count(&mut second, &other);
            assert_eq!(second.counts().events["condemned"], 1);
        }
        let gone = Counter::open(&layout);
        assert_eq!(gone.counts(), first.counts());
        gone.keep(&layout).unwrap();
        assert_eq!(std::fs::read(path(&layout)).unwrap(), file);
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_as_good_as_none() {
        let (_dir, layout) = store();
        for text in ["", "{", "{\"schema\":2,\"lines\":5}", "[]"] {
            std::fs::write(path(&layout), text).unwrap();
            let mut counter = Counter::open(&layout);
            count(&mut counter, &story());
            assert_eq!(counter.counts().rescues, 1, "{text}");
        }
    }

    fn store() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), "/").with_store(dir.path());
        (dir, layout)
    }
}
