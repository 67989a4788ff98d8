//! What has to be whatever became of the step in flight.

use std::collections::BTreeSet;

use super::{code, join, list};
use crate::check::{Between, Copy, Observation, Violation};
use crate::facts::{Facts, Version};

/// Judges that.
pub(super) fn judge(between: &Between<'_>, seen: &Observation) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut add = |check, expected: String, seen: String| {
        found.push(Violation::new(check, expected, seen));
    };
    if seen.exit != Some(0) {
        add(
            "exit",
            "the activator to exit with 0".into(),
            code(seen.exit),
        );
    }
    for what in &seen.unreadable {
        add("readable", "everything to be readable".into(), what.clone());
    }
    let (before, after) = (between.before, between.after.unwrap_or(between.before));
    if let Some(why) = &seen.broken_chain {
        let expected = "the audit log to be whole";
        add("chain", expected.into(), why.clone());
    }
    if !before.log.is_empty() {
        if let Some((code, said)) = &seen.audit {
            if *code != 0 {
                let said = format!("exit code {code}: {}", said.trim());
                add("audit", "`audit verify` to find the log whole".into(), said);
            }
        }
    }
    let known = before.sequence.min(after.sequence);
    if let Some(sequence) = seen.sequence().filter(|sequence| *sequence <= known) {
        let expected = format!("a sequence above {known}");
        found.push(Violation::new("sequence", expected, sequence));
    }
    found.extend(log(between, seen));
    found.extend(versions(before, after, seen));
    found.extend(unknown(before, after, seen));
    found
}

/// Nothing is there that nobody made: plans, and overlays that were set aside.
fn unknown(before: &Facts, after: &Facts, seen: &Observation) -> Vec<Violation> {
    let is_plan = |name: &str| {
        [before, after]
            .iter()
            .any(|facts| facts.plans.contains(name))
    };
    let plans = seen.plans.iter().filter(|name| !is_plan(name));
    let plans = plans.map(|name| Violation::new("plans", "no such plan", name));
    let is_known = |name: &str| before.knows_overlay(name) || after.knows_overlay(name);
    let aside = |name: &&String| [".old", ".failed"].iter().any(|end| name.ends_with(end));
    let aside = seen.uppers.keys().filter(aside);
    let overlays = aside.filter(|name| !is_known(name));
    let overlays = overlays.map(|name| Violation::new("overlay", "no such overlay", name));
    plans.chain(overlays).collect()
}

/// What was acknowledged is in the log, in its order; nothing is there twice,
/// and nothing that nobody did.
fn log(between: &Between<'_>, seen: &Observation) -> Option<Violation> {
    let lines = |facts: &Facts| -> Vec<_> {
        let line = |(event, version): &(&str, Option<Version>)| {
            ((*event).to_owned(), version.map(str::to_owned))
        };
        facts.log.iter().map(line).collect()
    };
    let must = lines(between.before);
    let may = between.after.map_or_else(|| must.clone(), lines);
    let new = may.get(must.len()..).unwrap_or_default();
    let rest = seen.log.strip_prefix(must.as_slice());
    let holds = rest.is_some_and(|rest| {
        if between.again {
            rest.iter().all(|line| new.contains(line))
        } else {
            new.starts_with(rest)
        }
    });
    (!holds).then(|| {
        Violation::new(
            "log",
            format!("the log's lines to be {}", last(&may)),
            format!(
                "{}, of which {} were acknowledged",
                last(&seen.log),
                must.len()
            ),
        )
    })
}

/// The last of them: the beginnings are alike.
fn last(lines: &[(String, Option<String>)]) -> String {
    let hidden = lines.len().saturating_sub(4);
    let shown: Vec<_> = lines
        .iter()
        .skip(hidden)
        .map(|(event, version)| match version {
            Some(version) => format!("{event} {version}"),
            None => event.clone(),
        })
        .collect();
    format!("{} lines ending with [{}]", lines.len(), shown.join(", "))
}

/// Versions are there or not there, whole or not whole, as the facts before and
/// after the step in flight allow.
fn versions(before: &Facts, after: &Facts, seen: &Observation) -> Vec<Violation> {
    let mut found = Vec::new();
    let sound = |facts: &Facts| -> BTreeSet<Version> {
        facts.versions.difference(&facts.altered).copied().collect()
    };
    let (was, will) = (sound(before), sound(after));
    let lost = |list: &[String], version: &Version| !list.iter().any(|known| known == version);
    for version in was.intersection(&will) {
        if lost(&seen.versions, version) {
            let expected = format!("{version}, which was received, to be in the store");
            found.push(Violation::new("versions", expected, list(&seen.versions)));
        }
    }
    for version in before.pins.intersection(&after.pins) {
        if lost(&seen.pins, version) {
            let expected = format!("{version} to be pinned");
            found.push(Violation::new("pins", expected, list(&seen.pins)));
        }
    }
    for version in &seen.pins {
        let known = |facts: &Facts| facts.pins.contains(version.as_str());
        if !known(before) && !known(after) {
            let found_it = format!("{version} pinned");
            found.push(Violation::new("pins", "no such pin", found_it));
        }
    }
    for version in &seen.versions {
        let known = |facts: &Facts| facts.versions.contains(version.as_str());
        if !known(before) && !known(after) {
            let found_it = format!("{version} in the store");
            found.push(Violation::new("versions", "nothing unknown", found_it));
        }
    }
    // What is on its way, in or out, the same command again settles.
    let coming = after.versions.symmetric_difference(&before.versions);
    let may: BTreeSet<_> = before
        .altered
        .union(&after.altered)
        .chain(coming)
        .copied()
        .collect();
    let must: Vec<_> = before.altered.intersection(&after.altered).collect();
    let complaints = |unsound: &dyn Fn(&str) -> bool, count: usize| {
        count == may.iter().filter(|version| unsound(version)).count()
            && must.iter().all(|version| unsound(version))
    };
    let is_unsound = |version: &str| seen.unsound.contains_key(version);
    if !complaints(&is_unsound, seen.unsound.len()) {
        let expected = format!("[{}] only to be unsound", join(&may));
        found.push(Violation::new(
            "sound",
            expected,
            format!("{:?}", seen.unsound),
        ));
    }
    if let Some((code, unsound)) = &seen.verify {
        let is_unsound = |version: &str| unsound.iter().any(|name| name == version);
        if !complaints(&is_unsound, unsound.len()) || (*code == 0) != unsound.is_empty() {
            let found_it = format!("exit code {code}, not sound: {}", list(unsound));
            let expected = format!("`verify` to complain of [{}] only", join(&may));
            found.push(Violation::new("verify", expected, found_it));
        }
    }
    let strangers = seen.copies.iter().flat_map(|copy| match copy {
        Copy::Valid(record) => record.strangers.as_slice(),
        Copy::Bad(_) => &[],
    });
    let strangers: BTreeSet<_> = strangers.map(String::as_str).collect();
    for version in strangers.difference(&may) {
        let expected = format!("{version} to be the subvolume that the record knows");
        found.push(Violation::new("identity", expected, "another identity"));
    }
    found
}
