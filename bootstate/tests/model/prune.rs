//! Prune as an event: what `op-dbus-stage prune` does (staging/src/commands/prune),
//! with the shipped [`retention`] to decide. It keeps the newest one only, which is
//! the least it can be told to.
//!
//! What does not stand in the record or in activation.json is fate's: which version
//! is the newest, whether any is still whole (an altered one is not kept for its
//! age), what is pinned or mounted, and what `record.blessed` names. Its last step,
//! the line in the audit log, is an event of its own (`Op::Note`).

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use op_dbus_bootstate::Record;
use op_dbus_bootstate::retention::{self, Candidate, Condition, Needs, Running};
use op_dbus_bootstate::store::Verdict;

use crate::check::{self, Violation};
use crate::fate::{Fact, Fate, Keeper};
use crate::faults::DriverFault;
use crate::medium::SEQUENCE;
use crate::play::{Device, Model, Op};
use crate::search::renumberings;
use crate::shape::{V, number};

impl Model {
    /// Deletes what the shipped decision lets go, one after the other.
    pub fn prune(&self, device: &mut Device, fate: &Fate) -> Result<(), Violation> {
        let verdict = |device: &Device| self.library.loaded(&device.medium).verdict();
        match verdict(device) {
            Verdict::Intact(_) => {}
            // Both copies are written again before anything is deleted.
            Verdict::Stale(..) | Verdict::OneCopy(..) => {
                self.command(device, Op::Note, fate)?;
                if !fate.has_power() || !matches!(verdict(device), Verdict::Intact(_)) {
                    return Ok(());
                }
            }
            // A record that had to be made up does not name all that is needed.
            _ => return Ok(()),
        }
        let same: Vec<V> = self.library.scope.versions().collect();
        let most = self.removals(device, &same, Condition::Unusable, Keeper::Nobody);
        if most.is_empty() {
            return Ok(());
        }
        let keeper = keeper(&most, fate);
        let orders = renumberings(&self.library.scope.epochs);
        let removed = match fate.choose(orders.len() + 1).checked_sub(1) {
            None => self.removals(device, &same, Condition::Unusable, keeper),
            Some(at) => self.removals(device, &orders[at], Condition::Whole, keeper),
        };
        self.is_needless(device, &removed, keeper)?;
        let cut = fate.choose(removed.len() + 1).checked_sub(1);
        for &version in &removed[..cut.unwrap_or(removed.len())] {
            device.gone |= 1 << version;
            fate.note(Fact::Pruned(version));
        }
        if cut.is_some() {
            fate.note(Fact::PruneCut);
            fate.cut_power();
        }
        Ok(())
    }

    /// What goes, in order, where `order` says which version has which name: names
    /// tell what is newest, and the search tells versions apart by no name.
    fn removals(
        &self,
        device: &Device,
        order: &[V],
        condition: Condition,
        keeper: Keeper,
    ) -> Vec<V> {
        let scope = &self.library.scope;
        let deployment = |version: V| scope.deployment(order[usize::from(version)]);
        let Some(held) = device.medium.current() else {
            return Vec::new();
        };
        let shape = held.shape.renumbered(order);
        let mut record = self
            .library
            .records
            .borrow_mut()
            .get(scope, shape, SEQUENCE);
        if self.fault == Some(DriverFault::PrunesFallback) {
            record.fallback = None;
        }
        let candidates: Vec<_> = scope
            .versions()
            .filter(|&version| !device.has_lost(version))
            .map(|version| Candidate {
                version: deployment(version).version,
                digest: Some(deployment(version).digest),
                condition,
            })
            .collect();
        let running = device.running.map(|run| Running {
            version: Some(deployment(run.version).version),
            digest: Some(deployment(run.version).digest),
        });
        let blessed = match keeper {
            Keeper::Blessed(good, fallback) => Some(Record {
                good: good.map(deployment),
                fallback: fallback.map(deployment),
                ..Record::default()
            }),
            _ => None,
        };
        let mut pinned = BTreeSet::new();
        let mut mounted = BTreeSet::new();
        match keeper {
            Keeper::Pin(version) => pinned.insert(deployment(version).version),
            Keeper::Mount(version) => mounted.insert(deployment(version).version),
            _ => false,
        };
        let needs = Needs {
            record: Some(&record),
            blessed: blessed.as_ref(),
            running: running.as_ref(),
            mounted: &mounted,
            pinned: &pinned,
            parents: &BTreeSet::new(),
            keep: NonZeroUsize::MIN,
        };
        let decisions = retention::decide(&candidates, &needs);
        let numbers = retention::removals(&decisions).into_iter().map(|one| {
            let found = number(&one.candidate.digest.unwrap());
            let at = order.iter().position(|&new| new == found).unwrap();
            V::try_from(at).unwrap()
        });
        numbers.collect()
    }

    /// Invariant 7, at the moment of deleting. The decision is not asked why: this
    /// says itself who needs what.
    fn is_needless(&self, device: &Device, removed: &[V], keeper: Keeper) -> Result<(), Violation> {
        let mut needed = Vec::new();
        for held in device.medium.held() {
            needed.extend([
                ("it is good", held.shape.good),
                ("it is the fallback", held.shape.fallback),
                ("it is on trial", held.shape.trial.map(|t| t.version)),
            ]);
        }
        needed.push(("it runs", device.running.map(|run| run.version)));
        match keeper {
            Keeper::Nobody => {}
            Keeper::Pin(version) => needed.push(("it is pinned", Some(version))),
            Keeper::Mount(version) => needed.push(("it is mounted", Some(version))),
            Keeper::Blessed(good, fallback) => needed.extend([
                ("record.blessed says it is good", good),
                ("record.blessed says it is the fallback", fallback),
            ]),
        }
        check::removal(&self.library.scope, removed, &needed)
    }
}

/// Who keeps one of the versions that could go, or two.
fn keeper(most: &[V], fate: &Fate) -> Keeper {
    let mut all = vec![Keeper::Nobody];
    for &version in most {
        all.extend([Keeper::Pin(version), Keeper::Mount(version)]);
        all.push(Keeper::Blessed(Some(version), None));
        all.push(Keeper::Blessed(None, Some(version)));
        let others = most.iter().filter(|&&other| other != version);
        all.extend(others.map(|&other| Keeper::Blessed(Some(version), Some(other))));
    }
    let chosen = all[fate.choose(all.len())];
    if chosen != Keeper::Nobody {
        fate.note(Fact::Keeper(chosen));
    }
    chosen
}
