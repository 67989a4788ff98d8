//! The log's files: one that is open, and closed ones named by their lines.

use std::fmt;

/// Name of the file that is being written.
pub const OPEN: &str = "log.jsonl";
/// Digits of a number in a name, so that names sort as their numbers do.
const DIGITS: usize = 12;

/// A closed segment: its first line and its last. Its name is
/// `log.<first>-<last>.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Number of its first line.
    pub first: u64,
    /// Number of its last line.
    pub last: u64,
}

impl Segment {
    /// The segment of a name; none if it is no segment's.
    pub fn parse(name: &str) -> Option<Self> {
        let lines = name.strip_prefix("log.")?.strip_suffix(".jsonl")?;
        let (first, last) = lines.split_once('-')?;
        let segment = Self {
            first: number(first)?,
            last: number(last)?,
        };
        (1..=segment.last)
            .contains(&segment.first)
            .then_some(segment)
    }
}

/// A number as it is written, and in no other way: one segment has one name.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.len() >= DIGITS
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == DIGITS || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        write!(f, "log.{first:0DIGITS$}-{last:0DIGITS$}.jsonl")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_as_they_are_written_and_sort_as_their_lines() {
        let mut names = Vec::new();
        for (first, last) in [(1, 1), (1, 512), (513, 99_999), (100_000, u64::MAX)] {
            let segment = Segment { first, last };
            let name = segment.to_string();
            assert_eq!(Segment::parse(&name), Some(segment), "{name}");
            names.push(name);
        }
        assert_eq!(names[1], "log.000000000001-000000000512.jsonl");
        assert!(names.is_sorted());
    }

    #[test]
    fn other_names_are_no_segments() {
        for name in [
            OPEN,
            "log.set-aside.1",
            "log.1-2.jsonl",
            "log.000000000002-000000000001.jsonl",
            "log.000000000000-000000000001.jsonl",
            "log.0000000000001-000000000002.jsonl",
            "log.+00000000001-000000000002.jsonl",
            "log.000000000001-99999999999999999999.jsonl",
            "log.000000000001-000000000002.jsonl.old",
            "xlog.000000000001-000000000002.jsonl",
        ] {
            assert_eq!(Segment::parse(name), None, "{name}");
        }
    }
}
