//! What the properties say, out of what `op-dbus-stage --json status` printed.
//! No input or output here.

use std::collections::HashMap;

use serde_json::Value as Json;
use zbus::zvariant::Value;

/// Most entries of a list, and most bytes of a text, that are passed on.
const ENTRIES_MAX: usize = 64;
const TEXT_MAX: usize = 1024;

/// What is known of the device. Empty texts: there is none, or it is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// `ok`, `attention`, or `unknown` where status could not be had.
    pub state: String,
    /// The version that runs.
    pub running: String,
    /// As what it runs: `good`, `fallback`, `trial`, `named`; or why none does:
    /// `rescue`, `off`, `failed`.
    pub running_slot: String,
    /// The good version.
    pub good: String,
    /// The fallback version.
    pub fallback: String,
    /// The version on trial.
    pub trial: String,
    /// How many boots the trial has left.
    pub tries_left: u32,
    /// Versions in quarantine, and why, oldest first.
    pub quarantine: Vec<(String, String)>,
    /// The versions of the store, newest first.
    pub versions: Vec<String>,
    /// What is wrong.
    pub problems: Vec<String>,
    /// What to do next.
    pub next: Vec<String>,
}

impl Snapshot {
    /// Of a device whose status could not be had.
    pub fn unknown(why: &str) -> Self {
        Self {
            state: "unknown".to_owned(),
            problems: vec![short(why)],
            ..Self::default()
        }
    }

    /// From the object that status printed. What is not there is not known: an
    /// older or newer `op-dbus-stage` may say less, or more.
    pub fn of(status: &Json) -> Self {
        let mut found = Self {
            state: match text(status, "/result").as_str() {
                "ok" => "ok",
                "attention" => "attention",
                _ => "unknown",
            }
            .to_owned(),
            good: text(status, "/good/version"),
            fallback: text(status, "/fallback/version"),
            trial: text(status, "/trial/version"),
            versions: list(status, "/versions", |known| Some(text(known, "/version"))),
            problems: list(status, "/problems", |said| said.as_str().map(short)),
            next: list(status, "/next", |said| said.as_str().map(short)),
            quarantine: list(status, "/quarantine", |entry| {
                Some((text(entry, "/version"), text(entry, "/cause")))
            }),
            ..Self::default()
        };
        let tries = status.pointer("/trial/tries_left").and_then(Json::as_u64);
        found.tries_left = tries.map_or(0, |tries| u32::try_from(tries).unwrap_or(u32::MAX));
        // An activation.json of another boot says nothing about this one.
        if status.pointer("/this_boot") == Some(&Json::Bool(true)) {
            match text(status, "/activation/outcome").as_str() {
                "activated" => {
                    found.running = text(status, "/activation/version");
                    found.running_slot = text(status, "/activation/slot");
                }
                none => none.clone_into(&mut found.running_slot),
            }
        }
        found
    }

    /// The properties, by name.
    pub fn properties(&self) -> HashMap<&'static str, Value<'_>> {
        HashMap::from([
            ("State", Value::from(&self.state)),
            ("Running", Value::from(&self.running)),
            ("RunningSlot", Value::from(&self.running_slot)),
            ("Good", Value::from(&self.good)),
            ("Fallback", Value::from(&self.fallback)),
            ("Trial", Value::from(&self.trial)),
            ("TriesLeft", Value::from(self.tries_left)),
            ("Quarantine", Value::from(&self.quarantine)),
            ("Versions", Value::from(&self.versions)),
            ("Problems", Value::from(&self.problems)),
            ("Next", Value::from(&self.next)),
        ])
    }

    /// What of the properties is otherwise than before.
    pub fn changed_from(&self, before: &Self) -> HashMap<&'static str, Value<'_>> {
        let old = before.properties();
        let mut new = self.properties();
        new.retain(|name, value| old.get(name) != Some(value));
        new
    }
}

fn text(value: &Json, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Json::as_str)
        .map_or_else(String::new, short)
}

fn list<T>(value: &Json, pointer: &str, each: impl Fn(&Json) -> Option<T>) -> Vec<T> {
    let entries = value.pointer(pointer).and_then(Json::as_array);
    let entries = entries.into_iter().flatten().filter_map(each);
    entries.take(ENTRIES_MAX).collect()
}

fn short(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut length = 0;
    plain
        .take_while(|c| {
            length += c.len_utf8();
            length <= TEXT_MAX
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Json {
        json!({
            "command": "status", "result": "attention", "this_boot": true,
            "activation": {"outcome": "activated", "version": "v1.1.0", "slot": "trial"},
            "good": {"version": "v1.0.0"}, "fallback": null,
            "trial": {"version": "v1.1.0", "tries_left": 2},
            "quarantine": [{"version": "v0.9.0", "digest": "00", "cause": "condemned"}],
            "versions": [{"version": "v1.1.0"}, {"version": "v1.0.0"}],
            "problems": ["a\nb"], "next": ["Wait."],
        })
    }

    #[test]
    fn what_status_says_is_what_the_properties_say() {
        let found = Snapshot::of(&status());
        assert_eq!(found.state, "attention");
        assert_eq!(
            (found.running.as_str(), found.running_slot.as_str()),
            ("v1.1.0", "trial")
        );
        assert_eq!(
            (found.good.as_str(), found.fallback.as_str()),
            ("v1.0.0", "")
        );
        assert_eq!((found.trial.as_str(), found.tries_left), ("v1.1.0", 2));
        assert_eq!(
            found.quarantine,
            [("v0.9.0".to_owned(), "condemned".to_owned())]
        );
        assert_eq!(found.versions, ["v1.1.0", "v1.0.0"]);
        assert_eq!(found.problems, ["a b"]);
    }

    #[test]
    fn nothing_runs_in_rescue_nor_by_what_another_boot_left() {
        let mut rescue = status();
        rescue["activation"] = json!({"outcome": "rescue", "version": null, "slot": null});
        let found = Snapshot::of(&rescue);
        assert_eq!(
            (found.running.as_str(), found.running_slot.as_str()),
            ("", "rescue")
        );
        let mut other = status();
        other["this_boot"] = json!(false);
        let found = Snapshot::of(&other);
        assert_eq!(
            (found.running.as_str(), found.running_slot.as_str()),
            ("", "")
        );
    }

    #[test]
    fn what_is_not_said_is_not_known_and_nothing_grows_without_bound() {
        assert_eq!(Snapshot::of(&json!({})).state, "unknown");
        assert_eq!(
            Snapshot::of(&json!({"good": 7, "versions": {}, "trial": []})).good,
            ""
        );
        let many: Vec<_> = (0..500).map(|_| "ä".repeat(5000)).collect();
        let found = Snapshot::of(&json!({ "problems": many }));
        assert_eq!(found.problems.len(), ENTRIES_MAX);
        assert_eq!(found.problems[0].len(), TEXT_MAX);
    }

    #[test]
    fn only_what_changed_is_told() {
        let before = Snapshot::of(&status());
        let mut after = before.clone();
        assert!(after.changed_from(&before).is_empty());
        after.tries_left = 1;
        let changed = after.changed_from(&before);
        assert_eq!(changed.len(), 1);
        assert_eq!(changed["TriesLeft"], Value::from(1_u32));
    }
}
