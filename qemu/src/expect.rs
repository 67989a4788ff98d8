//! What must be true of a running guest.

pub mod metrics;
pub mod told;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::scenario::{fill_values, substitute};
use metrics::Samples;
use told::News;

/// Between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(500);

/// What must be true. Keys are JSON pointers; a value `null` means absent or
/// null.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Of `/run/op-dbus/activation.json`.
    #[serde(default)]
    pub activation: BTreeMap<String, Value>,
    /// Of `op-dbus-stage status --json`.
    #[serde(default)]
    pub status: BTreeMap<String, Value>,
    /// Texts that what status has there contains; a list or an object is taken as
    /// its JSON.
    #[serde(default)]
    pub status_says: BTreeMap<String, String>,
    /// Lines of the audit log, in this order, whatever is between them. The first
    /// one fixes from where on, so it should be of this scenario alone.
    #[serde(default)]
    pub audit: Vec<AuditLine>,
    /// What files hold, to the last byte, by their absolute paths; `null`: there
    /// is none.
    #[serde(default)]
    pub files: BTreeMap<String, Value>,
    /// The version that the demo service answers over the system bus.
    #[serde(default)]
    pub bus: Option<String>,
    /// News of this boot that a hook was told, in this order, whatever is between;
    /// waited for (Debian only).
    #[serde(default)]
    pub told: Vec<News>,
    /// Samples in the metrics textfile, as `name` or `name{label="value"}` with those
    /// labels that matter, and their values; waited for (Debian only).
    #[serde(default)]
    pub metrics: BTreeMap<String, Value>,
}

/// What a line of the audit log must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditLine {
    /// Its kind.
    pub event: String,
    /// Whom it is about.
    #[serde(default)]
    pub version: Option<String>,
    /// How a boot ended.
    #[serde(default)]
    pub ending: Option<String>,
    /// Texts its `detail` contains.
    #[serde(default)]
    pub says: Vec<String>,
}

impl Expect {
    /// The same with every `${name}` replaced.
    pub(crate) fn with(&self, values: &BTreeMap<String, String>) -> Result<Self> {
        let fill = |text: &str| substitute(text, values);
        let line = |line: &AuditLine| {
            Ok(AuditLine {
                event: fill(&line.event)?,
                version: line.version.as_deref().map(fill).transpose()?,
                ending: line.ending.as_deref().map(fill).transpose()?,
                says: line
                    .says
                    .iter()
                    .map(|text| fill(text))
                    .collect::<Result<_>>()?,
            })
        };
        let says = |(pointer, text): (&String, &String)| Ok((pointer.clone(), fill(text)?));
        Ok(Self {
            activation: fill_values(&self.activation, values)?,
            status: fill_values(&self.status, values)?,
            status_says: self.status_says.iter().map(says).collect::<Result<_>>()?,
            audit: self.audit.iter().map(line).collect::<Result<_>>()?,
            files: fill_values(&self.files, values)?,
            bus: self.bus.as_deref().map(fill).transpose()?,
            told: self
                .told
                .iter()
                .map(|news| news.with(values))
                .collect::<Result<_>>()?,
            metrics: fill_values(&self.metrics, values)?
                .into_iter()
                .map(|(series, value)| Ok((fill(&series)?, value)))
                .collect::<Result<_>>()?,
        })
    }

    /// Looks at `guest`; what is worth telling, or what is not as it must be.
    pub fn check(&self, guest: &mut Guest, within: Duration) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        if !self.activation.is_empty() {
            let path = "/run/op-dbus/activation.json";
            let text = guest
                .read(path, within)?
                .ok_or_else(|| Error::Expectation(format!("{path} is missing")))?;
            compare("activation.json", &text, &self.activation)?;
        }
        if !self.status.is_empty() || !self.status_says.is_empty() {
            let exit = guest.run(&["op-dbus-stage", "status", "--json"], within)?;
            compare("status", &exit.stdout, &self.status)?;
            contains("status", &exit.stdout, &self.status_says)?;
        }
        if !self.audit.is_empty() {
            let log = guest.check(&["op-dbus-stage", "audit", "log", "--json"], within)?;
            notes.extend(follow(&log, &self.audit)?);
        }
        for (path, wanted) in &self.files {
            let found = guest.read(path, within)?;
            let wanted = wanted.as_str().filter(|wanted| *wanted != "null");
            if found.as_deref() != wanted {
                return Err(Error::Expectation(format!(
                    "{path} holds {found:?} in place of {wanted:?}"
                )));
            }
        }
        if let Some(version) = &self.bus {
            let (name, path) = ("org.opdbus.Demo", "/org/opdbus/Demo");
            let argv = ["busctl", "get-property", name, path, name, "Version"];
            let answer = guest.check(&argv, within)?;
            if answer.trim() != format!("s \"{version}\"") {
                return Err(Error::Expectation(format!(
                    "{name} answers {} in place of {version}",
                    answer.trim()
                )));
            }
            notes.push(format!("{name} answers {version}"));
        }
        if !self.told.is_empty() {
            let boot = guest.ready().map(|(boot, _)| boot.to_owned());
            let boot = boot.unwrap_or_default();
            let told = wait_for(guest, told::FILE, within, |text| {
                told::follow(text, &boot, &self.told)
            })?;
            notes.extend(told);
        }
        if !self.metrics.is_empty() {
            wait_for(guest, metrics::FILE, within, |text| {
                let wrong = Samples::parse(text)?.differ(&self.metrics)?;
                Ok(wrong.is_empty().then_some(()))
            })?;
            notes.push(format!("{} samples are as wanted", self.metrics.len()));
        }
        Ok(notes)
    }
}

/// Reads a file of the guest again and again, until `look` finds in it what is
/// wanted. That costs the guest no process.
fn wait_for<T>(
    guest: &mut Guest,
    path: &str,
    within: Duration,
    look: impl Fn(&str) -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let text = guest.read(path, within)?;
        if let Some(found) = text.as_deref().map(&look).transpose()?.flatten() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            let text = text.as_deref().unwrap_or("no such file");
            return Err(Error::Expectation(format!(
                "what is wanted did not come into {path} within {} s; it holds:\n{text}",
                within.as_secs()
            )));
        }
        thread::sleep(PAUSE);
    }
}

impl AuditLine {
    fn fits(&self, line: &Value) -> bool {
        let text = |name: &str| line.get(name).and_then(Value::as_str);
        let is = |name: &str, wanted: &Option<String>| {
            wanted.is_none() || text(name) == wanted.as_deref()
        };
        let detail = text("detail").unwrap_or_default();
        text("event") == Some(&self.event)
            && is("version", &self.version)
            && is("ending", &self.ending)
            && self.says.iter().all(|says| detail.contains(says))
    }
}

fn parse(what: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| Error::Expectation(format!("{what} is no JSON ({error}): {text}")))
}

/// An error that names what is `wrong` in `text`, if anything is.
fn verdict(what: &str, text: &str, wrong: &[String]) -> Result<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Expectation(format!(
        "{what}: {}; whole: {}",
        wrong.join(", "),
        text.trim()
    )))
}

/// Checks each pointer of `wanted` against the JSON `text`.
fn compare(what: &str, text: &str, wanted: &BTreeMap<String, Value>) -> Result<()> {
    let found = parse(what, text)?;
    let mut wrong = Vec::new();
    for (pointer, value) in wanted {
        let seen = found.pointer(pointer).unwrap_or(&Value::Null);
        if seen != value {
            wrong.push(format!("{pointer} is {seen} in place of {value}"));
        }
    }
    verdict(what, text, &wrong)
}

/// Checks that what the JSON `text` has at each pointer contains the words.
fn contains(what: &str, text: &str, wanted: &BTreeMap<String, String>) -> Result<()> {
    let found = parse(what, text)?;
    let mut wrong = Vec::new();
    for (pointer, says) in wanted {
        let seen = match found.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => "absent".to_owned(),
        };
        if !seen.contains(says.as_str()) {
            wrong.push(format!("{pointer} does not say \"{says}\" but: {seen}"));
        }
    }
    verdict(what, text, &wrong)
}

/// Finds each of `wanted` in `audit log --json`, each after the one before. What
/// the lines say.
fn follow(log: &str, wanted: &[AuditLine]) -> Result<Vec<String>> {
    let found = parse("the audit log", log)?;
    let none = Vec::new();
    let lines = found.get("lines").and_then(Value::as_array);
    let lines = lines.unwrap_or(&none);
    let mut rest = lines.iter();
    let mut told = Vec::new();
    for wanted in wanted {
        let Some(line) = rest.find(|line| wanted.fits(line)) else {
            let all: Vec<String> = lines.iter().map(brief).collect();
            return Err(Error::Expectation(format!(
                "the audit log has no {wanted:?} after {}; whole:\n{}",
                told.last().map_or("its beginning", String::as_str),
                all.join("\n")
            )));
        };
        told.push(brief(line));
    }
    Ok(told)
}

/// A line for people.
fn brief(line: &Value) -> String {
    let texts = ["event", "version", "ending", "detail"]
        .iter()
        .filter_map(|name| line.get(*name)?.as_str())
        .filter(|text| !text.is_empty());
    let texts: Vec<&str> = texts.collect();
    let number = line.get("n").unwrap_or(&Value::Null);
    format!("log {number}: {}", texts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_means_absent() {
        let wanted = |pointer: &str, value| BTreeMap::from([(pointer.to_owned(), value)]);
        let text = r#"{"a":{"b":1},"c":null}"#;
        assert!(compare("x", text, &wanted("/a/b", json!(1))).is_ok());
        assert!(compare("x", text, &wanted("/c", Value::Null)).is_ok());
        assert!(compare("x", text, &wanted("/d", Value::Null)).is_ok());
        let error = compare("x", text, &wanted("/a/b", json!(2))).unwrap_err();
        assert!(error.to_string().contains("/a/b is 1 in place of 2"));
        assert!(compare("x", "", &wanted("/a", json!(1))).is_err());
    }

    #[test]
    fn words_are_looked_for_in_texts_and_in_what_is_around_them() {
        let wanted = |pointer: &str, says: &str| [(pointer.to_owned(), says.to_owned())].into();
        let text = r#"{"a":[{"reason":"it hangs"}]}"#;
        assert!(contains("x", text, &wanted("/a/0/reason", "hangs")).is_ok());
        assert!(contains("x", text, &wanted("/a", "it hangs")).is_ok());
        assert!(contains("x", text, &wanted("/a", "it flaps")).is_err());

        assert!(contains("x", text, &wanted("/b", "hangs")).is_err());
    }

    #[test]
    fn lines_are_found_in_order() {
        let log = json!({"lines": [
            {"n": 1, "event": "staged", "version": "v2", "detail": ""},
            {"n": 2, "event": "ended", "ending": "panic", "detail": "a panic: sysrq"},
            {"n": 3, "event": "condemned", "version": "v2", "detail": "check x: hangs"},
        ]})
        .to_string();
        let line = |event: &str, says: &[&str]| AuditLine {
            event: event.to_owned(),
            says: says.iter().map(ToString::to_string).collect(),
            ..AuditLine::default()
        };
        let told = follow(&log, &[line("staged", &[]), line("condemned", &["hangs"])]).unwrap();
        assert_eq!(told[1], "log 3: condemned v2 check x: hangs");
        assert!(follow(&log, &[line("condemned", &[]), line("staged", &[])]).is_err());
        assert!(follow(&log, &[line("condemned", &["hangs", "flaps"])]).is_err());
        let ended = |ending: &str| AuditLine {
            ending: Some(ending.to_owned()),
            ..line("ended", &[])
        };
        assert!(follow(&log, &[ended("panic")]).is_ok());
        assert!(follow(&log, &[ended("watchdog")]).is_err());
    }
}
