//! `overlay diff [VERSION]`: what was changed over a version.

use std::io;

use serde_json::json;

use super::table::{self, Table};
use crate::cli::overlay as cli;
use crate::context::{Context, Report};
use crate::deployments::Deployments;
use crate::error::{Exit, Failure, Result};
use crate::overlay::Shared;
use crate::overlay::classify::Change;
use crate::overlay::diff::{self, Changed, Changes};
use crate::overlay::name::shown;

/// Runs the command.
pub(super) fn run(context: &Context, args: &cli::Diff) -> Result<Exit> {
    let layout = &context.layout;
    let version = match &args.version {
        Some(version) => version.clone(),
        None => super::usual(context)?,
    };
    Deployments::read(layout)?.named(layout, &version)?;
    let shared = Shared::new(&context.config()?.overlay.shared_paths);
    let upper = layout.upper(&version);
    let changes = match upper.symlink_metadata() {
        // It has not run yet, or nothing could be written in it.
        Err(why) if why.kind() == io::ErrorKind::NotFound => Changes::default(),
        _ => diff::on_disk(&upper, &layout.deployment(&version), &shared)
            .map_err(|why| Failure::io("overlay", why))?,
    };
    let result = if changes.count() == 0 {
        "unchanged"
    } else {
        "changed"
    };
    let mut report = Report::new("overlay-diff", result)
        .field("version", version.as_str())
        .line(format!(
            "{} over {version}.",
            table::count(changes.count(), "change")
        ));
    let mut rows = Table::new(["CHANGE", "YOURS", "VERSION'S", "CHANGED AT (UTC)", "PATH"]);
    for changed in &changes.list {
        rows.row(row(changed));
    }
    for line in rows.lines() {
        report = report.line(line);
    }
    if changes.more > 0 {
        report = report.line(format!("  … and {} more.", changes.more));
    }
    if changes.copies > 0 {
        report = report.line(format!(
            "{} of the version's own, in which nothing was changed.",
            table::count(changes.copies, "copie").replace("1 copie", "1 copy")
        ));
    }
    let list: Vec<_> = changes.list.iter().map(json).collect();
    let report = report
        .field("changes", list)
        .field("more", changes.more)
        .field("unchanged_copies", changes.copies)
        .field("entries", changes.entries);
    let report = table::unseen(context, report, &changes.unseen);
    context.print(&report)?;
    Ok(Exit::Done)
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Changed => "changed",
        Change::Removed => "removed",
        Change::ReplacedDirectory => "replaced-directory",
        Change::OwnerChanged => "owner-changed",
    }
}

fn row(changed: &Changed) -> [String; 5] {
    // What is different of it.
    let what = match changed.change {
        Change::OwnerChanged => table::owner,
        _ => table::size,
    };
    [
        word(changed.change).to_owned(),
        what(&changed.mine),
        what(&changed.old),
        table::time(&changed.mine),
        shown(&changed.path),
    ]
}

fn json(changed: &Changed) -> serde_json::Value {
    let fields = json!({
        "change": changed.change,
        "mine": table::entry(&changed.mine),
        "version": table::entry(&changed.old),
    });
    table::at(&changed.path, fields)
}
