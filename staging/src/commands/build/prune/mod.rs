//! `prune --source`: deletes old snapshots, and none that a release still needs.
//!
//! A delta for devices that have a version can only be made while the snapshot
//! with that version's UUID exists. So what published deltas build on stays, and
//! a manifest that can't be read stops everything: nobody knows what it needs.

mod decide;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use op_dbus_activator::files;
use op_dbus_bootstate::Version;
use op_dbus_bootstate::retention::KEEP_DEFAULT;
use op_dbus_release::manifest::{self, Manifest};

use super::area::{Area, Frozen, Use};
use super::size;
use crate::cli::prune::Prune;
use crate::context::{Context, Report};
use crate::error::{Exit, Failure, Result};

use decide::{Candidate, Decision, Published, decide};

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Prune) -> Result<Exit> {
    Context::require_root()?;
    let area = Area::new(&args.source.place());
    area.require()?;
    let _lock = area.lock(Use::Exclusive)?;
    let (frozen, foreign) = area.all_frozen()?;
    for name in foreign {
        context.warn(format!(
            "{} is no frozen version; it is left alone",
            area.versions().join(name).display()
        ));
    }
    let published = published(context, &area, &args.source.published)?;
    let candidates: Vec<_> = frozen
        .iter()
        .map(|frozen| Candidate {
            version: frozen.version.clone(),
            uuid: frozen.sent_uuid(),
        })
        .collect();
    let decisions = decide(
        &candidates,
        &published,
        usize::from(args.keep.unwrap_or(KEEP_DEFAULT)),
    );
    let sizes = Sizes::read(&args.source.btrfs, &area.versions());
    if !args.dry_run {
        delete(&area, &decisions)?;
    }
    report(context, args, &frozen, &decisions, &sizes)
}

/// All manifests of the directories: that of releases, if it is there, and those
/// that were named, which must be.
fn published(context: &Context, area: &Area, dirs: &[PathBuf]) -> Result<Vec<Published>> {
    let mut found = Vec::new();
    let releases = area.releases();
    if releases.is_dir() {
        found.extend(published_in(context, &releases)?);
    }
    for dir in dirs {
        found.extend(published_in(context, dir)?);
    }
    Ok(found)
}

fn published_in(context: &Context, dir: &Path) -> Result<Vec<Published>> {
    let fail = |why: io::Error| match why.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::new(
            Exit::Refused,
            dir.display(),
            format_args!("{why}, so nobody knows what is published"),
            "name the directory that holds the published manifests: --published DIR",
        ),
        _ => Failure::io(format_args!("{}: read", dir.display()), why),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match read(&path) {
            Ok(manifest) => found.push(Published {
                dir: dir.to_owned(),
                parents: parents(&manifest),
                version: manifest.version,
            }),
            Err(why) if is_manifest_name(&path) => {
                return Err(Failure::new(
                    Exit::Verification,
                    path.display(),
                    format_args!("{why}; what it needs is not known, and nothing was deleted")
                        .to_string()
                        .replace("; ", ", "),
                    "restore it, or move it away if it is no manifest of yours",
                ));
            }
            Err(_) => context.warn(format!("{} is no manifest; it is left out", path.display())),
        }
    }
    Ok(found)
}

fn read(path: &Path) -> std::result::Result<Manifest, String> {
    let bytes = files::read_bounded(path, manifest::MAX_LEN).map_err(|why| why.to_string())?;
    Manifest::parse(&bytes).map_err(|why| why.to_string())
}

fn parents(manifest: &Manifest) -> Vec<(Version, op_dbus_bootstate::Uuid)> {
    let parents = manifest
        .streams
        .iter()
        .filter_map(|stream| stream.parent.as_ref());
    parents
        .map(|parent| (parent.version.clone(), parent.uuid))
        .collect()
}

/// Whether a file is named as `send` names manifests.
fn is_manifest_name(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.is_some_and(|stem| stem.parse::<Version>().is_ok())
}

fn delete(area: &Area, decisions: &[Decision]) -> Result<()> {
    let mut any = false;
    for decision in decisions.iter().filter(|decision| decision.kept.is_empty()) {
        op_dbus_btrfs::delete_subvolume(&area.version(&decision.version))?;
        any = true;
    }
    if any {
        // Gone for good, and the space is given back now.
        op_dbus_btrfs::free_deleted(&area.versions())?;
    }
    Ok(())
}

/// What only one version holds, in bytes: known where quotas are on, which is
/// the one case where Btrfs keeps count.
#[derive(Debug, Default)]
struct Sizes(Vec<(u64, u64)>);

impl Sizes {
    fn read(program: &Path, dir: &Path) -> Self {
        let output = Command::new(program)
            .args(["qgroup", "show", "--raw"])
            .arg(dir)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) if output.status.success() => {
                Self::parse(&String::from_utf8_lossy(&output.stdout))
            }
            _ => Self::default(),
        }
    }

    /// Lines of `0/<subvolume id> <referenced> <exclusive> …`.
    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let id = words.next()?.strip_prefix("0/")?.parse().ok()?;
            let exclusive = words.nth(1)?.parse().ok()?;
            Some((id, exclusive))
        };
        Self(text.lines().filter_map(line).collect())
    }

    fn of(&self, frozen: Option<&Frozen>) -> Option<u64> {
        let id = frozen?.info.id;
        self.0
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, bytes)| *bytes)
    }
}

fn report(
    context: &Context,
    args: &Prune,
    frozen: &[Frozen],
    decisions: &[Decision],
    sizes: &Sizes,
) -> Result<Exit> {
    let gone = decisions
        .iter()
        .filter(|decision| decision.kept.is_empty())
        .count();
    let result = match (gone, args.dry_run) {
        (0, _) => "nothing-to-do",
        (_, true) => "dry-run",
        (_, false) => "pruned",
    };
    let verb = if args.dry_run { "would go" } else { "deleted" };
    let width = decisions
        .iter()
        .map(|decision| decision.version.as_str().len())
        .max()
        .unwrap_or(0);
    let mut report = Report::new("prune", result);
    let mut versions = Vec::new();
    for decision in decisions {
        let snapshot = frozen
            .iter()
            .find(|frozen| frozen.version == decision.version);
        let bytes = sizes.of(snapshot);
        let own = bytes.map_or_else(String::new, |bytes| format!(", {} of its own", size(bytes)));
        let what = if decision.kept.is_empty() {
            format!("{verb}{own}")
        } else {
            format!("kept{own}: {}", decision.words())
        };
        report = report.line(format!("{:<width$}  {what}", decision.version));
        versions.push(serde_json::json!({
            "version": decision.version,
            "deleted": decision.kept.is_empty() && !args.dry_run,
            "kept": decision.kept,
            "exclusive_bytes": bytes,
        }));
    }
    let last = match (gone, args.dry_run) {
        (0, _) => "Nothing to do.".to_owned(),
        (count, true) => format!("{count} of {} would be deleted.", decisions.len()),
        (count, false) => format!("{count} of {} deleted.", decisions.len()),
    };
    context.print(&report.field("versions", versions).line(last))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_qgroup_show_prints() {
        let text = "Qgroupid    Referenced    Exclusive   Path \n\
            --------    ----------    ---------   ---- \n\
            0/5              16384        16384   <toplevel>\n\
            0/256         23592960       999424   versions/v1.0.0\n\
            1/0                  0            0   <0 member qgroups>\n";
        assert_eq!(Sizes::parse(text).0, [(5, 16384), (256, 999_424)]);
    }

    #[test]
    fn manifests_are_known_by_their_names() {
        assert!(is_manifest_name(Path::new("/x/v1.0.0.json")));
        assert!(is_manifest_name(Path::new("1.0.0-rc.1.json")));
        assert!(!is_manifest_name(Path::new("index.json")));
    }
}
