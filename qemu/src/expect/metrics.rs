//! The metrics textfile of a Debian machine, read as a collector reads it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};

/// Where the machine's configuration has it: gone with the boot, so whatever is in
/// it is of this boot, and writable on every machine.
pub const FILE: &str = "/run/op-dbus-vm.prom";

/// A name with labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
}

/// All samples of a text.
#[derive(Debug)]
pub(super) struct Samples(BTreeMap<Series, f64>);

impl Samples {
    /// Reads the text format; an error where a collector would refuse the file.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = |line: &str, why: &str| {
            Error::Expectation(format!("{FILE}: {why}: {line}; whole:\n{text}"))
        };
        if !text.ends_with('\n') {
            return Err(wrong("", "its last line has no end"));
        }
        let mut samples = BTreeMap::new();
        let mut types = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix('#') {
                let mut words = comment.split_whitespace();
                let (Some("TYPE"), Some(name), Some(kind)) =
                    (words.next(), words.next(), words.next())
                else {
                    continue;
                };
                let is_known = matches!(kind, "gauge" | "counter");
                if !is_known || types.insert(name.to_owned(), kind).is_some() {
                    return Err(wrong(line, "no type, or a second one"));
                }
                continue;
            }
            let (series, value) = sample(line).ok_or_else(|| wrong(line, "no sample"))?;
            if !types.contains_key(&series.name) {
                return Err(wrong(line, "a sample before its type"));
            }
            if samples.insert(series, value).is_some() {
                return Err(wrong(line, "a second sample of the same"));
            }
        }
        Ok(Self(samples))
    }

    /// What is not as it is wanted; nothing where all is. A key is a name with those
    /// labels that matter; a value is a number, or `null` for none.
    pub(super) fn differ(&self, wanted: &BTreeMap<String, Value>) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for (key, value) in wanted {
            let series = series(key).filter(|(_, rest)| rest.is_empty());
            let (series, _) =
                series.ok_or_else(|| Error::Scenario(format!("'{key}' names no sample")))?;
            let found: Vec<f64> = self.of(&series).collect();
            let is_right = match value.as_f64() {
                Some(value) => matches!(found[..], [only] if only.total_cmp(&value).is_eq()),
                None => found.is_empty(),
            };
            if !is_right {
                wrong.push(format!("{key} is {found:?} in place of {value}"));
            }
        }
        Ok(wrong)
    }

    fn of<'a>(&'a self, wanted: &'a Series) -> impl Iterator<Item = f64> + 'a {
        let fits = |series: &Series| {
            series.name == wanted.name
                && wanted
                    .labels
                    .iter()
                    .all(|(label, value)| series.labels.get(label) == Some(value))
        };
        let of = self.0.iter().filter(move |(series, _)| fits(series));
        of.map(|(_, value)| *value)
    }
}

/// `name{label="value"} 1`.
fn sample(line: &str) -> Option<(Series, f64)> {
    let (series, rest) = series(line)?;
    let value: f64 = rest.strip_prefix(' ')?.parse().ok()?;
    value.is_finite().then_some((series, value))
}

/// A name with labels at the begin of `text`, and what follows.
fn series(text: &str) -> Option<(Series, &str)> {
    let (name, mut rest) = word(text)?;
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = word(rest)?;
            let (value, after) = quoted(after.strip_prefix('=')?)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            let Some(next) = after.strip_prefix(',') else {
                rest = after.strip_prefix('}')?;
                break;
            };
            rest = next;
        }
    }
    let name = name.to_owned();
    Some((Series { name, labels }, rest))
}

fn word(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    let first = word.chars().next()?;
    (!first.is_ascii_digit()).then_some((word, rest))
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.strip_prefix('"')?.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TEXT: &str = "# HELP x_info What it is.\n# TYPE x_info gauge\nx_info{role=\"good\",version=\"v1\"} 1\nx_info{role=\"trial\",version=\"v\\\"2\"} 1\n# TYPE y_total counter\ny_total 3\n";

    #[test]
    fn samples_are_found_by_the_labels_that_matter() {
        let samples = Samples::parse(TEXT).unwrap();
        let differ = |key: &str, value: Value| {
            let wanted = BTreeMap::from([(key.to_owned(), value)]);
            samples.differ(&wanted).unwrap()
        };
        assert!(differ("y_total", json!(3)).is_empty());
        assert!(differ(r#"x_info{version="v\"2"}"#, json!(1)).is_empty());
        assert!(differ(r#"x_info{role="fallback"}"#, Value::Null).is_empty());
        // One of two, and the wrong number.
        assert!(!differ("x_info", json!(1)).is_empty());
        assert!(!differ("y_total", json!(2)).is_empty());
        assert!(!differ("y_total", Value::Null).is_empty());
        assert!(!differ("z_total", json!(0)).is_empty());
        let nonsense = BTreeMap::from([("y_total 3".to_owned(), json!(3))]);
        assert!(samples.differ(&nonsense).is_err());
    }

    #[test]
    fn what_a_collector_would_refuse_is_an_error() {
        for (from, to) in [
            ("y_total 3\n", "y_total 3"),
            ("y_total 3", "y_total"),
            ("y_total 3", "y_total three"),
            ("y_total 3", "y_total 3\ny_total 4"),
            ("# TYPE y_total counter\n", ""),
            ("# TYPE y_total counter", "# TYPE x_info gauge"),
            ("role=\"good\",", "role=\"good\""),
            ("v\\\"2", "v\"2"),
            ("{role=\"good\"", "{role=\"good\",role=\"good\""),
            ("counter", "number"),
        ] {
            let bad = TEXT.replacen(from, to, 1);
            assert_ne!(bad, TEXT, "{from}");
            assert!(Samples::parse(&bad).is_err(), "{bad}");
        }
    }
}
