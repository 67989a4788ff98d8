//! Prometheus' text format (version 0.0.4): families of samples, in words a
//! strict reader takes.
//!
//! By its rules: `# HELP` and `# TYPE` once a family, before its samples, which
//! stand together; no two samples with the same labels; in a label's value `\`,
//! `"` and the line feed are escaped, in a help text `\` and the line feed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a family's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, or begins anew.
    Counter,
}

/// Labels, by their names.
pub(crate) type Labels = BTreeMap<&'static str, String>;

/// Samples of one name.
#[derive(Debug)]
pub(crate) struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: BTreeMap<Labels, f64>,
}

impl Family {
    /// One without samples.
    pub(crate) fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            kind,
            samples: BTreeMap::new(),
        }
    }

    /// Adds a sample; to one with the same labels, its number.
    #[must_use]
    pub(crate) fn with<const N: usize>(
        mut self,
        labels: [(&'static str, &str); N],
        value: f64,
    ) -> Self {
        let labels = labels.map(|(name, value)| (name, value.to_owned()));
        *self.samples.entry(labels.into()).or_default() += value;
        self
    }

    /// Adds the one sample without labels, if its value is known.
    #[must_use]
    pub(crate) fn is(self, value: Option<f64>) -> Self {
        match value {
            Some(value) => self.with([], value),
            None => self,
        }
    }

    /// How many samples it has.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    fn write(&self, text: &mut String) {
        if self.samples.is_empty() {
            return;
        }
        let name = self.name;
        let kind = match self.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let help = self.help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string can't fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in &self.samples {
            text.push_str(name);
            let mut before = '{';
            for (label, words) in labels {
                let _ = write!(text, "{before}{label}=\"{}\"", escaped(words));
                before = ',';
            }
            if !labels.is_empty() {
                text.push('}');
            }
            let _ = writeln!(text, " {value}");
        }
    }
}

/// All families as one text.
pub(crate) fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families {
        family.write(&mut text);
    }
    text
}

fn escaped(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::metrics::strict;

    #[test]
    fn a_strict_reader_takes_it() {
        let families = [
            Family::new(Kind::Gauge, "a_seconds", "With \\ and\nline feed.").is(Some(0.25)),
            Family::new(Kind::Counter, "b_total", "Labels.")
                .with(
                    [("path", "C:\\DIR\\"), ("words", "say \"hi\"\n{x=\"1\"} 5")],
                    3.0,
                )
                .with([("path", "ü"), ("words", "")], 0.0),
            Family::new(Kind::Gauge, "none", "Not there at all.").is(None),
        ];
        let text = text(&families);
        let expected = "\
# HELP a_seconds With \\\\ and\\nline feed.
# TYPE a_seconds gauge
a_seconds 0.25
# HELP b_total Labels.
# TYPE b_total counter
b_total{path=\"C:\\\\DIR\\\\\",words=\"say \\\"hi\\\"\\n{x=\\\"1\\\"} 5\"} 3
b_total{path=\"ü\",words=\"\"} 0
";
        assert_eq!(text, expected);
        let samples = strict::parse(&text).unwrap();
        assert_eq!(samples.len(), 3);
        assert_eq!(samples[1].labels["path"], "C:\\DIR\\");
        assert_eq!(samples[1].labels["words"], "say \"hi\"\n{x=\"1\"} 5");
    }

    #[test]
    fn the_same_labels_are_one_sample() {
        let family = Family::new(Kind::Gauge, "a", "x")
            .with([("l", "1")], 1.5)
            .with([("l", "1")], 2.0);
        assert_eq!(
            text(&[family]),
            "# HELP a x\n# TYPE a gauge\na{l=\"1\"} 3.5\n"
        );
    }

    #[test]
    fn numbers_are_written_as_the_format_takes_them() {
        for (value, words) in [
            (0.0, "0"),
            (1e15, "1000000000000000"),
            (0.000_001, "0.000001"),
            (-1.0, "-1"),
        ] {
            let text = text(&[Family::new(Kind::Gauge, "a", "x").is(Some(value))]);
            assert!(text.ends_with(&format!("\na {words}\n")), "{text}");
        }
    }
}
