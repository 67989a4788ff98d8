//! The table of the last boots.

use op_dbus_bootstate::ending::Ending;

use super::collect::Facts;
use super::paint::{Screen, Spans, Style};
use crate::boots::{Boot, Verdict, attempt};

/// Boots that are shown.
pub(crate) const SHOWN: usize = 8;
/// Most columns a role and a version take on a terminal.
const CHOICE: usize = 24;
const HEADS: [&str; 5] = ["When (UTC)", "Chosen", "Why", "Verdict", "Ended"];

/// The lines; none if no boot is known.
pub(crate) fn lines(facts: &Facts, screen: Screen) -> Vec<String> {
    let boots = facts.history.boots();
    let shown: Vec<_> = boots.iter().take(SHOWN).collect();
    if shown.is_empty() {
        return Vec::new();
    }
    let rows: Vec<_> = shown
        .iter()
        .map(|boot| cells(facts, boot, screen))
        .collect();
    let mut widths = HEADS.map(str::len);
    for row in &rows {
        for (width, (_, cell)) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head = HEADS.map(|head| (Style::Faint, head.to_owned()));
    let mut lines = vec![
        String::new(),
        screen.line(&vec![(
            Style::Strong,
            "Last boots, the newest first:".to_owned(),
        )]),
        screen.line(&aligned(&head, &widths)),
    ];
    for (boot, row) in shown.iter().zip(&rows) {
        lines.push(screen.line(&aligned(row, &widths)));
        for (style, words) in remarks(facts, boot) {
            lines.extend(screen.paragraph(&Vec::new(), 6, &vec![(style, words)]));
        }
    }
    lines
}

fn aligned(row: &[(Style, String); 5], widths: &[usize; 5]) -> Spans {
    let cells = row.iter().zip(widths).map(|((style, cell), width)| {
        let cell = super::paint::clean(cell);
        let gap = " ".repeat(width.saturating_sub(cell.chars().count()) + 2);
        [(*style, cell), (Style::Plain, gap)]
    });
    let indent = (Style::Plain, "  ".to_owned());
    std::iter::once(indent).chain(cells.flatten()).collect()
}

fn cells(facts: &Facts, boot: &Boot, screen: Screen) -> [(Style, String); 5] {
    let is_this = Some(boot.boot_id) == facts.boot_id;
    let when = match (&boot.time, &boot.logged) {
        (Some(time), _) => minute(time),
        // It was another boot that told of it.
        (None, Some(logged)) => format!("<{}", minute(logged)),
        (None, None) => "-".to_owned(),
    };
    let chosen = match (boot.slot, &boot.version, &boot.digest) {
        (Some(slot), Some(version), _) => format!("{slot} {version}"),
        (Some(slot), None, Some(digest)) => format!("{slot} {}", digest.short()),
        (None, Some(version), _) => version.to_string(),
        _ if boot.is_known => "rescue".to_owned(),
        _ => "-".to_owned(),
    };
    let why = boot.reason.map_or("-", attempt::short);
    let after = boot
        .verdict_ms
        .map(|ms| format!(" {}", duration(ms)))
        .unwrap_or_default();
    let verdict = match boot.verdict {
        Some(Verdict::Blessed) => (Style::Good, format!("blessed{after}")),
        Some(Verdict::Condemned) => (Style::Bad, format!("condemned{after}")),
        Some(Verdict::Refunded) => (Style::Notice, "refunded".to_owned()),
        None if is_this && boot.slot.is_some() => (Style::Notice, "not yet".to_owned()),
        None if boot.slot.is_some() => (Style::Notice, "none".to_owned()),
        None => (Style::Plain, "-".to_owned()),
    };
    let ended = match boot.ending {
        _ if is_this => (Style::Strong, "runs".to_owned()),
        Some(Ending::Orderly) => (Style::Plain, "orderly".to_owned()),
        Some(Ending::Unknown) => (Style::Notice, "unknown".to_owned()),
        Some(ending) => (Style::Bad, ending.to_string()),
        None => (Style::Plain, "-".to_owned()),
    };
    [
        (Style::Plain, when),
        (Style::Plain, screen.cut(&chosen, CHOICE)),
        (Style::Plain, why.to_owned()),
        verdict,
        ended,
    ]
}

/// What does not fit into a column.
fn remarks(facts: &Facts, boot: &Boot) -> Vec<(Style, String)> {
    let mut remarks = Vec::new();
    for passed in &boot.passed {
        let name = passed
            .version
            .as_ref()
            .map(ToString::to_string)
            .or_else(|| passed.digest.as_ref().and_then(|digest| facts.name(digest)))
            .or_else(|| passed.digest.map(|digest| digest.short()));
        let slot = passed
            .slot
            .map_or_else(String::new, |slot| format!("{slot} "));
        let name = name.unwrap_or_default();
        remarks.push((
            Style::Plain,
            format!("{slot}{name}: {}", passed.outcome.words()),
        ));
    }
    if let Some(why) = &boot.why {
        remarks.push((Style::Plain, why.clone()));
    }
    if let Some(words) = boot
        .ending_words
        .as_ref()
        .filter(|_| boot.ending != Some(Ending::Orderly))
    {
        remarks.push((Style::Plain, words.clone()));
    }
    if let Some(console) = facts.console(boot.boot_id) {
        let words = format!("its last words: {}", console.path.display());
        remarks.push((Style::Plain, words));
        let last = console.lines.iter();
        remarks.extend(last.map(|line| (Style::Faint, format!("| {line}"))));
    }
    remarks
}

/// `2026-11-23 10:05` of an RFC 3339 time; another text as it is.
fn minute(time: &str) -> String {
    match (time.get(..10), time.get(10..11), time.get(11..16)) {
        (Some(day), Some("T"), Some(minute)) => format!("{day} {minute}"),
        _ => time.to_owned(),
    }
}

/// A time for people: `41 s`, `12 min`, `5 h`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms.saturating_add(500) / 1000;
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6000 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{} h", (seconds + 1800) / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let cases = [
            (0, "0 s"),
            (41_499, "41 s"),
            (99_499, "99 s"),
            (99_500, "2 min"),
            (3_600_000, "60 min"),
            (5_999_000, "100 min"),
            (6_000_000, "2 h"),
            (u64::MAX, "5124095576030 h"),
        ];
        for (ms, words) in cases {
            assert_eq!(duration(ms), words, "{ms}");
        }
        assert_eq!(minute("2026-11-23T10:05:59Z"), "2026-11-23 10:05");
        assert_eq!(minute("long ago"), "long ago");
        assert_eq!(minute("ünübersichtlich"), "ünübersichtlich");
    }
}
