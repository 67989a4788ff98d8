//! How far an operation is, out of the lines `op-dbus-stage receive --progress`
//! prints. No input or output here.

use serde_json::Value as Json;

/// Where the phases of a receive begin and end on the way from 0 to 100 percent:
/// in a row, so that the percentage never goes back.
const PHASES: [(&str, u32, u32); 4] = [
    ("receiving", 0, 80),
    ("writing", 80, 85),
    ("reading-back", 85, 99),
    ("publishing", 99, 100),
];

/// A phase, and how much of the whole operation is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which phase, in a word.
    pub phase: &'static str,
    /// Of the whole operation, 0 to 100.
    pub percent: u32,
}

impl Progress {
    /// Before the first line of a child.
    pub fn began(phase: &'static str) -> Self {
        Self { phase, percent: 0 }
    }

    /// The place that a line names; none if it names none that is known.
    pub fn of(line: &Json) -> Option<Self> {
        let said = line.get("progress")?;
        let word = said.get("phase")?.as_str()?;
        let (phase, from, to) = PHASES.into_iter().find(|(name, ..)| *name == word)?;
        let number = |name| said.get(name).and_then(Json::as_u64);
        let share = match (number("done"), number("total")) {
            (Some(done), Some(total)) if total > 0 => {
                let share = u128::from(done.min(total)) * u128::from(to - from) / u128::from(total);
                u32::try_from(share).unwrap_or_default()
            }
            _ => 0,
        };
        Some(Self {
            phase,
            percent: from + share,
        })
    }

    /// This place, or the one before where that was further: it never goes back.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        Self {
            percent: self.percent.max(before.percent),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(phase: &str, done: u64, total: Option<u64>) -> Option<u32> {
        let line = json!({"progress": {"phase": phase, "done": done, "total": total}});
        Progress::of(&line).map(|progress| progress.percent)
    }

    #[test]
    fn phases_follow_one_another() {
        assert_eq!(at("receiving", 0, Some(10)), Some(0));
        assert_eq!(at("receiving", 5, Some(10)), Some(40));
        assert_eq!(at("receiving", 10, Some(10)), Some(80));
        assert_eq!(at("writing", 0, None), Some(80));
        assert_eq!(at("reading-back", 0, None), Some(85));
        assert_eq!(at("reading-back", 1, Some(2)), Some(92));
        assert_eq!(at("publishing", 0, None), Some(99));
        for pair in PHASES.windows(2) {
            assert_eq!(pair[0].2, pair[1].1);
        }
    }

    #[test]
    fn odd_lines_are_no_progress() {
        assert_eq!(at("dancing", 1, Some(2)), None);
        assert_eq!(at("receiving", 9, Some(0)), Some(0));
        assert_eq!(at("receiving", u64::MAX, Some(1)), Some(80));
        assert_eq!(Progress::of(&json!({"warning": "x"})), None);
        assert_eq!(Progress::of(&json!({"progress": 3})), None);
        let far = Progress {
            phase: "writing",
            percent: 80,
        };
        assert_eq!(Progress::began("receiving").after(&far).percent, 80);
    }
}
