//! Which versions are to come back, and in which order. No file is touched here.

use std::collections::BTreeSet;

use op_dbus_bootstate::{Digest, Record, Slot, Version};

use crate::backup::contents::Contents;

/// A version that is to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its name.
    pub(super) version: Version,
    /// Its content; none if the backup does not know.
    pub(super) digest: Option<Digest>,
    /// What the record has it for; nothing if it was asked for.
    pub(super) slots: Vec<Slot>,
}

impl Wanted {
    /// What it is wanted for, in words.
    pub(super) fn roles(&self) -> String {
        if self.slots.is_empty() {
            return "asked for".to_owned();
        }
        let roles: Vec<_> = self.slots.iter().map(ToString::to_string).collect();
        roles.join(" and ")
    }
}

/// All versions that are wanted, oldest first.
pub(super) fn wanted(record: &Record, contents: &Contents, asked: &[Version]) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for (slot, deployment) in record.deployments() {
        match wanted
            .iter_mut()
            .find(|one| one.version == deployment.version)
        {
            Some(one) => one.slots.push(slot),
            None => wanted.push(Wanted {
                version: deployment.version.clone(),
                digest: Some(deployment.digest),
                slots: vec![slot],
            }),
        }
    }
    for version in asked {
        if wanted.iter().all(|one| one.version != *version) {
            let receipt = contents.receipts.get(version);
            wanted.push(Wanted {
                version: version.clone(),
                digest: receipt.map(|receipt| receipt.deployment.digest),
                slots: Vec::new(),
            });
        }
    }
    wanted.sort_by(|a, b| a.version.cmp(&b.version));
    wanted
}

/// A version whose files are there: what each of its streams builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// Its name.
    pub(super) version: Version,
    /// None is a whole stream.
    pub(super) parents: Vec<Option<Version>>,
}

/// The order in which versions can be received, by index, and those that can't be
/// because nothing they build on comes in before them.
pub(super) fn order(choices: &[Choice], present: &BTreeSet<Version>) -> (Vec<usize>, Vec<usize>) {
    let mut here = present.clone();
    let mut left: Vec<usize> = (0..choices.len()).collect();
    let mut in_order = Vec::new();
    loop {
        let can_come = |index: &usize| {
            choices.get(*index).is_some_and(|choice| {
                let mut parents = choice.parents.iter();
                here.contains(&choice.version)
                    || parents
                        .any(|parent| parent.as_ref().is_none_or(|parent| here.contains(parent)))
            })
        };
        let Some(place) = left.iter().position(can_come) else {
            return (in_order, left);
        };
        let index = left.remove(place);
        if let Some(choice) = choices.get(index) {
            here.insert(choice.version.clone());
        }
        in_order.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(version: &str, parents: &[Option<&str>]) -> Choice {
        Choice {
            version: version.parse().unwrap(),
            parents: parents
                .iter()
                .map(|parent| parent.map(|parent| parent.parse().unwrap()))
                .collect(),
        }
    }

    #[test]
    fn what_others_build_on_comes_first() {
        let choices = [
            choice("v1.0.0", &[Some("v1.2.0")]),
            choice("v1.1.0", &[Some("v1.0.0"), Some("v9.0.0")]),
            choice("v1.2.0", &[None]),
        ];
        assert_eq!(order(&choices, &BTreeSet::new()), (vec![2, 0, 1], vec![]));
        let none = [choice("v1.0.0", &[]), choice("v1.1.0", &[Some("v1.0.0")])];
        assert_eq!(order(&none, &BTreeSet::new()), (vec![], vec![0, 1]));
        let here = BTreeSet::from(["v1.0.0".parse().unwrap()]);
        assert_eq!(order(&none, &here), (vec![0, 1], vec![]));
        let circle = [
            choice("v1.0.0", &[Some("v1.1.0")]),
            choice("v1.1.0", &[Some("v1.0.0")]),
        ];
        assert_eq!(order(&circle, &BTreeSet::new()), (vec![], vec![0, 1]));
    }
}
