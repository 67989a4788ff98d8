//! A reader of the text format that forgives nothing, for tests.

use std::collections::{BTreeMap, BTreeSet};

/// A sample as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// The samples, or what is wrong with the text.
pub(crate) fn parse(text: &str) -> Result<Vec<Sample>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    let mut samples: Vec<Sample> = Vec::new();
    let mut seen = BTreeSet::new();
    // Name, type, and how many samples the family has so far.
    let mut family: Option<(String, Option<String>, usize)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("HELP without a text")?;
            if matches!(family, Some((_, _, 0))) {
                return Err(format!("{name}: the family before has no samples"));
            }
            if !is_name(name, true) || !seen.insert(name.to_owned()) {
                return Err(format!("{name}: no name, or had already"));
            }
            unescape(help, false)?;
            family = Some((name.to_owned(), None, 0));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("TYPE without a type")?;
            match &mut family {
                Some((of, known @ None, 0)) if of == name => *known = Some(kind.to_owned()),
                _ => return Err(format!("TYPE of {name} is out of its place")),
            }
            match kind {
                "gauge" if !name.ends_with("_total") => {}
                "counter" if name.ends_with("_total") => {}
                _ => return Err(format!("{name} is no {kind}")),
            }
        } else {
            let sample = sample(line)?;
            match &mut family {
                Some((of, Some(kind), count)) if *of == sample.name => {
                    *count += 1;
                    if kind == "counter" && sample.value < 0.0 {
                        return Err(format!("{line}: a negative count"));
                    }
                }
                _ => return Err(format!("{line}: a sample of another family")),
            }
            let is_same =
                |other: &Sample| (&other.name, &other.labels) == (&sample.name, &sample.labels);
            if samples.iter().any(is_same) {
                return Err(format!("{line}: had already"));
            }
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn sample(line: &str) -> Result<Sample, String> {
    let wrong = |why: &str| format!("{line}: {why}");
    let end = line.find(['{', ' ']).ok_or_else(|| wrong("no value"))?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err(wrong("no name"));
    }
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or_else(|| wrong("no label"))?;
            if !is_name(label, false) || label.starts_with("__") {
                return Err(wrong("no name of a label"));
            }
            let end = closing(after).ok_or_else(|| wrong("a quote that does not end"))?;
            let value = unescape(&after[..end], true)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(wrong("a label twice"));
            }
            rest = &after[end + 1..];
            if let Some(next) = rest.strip_prefix(',') {
                rest = next;
                continue;
            }
            rest = rest
                .strip_prefix('}')
                .ok_or_else(|| wrong("no end of labels"))?;
            break;
        }
    }
    let value = rest.strip_prefix(' ').ok_or_else(|| wrong("no value"))?;
    let is_number = value
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'e' | b'+'));
    let value = value
        .parse()
        .ok()
        .filter(|_| is_number)
        .ok_or_else(|| wrong("no number"))?;
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// Where the quote ends that the text is in.
fn closing(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return Some(at),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str, is_label: bool) -> Result<String, String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if is_label => '"',
                other => return Err(format!("{text}: \\{other:?} is no escape")),
            },
            c => c,
        });
    }
    Ok(plain)
}

fn is_name(name: &str, may_have_colons: bool) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || (may_have_colons && c == ':');
    name.starts_with(is_first) && name.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

#[test]
fn it_forgives_nothing() {
    let begin = "# HELP a x\n# TYPE a gauge\n";
    for (text, words) in [
        ("a 1\n", "another family"),
        ("# HELP a x\n# TYPE a gauge\na 1", "no end"),
        ("# HELP a x\na 1\n", "another family"),
        ("# TYPE a gauge\na 1\n", "out of its place"),
        ("# HELP a x\n# TYPE a counter\na 1\n", "is no counter"),
        (
            "# HELP a_total x\n# TYPE a_total gauge\na_total 1\n",
            "is no gauge",
        ),
        ("# HELP a x\n# TYPE a gauge\na 1\na 2\n", "had already"),
        (
            "# HELP a x\n# TYPE a gauge\na 1\n# HELP a x\n",
            "had already",
        ),
        ("# HELP a x\n# TYPE a gauge\n# HELP b x\n", "no samples"),
        (
            "# HELP a x\n# TYPE a gauge\na{l=\"1\",l=\"2\"} 2\n",
            "twice",
        ),
        ("# HELP a x\n# TYPE a gauge\na{l=\"\\t\"} 2\n", "no escape"),
        ("# HELP a x\n# TYPE a gauge\na{l=\"1} 2\n", "does not end"),
        (
            "# HELP a x\n# TYPE a gauge\na{1=\"1\"} 2\n",
            "no name of a label",
        ),
        ("# HELP a x\n# TYPE a gauge\na 1 \n", "no number"),
        ("# HELP a x\n# TYPE a gauge\na one\n", "no number"),
        ("# HELP a x\n# TYPE a gauge\na inf\n", "no number"),
        ("# HELP a x\n# TYPE a gauge\n\n", "no value"),
    ] {
        let why = parse(text).unwrap_err();
        assert!(why.contains(words), "{text}: {why}");
    }
    assert_eq!(
        parse(&format!("{begin}a{{l=\"1\"}} 2\na -1.5\n"))
            .unwrap()
            .len(),
        2
    );
}
