//! What the hook of a Debian machine was told in the running boot.
//!
//! The machine's hook writes down its argument and what it reads, as
//! `docs/HOOKS.md` has it. What is wanted is waited for: a hook runs some time
//! after what it is told of.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::scenario::substitute;

/// Where the hook writes: gone with the boot, and writable on every machine.
pub const FILE: &str = "/run/op-dbus-vm.told";

/// Where it is installed.
pub(crate) const PATH: &str = "etc/op-dbus/hooks.d/50-op-dbus-vm";

/// The hook. One `write(2)` a line would be nicer than two, but only the end of
/// the line says that it is whole.
pub(crate) fn hook() -> String {
    format!("#!/bin/sh\n{{ printf '%s ' \"$1\"; cat; }} >> {FILE}\n")
}

/// News that a hook must have been told, of the running boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct News {
    /// Its argument, and `event` of what it read.
    pub event: String,
    /// Whom it happened to.
    pub version: String,
    /// The version that did not hold; left out: null.
    #[serde(default)]
    pub from: Option<String>,
    /// A text that `reason` contains.
    #[serde(default)]
    pub reason: String,
}

impl News {
    pub(super) fn with(&self, values: &BTreeMap<String, String>) -> Result<Self> {
        let fill = |text: &str| substitute(text, values);
        Ok(Self {
            event: fill(&self.event)?,
            version: fill(&self.version)?,
            from: self.from.as_deref().map(fill).transpose()?,
            reason: fill(&self.reason)?,
        })
    }

    fn fits(&self, news: &Value) -> bool {
        let text = |name: &str| news.get(name).and_then(Value::as_str);
        text("event") == Some(&self.event)
            && text("version") == Some(&self.version)
            && text("from") == self.from.as_deref()
            && text("reason").is_some_and(|reason| reason.contains(&self.reason))
    }
}

/// Looks for each of `wanted` in what the hook wrote, each after the one before
/// and of the boot `boot`. What was told, or none where something is not there
/// yet; a line that is not as documented is an error at once.
pub(super) fn follow(text: &str, boot: &str, wanted: &[News]) -> Result<Option<Vec<String>>> {
    let mut told = Vec::new();
    for line in text.split_inclusive('\n') {
        // The hook is not done with one that has no end.
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        told.push(read(line).map_err(|why| {
            Error::Expectation(format!("a hook was told what is no news ({why}): {line}"))
        })?);
    }
    let mut rest = told
        .iter()
        .filter(|news| news.get("boot").and_then(Value::as_str) == Some(boot));
    let mut found = Vec::new();
    for wanted in wanted {
        match rest.find(|news| wanted.fits(news)) {
            Some(news) => found.push(brief(news)),
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}

/// One line: the argument, a space, and the object with every field it must have.
fn read(line: &str) -> std::result::Result<Value, String> {
    let (argument, json) = line.split_once(' ').ok_or("no argument")?;
    let news: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let is_text = |name: &str| news.get(name).is_some_and(Value::is_string);
    let is_hex = |text: &str| text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
    let digest = news.get("digest").and_then(Value::as_str);
    let checks = [
        ("schema", news.get("schema") == Some(&Value::from(1))),
        (
            "event",
            news.get("event").and_then(Value::as_str) == Some(argument),
        ),
        // Null only for a rescue, and here is none without a version.
        ("version", is_text("version")),
        ("digest", digest.is_some_and(is_hex)),
        ("from", news.get("from").is_some()),
        ("reason", is_text("reason")),
        ("boot", is_text("boot")),
        ("time", is_text("time")),
        ("n", news.get("n").is_some_and(Value::is_u64)),
    ];
    match checks.iter().find(|(_, holds)| !holds) {
        None => Ok(news),
        Some((field, _)) => Err(format!("{field} is not as it should be")),
    }
}

/// For people.
fn brief(news: &Value) -> String {
    let text = |name: &str| news.get(name).and_then(Value::as_str).unwrap_or_default();
    let from = match text("from") {
        "" => String::new(),
        from => format!(" from {from}"),
    };
    format!(
        "a hook was told: {} {}{from}, {}",
        text("event"),
        text("version"),
        text("reason")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &str, version: &str, from: &str, boot: &str) -> String {
        let digest = "5e".repeat(32);
        format!(
            "{event} {{\"schema\":1,\"event\":\"{event}\",\"version\":\"{version}\",\"digest\":\"{digest}\",\"from\":{from},\"reason\":\"it hangs\",\"boot\":\"{boot}\",\"time\":\"2026-11-23T12:00:00Z\",\"n\":17}}\n"
        )
    }

    fn news(event: &str, from: Option<&str>, reason: &str) -> News {
        News {
            event: event.to_owned(),
            version: "v1".to_owned(),
            from: from.map(str::to_owned),
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn news_are_found_in_order_and_in_their_boot() {
        let text = line("staged", "v1", "null", "a") + &line("fell-back", "v1", "\"v2\"", "b");
        let fell_back = news("fell-back", Some("v2"), "hangs");
        let staged = news("staged", None, "");
        let found = |boot: &str, wanted: &[News]| follow(&text, boot, wanted).unwrap();
        assert_eq!(
            found("b", std::slice::from_ref(&fell_back)).unwrap(),
            ["a hook was told: fell-back v1 from v2, it hangs"]
        );
        assert!(found("a", std::slice::from_ref(&staged)).is_some());
        assert!(found("b", std::slice::from_ref(&staged)).is_none());
        assert!(found("b", &[news("fell-back", None, "")]).is_none());
        assert!(found("b", &[news("fell-back", Some("v2"), "flaps")]).is_none());
        let both = line("staged", "v1", "null", "b") + &line("fell-back", "v1", "\"v2\"", "b");
        let wanted = [staged, fell_back];
        assert!(follow(&both, "b", &wanted).unwrap().is_some());
        let [staged, fell_back] = wanted;
        assert!(follow(&both, "b", &[fell_back, staged]).unwrap().is_none());
    }

    #[test]
    fn what_is_not_as_documented_is_an_error_once_it_is_whole() {
        let good = line("staged", "v1", "null", "a");
        let wanted = [news("staged", None, "")];
        for (from, to) in [
            ("staged {", "blessed {"),
            ("\"schema\":1", "\"schema\":2"),
            ("5e5e5e", "5e5e"),
            ("\"from\":null,", ""),
            ("\"n\":17", "\"n\":null"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert!(follow(&bad, "a", &wanted).is_err(), "{to}");
        }
        assert!(follow(good.trim_end(), "a", &wanted).unwrap().is_none());
        assert!(follow("", "a", &wanted).unwrap().is_none());
    }
}
