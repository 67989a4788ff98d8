//! What a booted device shows of itself, and how that is held against the facts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::{Boot, Facts, Role, Trial};

/// `op-dbus-stage status --json`, read, and the user's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What is comparable with the facts; of the notes only the running version's.
    pub facts: Facts,
    /// Lines of the audit log.
    pub lines: u64,
    /// Sequence of the boot record.
    pub sequence: u64,
}

/// Reads `status`; `note` is the file in the overlay. Whatever is never right,
/// after any power cut, comes back as an error.
pub fn read(status: &str, note: Option<&str>) -> Result<Seen, String> {
    let value: Value = serde_json::from_str(status)
        .map_err(|why| format!("status is no JSON: {why}: {status}"))?;
    let at = |pointer: &str| value.pointer(pointer).unwrap_or(&Value::Null);
    let never = |what: &str, pointer: &str| Err(format!("{what}: {pointer} is {}", at(pointer)));
    match at("/activation/outcome").as_str() {
        Some("activated" | "rescue") => {}
        _ => return never("nothing was decided", "/activation"),
    }
    if !at("/this_boot").as_bool().unwrap_or(false)
        || !at("/activation/counted").as_bool().unwrap_or(false)
    {
        return never("the boot was not counted", "/activation");
    }
    // One copy may be old or torn. Both never are.
    if !matches!(
        at("/activation/record/state").as_str(),
        Some("intact" | "stale-copy" | "one-copy")
    ) {
        return never("the boot record was lost", "/activation/record");
    }
    if at("/record/state") != "intact" {
        return never("the boot record is not repaired", "/record");
    }
    for empty in ["/activation/degraded", "/activation/failures", "/problems"] {
        if at(empty).as_array().is_none_or(|list| !list.is_empty()) {
            return never("something is wrong", empty);
        }
    }
    let text = |pointer: &str| at(pointer).as_str().map(str::to_owned);
    let small = |pointer: &str| at(pointer).as_u64().and_then(|n| u8::try_from(n).ok());
    let list = |pointer: &str| at(pointer).as_array().cloned().unwrap_or_default();
    let names = |list: &[Value]| -> BTreeSet<String> {
        list.iter()
            .filter_map(|entry| entry.get("version")?.as_str().map(str::to_owned))
            .collect()
    };
    // The receipt is there, and only the version's name is missing.
    let (versions, nameless): (Vec<_>, Vec<_>) =
        list("/versions").into_iter().partition(|version| {
            let defect = version.get("defect").and_then(Value::as_str);
            defect.is_none_or(|defect| !defect.ends_with("does not exist"))
        });
    if versions
        .iter()
        .any(|version| version.get("intact") != Some(&Value::Bool(true)))
    {
        return never("a version is not intact", "/versions");
    }
    let missing = |what: &str| format!("status has no {what}: {status}");
    let trial = match text("/trial/version") {
        None => None,
        Some(version) => Some(Trial {
            version,
            tries: small("/trial/tries_left").ok_or_else(|| missing("tries"))?,
            refunds: small("/trial/refunds_left").ok_or_else(|| missing("refunds"))?,
            attempts: small("/trial/attempts").ok_or_else(|| missing("attempts"))?,
            rollback: at("/trial/origin") == "rollback",
        }),
    };
    let running = text("/activation/version");
    let runs = match (text("/activation/slot").as_deref(), running.clone()) {
        (Some("trial"), Some(version)) => Some((Role::Trial, version)),
        (Some("good"), Some(version)) => Some((Role::Good, version)),
        (Some("fallback"), Some(version)) => Some((Role::Fallback, version)),
        _ => None,
    };
    Ok(Seen {
        facts: Facts {
            good: text("/good/version").ok_or_else(|| missing("good version"))?,
            fallback: text("/fallback/version"),
            trial,
            good_unblessed: small("/good_unblessed").ok_or_else(|| missing("count"))?,
            fallback_unblessed: small("/fallback_unblessed").ok_or_else(|| missing("count"))?,
            quarantine: names(&list("/quarantine")),
            received: names(&versions),
            nameless: names(&nameless),
            notes: running.zip(note.map(str::to_owned)).into_iter().collect(),
            boot: Boot {
                runs,
                refunded: at("/last_boot/refunded").as_bool().unwrap_or(false),
                condemned: !at("/last_boot/verdict").is_null(),
            },
        },
        lines: at("/audit/lines")
            .as_u64()
            .ok_or_else(|| missing("audit log"))?,
        sequence: at("/record/sequence")
            .as_u64()
            .ok_or_else(|| missing("sequence"))?,
    })
}

/// Which of the possible facts may be the case; else what each of them expects.
/// Those that are left differ only in what can't be seen now: the user's file in
/// overlays of other versions than the running one.
pub fn settle(possible: &[Facts], seen: &Seen) -> Result<Vec<Facts>, String> {
    let mut fit = Vec::new();
    let mut expected = Vec::new();
    for facts in possible {
        let differences = differences(facts, &seen.facts);
        if differences.is_empty() {
            fit.push(facts.clone());
        } else {
            expected.push(differences.join("; "));
        }
    }
    if fit.is_empty() {
        return Err(expected.join("\n  or "));
    }
    Ok(fit)
}

fn differences(facts: &Facts, seen: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, facts: &dyn std::fmt::Debug, seen: &dyn std::fmt::Debug| {
        let (facts, seen) = (format!("{facts:?}"), format!("{seen:?}"));
        if facts != seen {
            found.push(format!("{what} must be {facts} and is {seen}"));
        }
    };
    compare("what runs", &facts.boot.runs, &seen.boot.runs);
    compare("good", &facts.good, &seen.good);
    compare("fallback", &facts.fallback, &seen.fallback);
    compare("the trial", &facts.trial, &seen.trial);
    compare(
        "unblessed boots of good",
        &facts.good_unblessed,
        &seen.good_unblessed,
    );
    compare(
        "unblessed boots of fallback",
        &facts.fallback_unblessed,
        &seen.fallback_unblessed,
    );
    compare("quarantine", &facts.quarantine, &seen.quarantine);
    compare("the store", &facts.received, &seen.received);
    compare("what lacks its name", &facts.nameless, &seen.nameless);
    compare("the user's file", &facts.note(), &seen.note());
    compare("the boot", &facts.boot, &seen.boot);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Value {
        json!({
            "this_boot": true,
            "activation": {"outcome": "activated", "counted": true, "slot": "good", "version": "v1",
                "record": {"state": "stale-copy"}, "degraded": [], "failures": []},
            "record": {"state": "intact", "sequence": 9},
            "good": {"version": "v1"}, "fallback": null, "trial": null,
            "good_unblessed": 1, "fallback_unblessed": 0, "quarantine": [],
            "versions": [{"version": "v1", "intact": true}],
            "last_boot": {"refunded": false, "verdict": null},
            "audit": {"lines": 3}, "problems": []
        })
    }

    fn with(pointer: &str, value: Value) -> Result<Seen, String> {
        let mut status = status();
        *status.pointer_mut(pointer).unwrap() = value;
        read(&status.to_string(), Some("x"))
    }

    #[test]
    fn a_device_is_held_against_every_possibility() {
        let mut facts = Facts::begin("v1").booted();
        facts.notes.insert("v1".into(), "x".into());
        let seen = read(&status().to_string(), Some("x")).unwrap();
        assert_eq!((seen.lines, seen.sequence), (3, 9));
        let before = Facts::begin("v1");
        assert_eq!(
            settle(&[before.clone(), facts.clone()], &seen),
            Ok(vec![facts.clone()])
        );
        let why = settle(&[before], &seen).unwrap_err();
        assert!(
            why.contains("unblessed boots of good must be 0 and is 1"),
            "{why}"
        );
        assert!(why.contains("the user's file must be None"), "{why}");
    }

    #[test]
    fn what_cannot_be_seen_now_stays_open() {
        // The power went while the file was written; then another version runs.
        let mut written = Facts::begin("v1").booted();
        written.notes.insert("v1".into(), "x".into());
        let mut lost = written.clone();
        written.notes.insert("v0".into(), "y".into());
        lost.notes.remove("v0");
        let possible = [lost, written];
        let seen = read(&status().to_string(), Some("x")).unwrap();
        assert_eq!(settle(&possible, &seen), Ok(possible.to_vec()));
    }

    #[test]
    fn what_is_never_right_is_said() {
        for (pointer, value) in [
            ("/activation/outcome", json!("failed")),
            ("/activation/counted", json!(false)),
            ("/activation/record/state", json!("rebuilt-blessed")),
            ("/activation/degraded", json!(["store-read-only"])),
            ("/record/state", json!("one-copy")),
            ("/problems", json!(["audit log: …"])),
            ("/versions/0/intact", json!(false)),
        ] {
            assert!(with(pointer, value).is_err(), "{pointer}");
        }
        assert!(with("/good_unblessed", json!(2)).is_ok());
        let nameless =
            json!([{"version": "v2", "intact": false, "defect": "/x/v2 does not exist"}]);
        let seen = with("/versions", nameless).unwrap();
        assert!(seen.facts.nameless.contains("v2") && seen.facts.received.is_empty());
    }
}
