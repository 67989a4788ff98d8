//! What went, what stays and why: a table, and JSON.

use std::path::PathBuf;

use op_dbus_bootstate::retention::{Condition, Decision};

use super::remove::{Done, Plan};
use super::sizes::Scale;
use crate::context::{self, Context};
use crate::error::Result;

/// All of it.
pub(super) struct Report<'r> {
    pub(super) dry_run: bool,
    pub(super) decisions: &'r [Decision],
    pub(super) plan: &'r Plan<'r>,
    /// What killed receives left in `incoming/`.
    pub(super) unfinished: &'r [PathBuf],
    pub(super) done: &'r Done,
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
            left_over.push(serde_json::json!({"path": path, "what": what}));
        }
        let last = match (gone + left, self.dry_run) {
            (0, _) => "Nothing to do.".to_owned(),
            (_, true) => format!("{gone} of {} versions would go.", self.decisions.len()),
            (_, false) => format!(
                "{} of {} versions deleted.",
                self.done.versions.len(),
                self.decisions.len()
            ),
        };
        context.print(
            &report
                .field("versions", versions)
                .field("leftovers", left_over)
                .line(last),
        )
    }

    fn bytes(&self, one: &Decision) -> Option<u64> {
        let held = self.plan.survey.of(&one.candidate.version);
        let trees: Vec<_> = held.deployment.into_iter().chain(held.overlays).collect();
        self.sizes?.weigh(&trees)
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
