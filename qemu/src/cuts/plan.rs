//! What the device does next.

use super::facts::{Deed, Facts, Role};
use crate::chance::Chance;

/// What a user of the overlay's file and the programs can be asked for, and how
/// often, in a boot that runs a version in this role.
fn weights(role: Option<Role>, facts: &Facts) -> [(usize, Kind); 8] {
    let trial = role == Some(Role::Trial);
    // Else the limits of unblessed boots would decide most stories.
    let anxious = facts.good_unblessed > 2 || facts.fallback_unblessed > 2;
    [
        (if trial || anxious { 45 } else { 15 }, Kind::Bless),
        (if trial { 8 } else { 50 }, Kind::Stage),
        (
            if facts.received.len() < 3 { 30 } else { 12 },
            Kind::Receive,
        ),
        (12, Kind::Note),
        (if trial { 10 } else { 0 }, Kind::Condemn),
        (if trial { 12 } else { 0 }, Kind::OrderlyShutdown),
        (if trial { 6 } else { 12 }, Kind::Rollback),
        (4, Kind::Cancel),
    ]
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Bless,
    Stage,
    Receive,
    Note,
    Condemn,
    OrderlyShutdown,
    Rollback,
    Cancel,
}

/// A deed that makes sense now; `all` are the versions there are.
pub fn next(facts: &Facts, all: &[&str], chance: &mut Chance) -> Option<Deed> {
    let role = facts.boot.runs.as_ref().map(|(role, _)| *role);
    let note = format!("note {}", chance.number() % 1_000_000);
    let version = |chance: &mut Chance, fits: &dyn Fn(&str) -> bool| {
        let fitting: Vec<&str> = all.iter().copied().filter(|name| fits(name)).collect();
        chance.pick(&fitting).map(|name| (*name).to_owned())
    };
    let mut choices = Vec::new();
    for (weight, kind) in weights(role, facts) {
        let deed = match kind {
            Kind::Bless => Some(Deed::Bless),
            Kind::Stage => version(chance, &|name| facts.received.contains(name)).map(Deed::Stage),
            Kind::Receive => {
                version(chance, &|name| !facts.received.contains(name)).map(Deed::Receive)
            }
            Kind::Note => Some(Deed::Note(note.clone())),
            Kind::Condemn => Some(Deed::Condemn),
            Kind::OrderlyShutdown => Some(Deed::OrderlyShutdown),
            Kind::Rollback => Some(Deed::Rollback),
            Kind::Cancel => Some(Deed::Cancel),
        };
        choices.extend(
            deed.filter(|deed| facts.after(deed).is_some())
                .map(|deed| (weight, deed)),
        );
    }
    let mut left = chance.below(choices.iter().map(|(weight, _)| weight).sum());
    for (weight, deed) in choices {
        match left.checked_sub(weight) {
            Some(rest) => left = rest,
            None => return Some(deed),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The stories reach every deed and every role, also without any cut.
    #[test]
    fn a_life_has_everything_in_it() {
        let mut facts = Facts::begin("v1");
        let mut chance = Chance::new(1, 1);
        let (mut deeds, mut roles) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..400 {
            facts = facts.booted();
            roles.insert(facts.boot.runs.as_ref().map(|(role, _)| *role));
            for _ in 0..chance.below(4) {
                let Some(deed) = next(&facts, &["v1", "v2", "v3"], &mut chance) else {
                    break;
                };
                deeds.insert(deed.word());
                facts = facts.after(&deed).unwrap();
            }
        }
        assert_eq!(deeds.len(), 8, "{deeds:?}");
        assert!(roles.contains(&Some(Role::Trial)) && roles.contains(&Some(Role::Good)));
    }
}
