//! What went, what stays and why: a table, and JSON.

use std::collections::BTreeSet;
use std::path::PathBuf;

use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::Version;
use op_dbus_bootstate::retention::{Condition, Decision};

use super::remove::{Done, Plan};
use super::sizes::Scale;
use crate::context::{self, Context};
use crate::error::Result;
use crate::reserve::State;

/// All of it.
pub(super) struct Report<'r> {
    pub(super) dry_run: bool,
    pub(super) decisions: &'r [Decision],
    pub(super) plan: &'r Plan<'r>,
    /// What killed receives left in `incoming/`.
    pub(super) unfinished: &'r [PathBuf],
    pub(super) done: &'r Done,
    /// What the reserve is like now, if it was looked at.
    pub(super) reserve: Option<&'r State>,
    /// For a dry run, which has the time to measure.
    pub(super) sizes: Option<Scale>,
}

impl Report<'_> {
    /// Prints it.
    pub(super) fn print(&self, context: &Context) -> Result<()> {
        let gone = self.plan.versions.len();
        let left = self.plan.leftovers.len() + self.unfinished.len();
        let result = match (gone + left, self.dry_run, &self.done.failure) {
            (0, _, _) => "nothing-to-do",
            (_, true, _) => "dry-run",
            (_, false, None) => "pruned",
            (_, false, Some(_)) => "incomplete",
        };
        let mut report = context::Report::new("prune", result);
        let width = self
            .decisions
            .iter()
            .map(|one| one.candidate.version.as_str().len());
        let width = width.max().unwrap_or(0);
        let mut versions = Vec::new();
        for one in self.decisions {
            let version = &one.candidate.version;
            let bytes = self.bytes(one);
            let own = bytes.map_or_else(String::new, |bytes| {
                format!(", {} of its own", indicatif::BinaryBytes(bytes))
            });
            report = report.line(format!("{version:<width$}  {}{own}", self.words(one)));
            versions.push(serde_json::json!({
                "version": version,
                "deleted": self.done.versions.contains(version),
                "kept": one.kept,
                "condition": one.candidate.condition,
                "quarantined": one.quarantined,
                "exclusive_bytes": bytes,
            }));
        }
        let leftovers = self
            .plan
            .leftovers
            .iter()
            .map(|left| (&left.path, left.what));
        let unfinished = self.unfinished.iter();
        let unfinished = unfinished.map(|path| (path, "of a receive that was cut short"));
        let mut left_over = Vec::new();
        for (path, what) in leftovers.chain(unfinished) {
            report = report.line(format!("{}  {}, {what}", path.display(), self.verb()));
            let bytes = self.sizes.as_ref().and_then(|scale| scale.weigh([path]));
            left_over.push(serde_json::json!({
                "path": path,
                "what": what,
                "exclusive_bytes": bytes,
            }));
        }
        let freed = self.freed(&context.layout);
        let last = match (gone + left, self.dry_run) {
            (0, _) => "Nothing to do.".to_owned(),
            (_, true) => {
                let freed = freed.map_or_else(String::new, |bytes| {
                    let bytes = indicatif::BinaryBytes(bytes);
                    format!(" That frees {bytes} of data at least.")
                });
                format!(
                    "{gone} of {} versions would go.{freed}",
                    self.decisions.len()
                )
            }
            (_, false) => format!(
                "{} of {} versions deleted.",
                self.done.versions.len(),
                self.decisions.len()
            ),
        };
        if let Some(reserve) = self.reserve {
            if reserve.made > 0 {
                let parts = reserve.made;
                report = report.line(format!("Made {parts} parts of the reserve."));
            }
            report = report.field("reserve", reserve.json());
        }
        context.print(
            &report
                .field("versions", versions)
                .field("leftovers", left_over)
                .field("freed_bytes", freed)
                .line(last),
        )
    }

    fn bytes(&self, one: &Decision) -> Option<u64> {
        let held = self.plan.survey.of(&one.candidate.version);
        let trees = held.deployment.iter().chain(&held.overlays);
        self.sizes.as_ref()?.weigh(trees)
    }

    /// What all of it together would free.
    fn freed(&self, layout: &Layout) -> Option<u64> {
        let trees = |version: &Version| {
            let held = self.plan.survey.of(version);
            held.deployment.into_iter().chain(held.overlays)
        };
        let all = self.decisions.iter().map(|one| &one.candidate.version);
        let versions = self.plan.versions.iter().map(|one| &one.candidate.version);
        let leftovers = self.plan.leftovers.iter().map(|left| &left.path);
        let going: BTreeSet<_> = versions
            .flat_map(trees)
            .chain(leftovers.chain(self.unfinished).cloned())
            .collect();
        // An overlay of two versions goes with the second.
        let kept = self.decisions.iter().filter(|one| !one.goes());
        let kept: BTreeSet<_> = kept.flat_map(|one| trees(&one.candidate.version)).collect();
        let own = self.plan.leftovers.iter().map(|left| &left.path);
        let own: BTreeSet<_> = own.cloned().collect();
        let going: Vec<_> = going
            .into_iter()
            .filter(|path| own.contains(path) || !kept.contains(path))
            .collect();
        let mut staying: Vec<_> = all
            .flat_map(trees)
            .chain(self.plan.survey.foreign.iter().cloned())
            .filter(|path| !going.contains(path))
            .collect();
        let shared = layout.shared_dir();
        staying.extend(shared.is_dir().then_some(shared));
        self.sizes.as_ref()?.together(&going, &staying)
    }

    fn verb(&self) -> &'static str {
        if self.dry_run { "would go" } else { "deleted" }
    }

    fn words(&self, one: &Decision) -> String {
        if !one.goes() {
            let quarantined = if one.quarantined {
                " (quarantined)"
            } else {
                ""
            };
            return format!("kept: {}{quarantined}", one.words());
        }
        let why = match one.candidate.condition {
            Condition::Unusable => ": it is not what was published any more",
            Condition::Remains => ": only what was left of it",
            _ if one.quarantined => ": quarantined",
            _ => "",
        };
        let failed = !self.dry_run && !self.done.versions.contains(&one.candidate.version);
        let verb = if failed {
            "could not be deleted"
        } else {
            self.verb()
        };
        format!("{verb}{why}")
    }
}
