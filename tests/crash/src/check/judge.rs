//! The judging: facts and sights in, violations out. Pure.

mod general;

use std::collections::{BTreeMap, BTreeSet};

use super::{Between, Copy, Observation, Record, Violation};
use crate::facts::{Boot, Facts};
use crate::story::{REMOVED, published};

/// The digest of each version's tree.
pub(crate) type Digests = BTreeMap<String, String>;

/// Boots of good without a verdict after which fallback runs (rule 4).
const GOOD_BOOTS: u8 = 5;

/// Judges what was seen. A step in flight has happened or it has not: what was
/// seen must agree with one of the two as a whole. Where it agrees with neither,
/// the violations are those of the nearer one.
pub fn judge(between: &Between<'_>, digests: &Digests, seen: &Observation) -> Vec<Violation> {
    let mut found = general::judge(between, seen);
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
            // Power went between its last try's count and its overlay, which then
            // holds what the try before left. It is out of use.
            let exhausted =
                matches!(self.expected, Boot::Good { exhausted, .. } if exhausted == Some(version));
            if self.between.twice && exhausted {
                continue;
            }
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
