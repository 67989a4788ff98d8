//! Conflicts between an overlay and a version that is to come.

use std::io;
use std::path::Path;

use op_dbus_activator::overlay::plan;

use super::classify::{Clash, Policy, Verdict};
use super::disk::Disk;
use super::policy::Policies;
use super::walk::{Layers, Look, Seen, Visitor, walk};
use super::{Shared, Unseen};

/// Conflicts that are listed: what a plan can hold. More are only counted.
pub(crate) const FINDINGS_MAX: usize = plan::ENTRIES_MAX;

/// A conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Where, relative to the version's tree.
    pub(crate) path: Vec<u8>,
    /// Which.
    pub(crate) clash: Clash,
    /// Who wins there, by the policy.
    pub(crate) policy: Policy,
    /// The pattern that says so; none by default.
    pub(crate) rule: Option<String>,
    /// What that makes of it.
    pub(crate) verdict: Verdict,
    /// What people are told, in the order of the layers: old, upper, new.
    pub(crate) looks: [Look; 3],
}

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// The conflicts, in the order of their paths.
    pub(crate) list: Vec<Finding>,
    /// Conflicts beyond [`FINDINGS_MAX`].
    pub(crate) more: u64,
    /// Conflicts for which the version may not be staged.
    pub(crate) refused: u64,
    /// What could not be looked at.
    pub(crate) unseen: Unseen,
    /// Entries of the overlay that were looked at.
    pub(crate) entries: u64,
}

impl Findings {
    /// How many conflicts there are.
    pub(crate) fn count(&self) -> u64 {
        self.more + self.list.len() as u64
    }
}

struct Linter<'l> {
    policies: &'l Policies,
    shared: &'l Shared,
    found: Findings,
}

impl Visitor for Linter<'_> {
    fn entry(&mut self, path: &[u8], seen: &Seen) -> bool {
        let Some(conflict) = seen.trio.conflict() else {
            return seen.trio.goes_on_below(None);
        };
        let (policy, rule) = self.policies.of(path);
        let verdict = conflict.settle(policy);
        self.found.refused += u64::from(verdict == Verdict::Refuse);
        if self.found.list.len() >= FINDINGS_MAX {
            self.found.more += 1;
            return seen.trio.goes_on_below(None);
        }
        self.found.list.push(Finding {
            path: path.to_owned(),
            clash: conflict.clash,
            policy,
            rule: rule.map(str::to_owned),
            verdict,
            looks: seen.looks,
        });
        seen.trio.goes_on_below(Some(verdict))
    }

    fn leaves_out(&self, path: &[u8]) -> bool {
        self.shared.holds(path)
    }

    fn failed(&mut self, path: &[u8], why: io::Error) {
        self.found.unseen.add(path, &why);
    }
}

/// Finds the conflicts of any layers.
pub(crate) fn conflicts<L: Layers>(
    layers: &mut L,
    root: &L::Dir,
    policies: &Policies,
    shared: &Shared,
) -> Findings {
    let mut linter = Linter {
        policies,
        shared,
        found: Findings::default(),
    };
    let entries = walk(layers, root, &mut linter);
    Findings {
        entries,
        ..linter.found
    }
}

/// Finds the conflicts between an upper layer over one tree, and another tree.
pub(crate) fn on_disk(
    upper: &Path,
    old: &Path,
    new: &Path,
    policies: &Policies,
    shared: &Shared,
) -> io::Result<Findings> {
    let (mut disk, root) = Disk::open(upper, old, Some(new))?;
    Ok(conflicts(&mut disk, &root, policies, shared))
}
