//! The judging: facts and sights in, violations out. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Between, Copy, Observation, Record, Violation};
use crate::facts::{Boot, Facts, Version};
use crate::story::{REMOVED, published};

/// The digest of each version's tree.
pub(crate) type Digests = BTreeMap<String, String>;

/// Boots of good without a verdict after which fallback runs (rule 4).
const GOOD_BOOTS: u8 = 5;

/// Judges what was seen. A step in flight has happened or it has not: what was
/// seen must agree with one of the two as a whole. Where it agrees with neither,
/// the violations are those of the nearer one.
pub fn judge(between: &Between<'_>, digests: &Digests, seen: &Observation) -> Vec<Violation> {
    let mut found = general(between, seen);
    let mut nearest: Option<Vec<Violation>> = None;
    for facts in std::iter::once(between.before).chain(between.after) {
        for boots in between.boots.0..=between.boots.1 {
            let expected = boots
                .checked_sub(1)
                .and_then(|index| facts.boots.get(index));
            let Some(&expected) = expected else { continue };
            let against = Alternative {
                facts,
                boots,
                expected,
                between,
                digests,
                seen,
            };
            let violations = against.judge();
            if nearest
                .as_ref()
                .is_none_or(|nearest| violations.len() < nearest.len())
            {
                nearest = Some(violations);
            }
        }
    }
    found.extend(nearest.unwrap_or_default());
    found
}

/// What has to be whatever became of the step in flight.
fn general(between: &Between<'_>, seen: &Observation) -> Vec<Violation> {
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
    let aside = |name: &&String| name.ends_with(".old") || name.ends_with(".failed");
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

/// One way it can have gone.
struct Alternative<'a> {
    facts: &'a Facts,
    boots: usize,
    expected: Boot,
    between: &'a Between<'a>,
    digests: &'a Digests,
    seen: &'a Observation,
}

impl Alternative<'_> {
    fn judge(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        self.boot(&mut found);
        if self.expected == Boot::NoStore {
            return found;
        }
        self.record(&mut found);
        self.same_boot(&mut found);
        if let Some((_, version)) = self.expected.active() {
            self.tree(version, &mut found);
            self.overlay(version, &mut found);
        }
        self.uppers(&mut found);
        found
    }

    fn boot(&self, found: &mut Vec<Violation>) {
        let seen = &self.seen.boot;
        let outcomes: &[&str] = match self.expected {
            Boot::NoStore => &["failed", "rescue"],
            Boot::Nothing => &["rescue"],
            Boot::Trial { .. } | Boot::Good { .. } | Boot::Fallback { .. } => &["activated"],
        };
        let wanted = self
            .expected
            .active()
            .map(|(role, version)| (role.word().to_owned(), version.to_owned()));
        let told = || {
            let active = match &seen.active {
                Some((role, version)) => format!("{version} ({role})"),
                None => "nothing".to_owned(),
            };
            format!("{}, {active}: {}", seen.outcome, seen.reason)
        };
        if !outcomes.contains(&seen.outcome.as_str()) || seen.active != wanted {
            let expected = match &wanted {
                Some((role, version)) => format!("the boot to activate {version} ({role})"),
                None => format!("the boot to end as {}", outcomes.join(" or ")),
            };
            found.push(Violation::new("boot", expected, told()));
        } else if wanted.is_some() && !(seen.counted && seen.degraded.is_empty()) {
            let found_it = format!(
                "counted: {}, degraded: {}",
                seen.counted,
                list(&seen.degraded)
            );
            let expected = "a counted boot with nothing degraded";
            found.push(Violation::new("degraded", expected, found_it));
        }
    }

    fn record(&self, found: &mut Vec<Violation>) {
        let (zero, one) = match self.seen.copies.as_slice() {
            [Copy::Valid(zero), Copy::Valid(one)] => (zero, one),
            copies => {
                let expected = "both copies of the record to be intact after the boot";
                found.push(Violation::new("copies", expected, described(copies)));
                let valid = copies.iter().find_map(|copy| match copy {
                    Copy::Valid(record) => Some(record),
                    Copy::Bad(_) => None,
                });
                let Some(valid) = valid else { return };
                (valid, valid)
            }
        };
        if zero.bytes != one.bytes {
            let expected = "both copies of the record to be the same after the boot";
            found.push(Violation::new(
                "copies",
                expected,
                described(&self.seen.copies),
            ));
        }
        self.roles(zero, found);
    }

    fn roles(&self, record: &Record, found: &mut Vec<Violation>) {
        let facts = self.facts;
        let mut quarantine = facts.quarantine.clone();
        let (trial, unblessed) = match self.expected {
            Boot::Trial { version, tries } => {
                let refunds = facts.trial.map_or(0, |(_, refunds)| refunds);
                (Some((version.to_owned(), tries, refunds)), None)
            }
            Boot::Good {
                unblessed,
                exhausted,
                ..
            } => {
                quarantine.extend(exhausted);
                (None, Some((unblessed, 0)))
            }
            Boot::Fallback { unblessed, .. } => (None, Some((GOOD_BOOTS, unblessed))),
            Boot::NoStore | Boot::Nothing => (None, None),
        };
        let mut check = |what: &str, expected: String, seen: String| {
            if expected != seen {
                let expected = format!("{what} to be {expected}");
                found.push(Violation::new("record", expected, seen));
            }
        };
        let name = |name: Option<&str>| name.unwrap_or("none").to_owned();
        check("good", name(facts.good), name(record.good.as_deref()));
        check(
            "fallback",
            name(facts.fallback),
            name(record.fallback.as_deref()),
        );
        check(
            "the trial",
            on_trial(trial.as_ref()),
            on_trial(record.trial.as_ref()),
        );
        if let Some((good, fallback)) = unblessed {
            check(
                "boots of good and of fallback without a verdict",
                format!("{good} and {fallback}"),
                format!("{} and {}", record.unblessed, record.fallback_unblessed),
            );
        }
        let seen: BTreeSet<&str> = record.quarantine.iter().map(String::as_str).collect();
        check("the quarantine", join(&quarantine), join(&seen));
        check(
            "the epoch floor",
            facts.floor.to_string(),
            record.floor.to_string(),
        );
    }

    /// Asked again in the same boot, it answers the same and counts nothing.
    fn same_boot(&self, found: &mut Vec<Violation>) {
        let seen = self.seen;
        if seen.second.active != seen.boot.active {
            let expected = format!("the same boot to activate {:?} again", seen.boot.active);
            let found_it = format!("{:?}", seen.second.active);
            found.push(Violation::new("same-boot", expected, found_it));
        }
        // A boot that ended with nothing is free to note that again.
        if seen.boot.active.is_some() && seen.second_copies != seen.copies {
            let expected = "the same boot to count nothing again";
            let found_it = "another record";
            found.push(Violation::new("same-boot", expected, found_it));
        }
    }

    fn tree(&self, version: &str, found: &mut Vec<Violation>) {
        let wanted = self.digests.get(version);
        if wanted != self.seen.digest.as_ref() {
            let expected = format!("the tree of {version}, {wanted:?}");
            let found_it = format!("{:?}", self.seen.digest);
            found.push(Violation::new("tree", expected, found_it));
        }
    }

    /// What a version's overlay must hold of the user's files.
    fn changes(&self, version: &str, boots: usize) -> BTreeMap<&'static str, String> {
        let files = self.facts.files(version, boots).into_iter().flatten();
        files
            .map(|(path, content)| (*path, (*content).to_owned()))
            .collect()
    }

    fn overlay(&self, version: &str, found: &mut Vec<Violation>) {
        let shown = &self.seen.files;
        let mut wanted = published(version);
        wanted.extend(self.changes(version, self.boots));
        wanted.retain(|_, content| content != REMOVED);
        self.files(
            &format!("{version} with the user's changes"),
            &wanted,
            shown,
            found,
        );
        if let Some(why) = &self.seen.unwritable {
            let expected = "the overlay to take a new file";
            found.push(Violation::new("writable", expected, why));
        }
    }

    fn uppers(&self, found: &mut Vec<Violation>) {
        for version in self.facts.overlays.keys() {
            let what = format!("the overlay of {version}");
            let Some(shown) = self.seen.uppers.get(*version) else {
                found.push(Violation::new("overlay", what, "none"));
                continue;
            };
            let mut wanted = vec![self.changes(version, self.boots)];
            // Which of two tries was set aside is open where one was cut short
            // before that was durable.
            if self.between.twice && version.ends_with(".failed") {
                wanted.push(self.changes(version, 1));
            }
            self.any_of(&what, &wanted, shown, found);
        }
        for (version, any_of) in &self.facts.perhaps {
            if let Some(shown) = self.seen.uppers.get(*version) {
                let what = format!("the overlay of {version}, where there is one,");
                let owned = |files: &BTreeMap<&'static str, &'static str>| -> BTreeMap<_, _> {
                    let files = files.iter();
                    files
                        .map(|(path, text)| (*path, (*text).to_owned()))
                        .collect()
                };
                let wanted: Vec<_> = any_of.iter().map(owned).collect();
                self.any_of(&what, &wanted, shown, found);
            }
        }
    }

    /// One of these; what is told of is the difference to the first.
    fn any_of(
        &self,
        what: &str,
        any_of: &[BTreeMap<&'static str, String>],
        shown: &BTreeMap<String, String>,
        found: &mut Vec<Violation>,
    ) {
        let mut first = None;
        for wanted in any_of {
            let mut differences = Vec::new();
            self.files(what, wanted, shown, &mut differences);
            if differences.is_empty() {
                return;
            }
            first.get_or_insert(differences);
        }
        found.extend(first.unwrap_or_default());
    }

    fn files(
        &self,
        what: &str,
        wanted: &BTreeMap<&str, String>,
        shown: &BTreeMap<String, String>,
        found: &mut Vec<Violation>,
    ) {
        let paths = wanted.keys().copied();
        let paths: BTreeSet<_> = paths.chain(shown.keys().map(String::as_str)).collect();
        for path in paths {
            let (wanted, shown) = (wanted.get(path), shown.get(path));
            let in_flight = self.between.change.is_some_and(|change| {
                let wanted = wanted.map(String::as_str);
                change.path == path && change.may_leave(shown.map(String::as_str), wanted)
            });
            if wanted != shown && !in_flight {
                let expected = format!("{what} to hold {wanted:?} as {path}");
                found.push(Violation::new("overlay", expected, format!("{shown:?}")));
            }
        }
    }
}

fn on_trial(trial: Option<&(String, u8, u8)>) -> String {
    match trial {
        Some((version, tries, refunds)) => {
            format!("{version} with {tries} tries and {refunds} refunds left")
        }
        None => "none".to_owned(),
    }
}

fn code(code: Option<i32>) -> String {
    code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"))
}

fn described(copies: &[Copy]) -> String {
    let words: Vec<_> = copies
        .iter()
        .map(|copy| match copy {
            Copy::Valid(record) => format!("sequence {}", record.sequence),
            Copy::Bad(why) => why.clone(),
        })
        .collect();
    if words.is_empty() {
        return "none".to_owned();
    }
    words.join(" and ")
}

fn list(words: &[String]) -> String {
    format!("[{}]", words.join(", "))
}

fn join(words: &BTreeSet<&str>) -> String {
    words.iter().copied().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
