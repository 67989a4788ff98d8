//! What is in a store, by version; reads only.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use op_dbus_activator::identity::{self, Check};
use op_dbus_activator::layout::{Layout, RECEIPT_SUFFIX};
use op_dbus_bootstate::receipt::Receipt;
use op_dbus_bootstate::retention::{self, Candidate, Condition};
use op_dbus_bootstate::{Digest, Record, Version};

use super::mounts::Uses;
use crate::deployments;
use crate::error::{Exit, Failure, Result};

/// How the name of an overlay ends that a boot discarded.
const FAILED: &str = ".failed";
/// Entries of one directory that are looked at.
const ENTRIES_MAX: usize = 100_000;

/// Everything that belongs to a version.
#[derive(Debug, Clone, Default)]
pub(super) struct Belongings {
    /// Its subvolume in `deploy/`, also one that lacks only its name.
    pub(super) deployment: Option<PathBuf>,
    /// Its overlay, and what was set aside of it.
    pub(super) overlays: Vec<PathBuf>,
    /// Receipt, manifest, signature.
    pub(super) papers: Vec<PathBuf>,
    /// What there is of it.
    condition: Option<Condition>,
    digest: Option<Digest>,
}

/// What belongs to no version: left by a run that was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leftover {
    /// Where.
    pub(super) path: PathBuf,
    /// What it was to become.
    pub(super) what: &'static str,
}

/// A store.
#[derive(Debug, Clone, Default)]
pub(super) struct Survey {
    versions: BTreeMap<Version, Belongings>,
    /// What a hand-over is to do at a trial's first boot, and whose it is.
    plans: Vec<(Version, PathBuf)>,
    /// What may go whatever is decided about versions.
    pub(super) leftovers: Vec<Leftover>,
    /// What is not ours, and so is left alone.
    pub(super) foreign: Vec<PathBuf>,
}

impl Survey {
    /// Looks at all of it.
    pub(super) fn read(layout: &Layout) -> Result<Self> {
        let mut survey = Self::default();
        survey.deployments(layout)?;
        survey.papers(layout)?;
        survey.judge(layout)?;
        survey.overlays(layout)?;
        survey.plans(layout)?;
        Ok(survey)
    }

    /// Notes as leftovers what has served: plans of what is not on trial (any more),
    /// and overlays that were discarded of a trial that was blessed later. `asked`:
    /// see [`retention::discarded_may_go`].
    pub(super) fn add_served(&mut self, record: &Record, asked: bool) {
        let trial = record.trial.as_ref().map(|trial| &trial.deployment.version);
        for (version, path) in &self.plans {
            if trial != Some(version) {
                let what = "a plan of what is not on trial";
                let path = path.clone();
                self.leftovers.push(Leftover { path, what });
            }
        }
        for candidate in self.candidates() {
            if !retention::discarded_may_go(record, &candidate, asked) {
                continue;
            }
            for path in self.of(&candidate.version).overlays {
                let ends = |name: &OsStr| name.as_encoded_bytes().ends_with(FAILED.as_bytes());
                let is_one_s = self.owners(&path).count() == 1;
                if is_one_s && path.file_name().is_some_and(ends) {
                    let what = "of a trial that was blessed since";
                    self.leftovers.push(Leftover { path, what });
                }
            }
        }
    }

    /// The versions, for the decision.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let candidate = |(version, held): (&Version, &Belongings)| Candidate {
            version: version.clone(),
            digest: held.digest,
            condition: held.condition.unwrap_or(Condition::Remains),
        };
        self.versions.iter().map(candidate).collect()
    }

    /// What belongs to a version.
    pub(super) fn of(&self, version: &Version) -> Belongings {
        self.versions.get(version).cloned().unwrap_or_default()
    }

    /// Whose an overlay is.
    pub(super) fn owners<'s>(&'s self, overlay: &'s Path) -> impl Iterator<Item = &'s Version> {
        let owned = self
            .versions
            .iter()
            .filter(move |(_, held)| held.overlays.iter().any(|path| path == overlay));
        owned.map(|(version, _)| version)
    }

    /// The versions that are mounted, by what mounts use.
    pub(super) fn mounted(&self, uses: &Uses) -> Result<std::collections::BTreeSet<Version>> {
        let mut mounted = std::collections::BTreeSet::new();
        for (version, held) in &self.versions {
            let mut is_used = uses.has_name(OsStr::new(version.as_str()));
            for path in held.deployment.iter().chain(&held.overlays) {
                is_used |= is_in_use(path, uses)?;
            }
            if is_used {
                mounted.insert(version.clone());
            }
        }
        Ok(mounted)
    }

    /// `deploy/`: versions, and those a killed receive was making.
    fn deployments(&mut self, layout: &Layout) -> Result<()> {
        for (name, path) in entries(&layout.deploy_dir())? {
            let text = name.to_str().unwrap_or_default();
            let hidden = text.strip_prefix('.').and_then(|n| n.strip_suffix(".new"));
            if let Ok(version) = text.parse::<Version>() {
                self.entry(version).deployment = Some(path);
            } else if let Some(hidden) = hidden {
                self.hidden(layout, hidden, path)?;
            } else {
                self.foreign.push(path);
            }
        }
        Ok(())
    }

    /// With its receipt written a version lacks only its name, and is as good as
    /// any other; without, it is nothing.
    fn hidden(&mut self, layout: &Layout, name: &str, path: PathBuf) -> Result<()> {
        if let Ok(version) = name.parse::<Version>() {
            let is_free = layout.deployment(&version).symlink_metadata().is_err();
            let receipt = receipt(layout, &version)?.ok().flatten();
            let is_complete = receipt.is_some_and(|receipt| {
                let found = identity::check(&path, &receipt.deployment.identity);
                matches!(found, Check::Intact)
            });
            if is_free && is_complete {
                self.entry(version).deployment = Some(path);
                return Ok(());
            }
        }
        self.leave(path, "of a receive that was cut short")
    }

    /// `manifests/`.
    fn papers(&mut self, layout: &Layout) -> Result<()> {
        for (name, path) in entries(&layout.manifests_dir())? {
            let text = name.to_str().unwrap_or_default();
            let version = text
                .strip_suffix(RECEIPT_SUFFIX)
                .or_else(|| text.strip_suffix(".json"))
                .or_else(|| text.strip_suffix(".json.asc"))
                .and_then(|version| version.parse().ok());
            if let Some(version) = version {
                self.entry(version).papers.push(path);
            } else if is_temporary(text) {
                let what = "of a file that was being written";
                self.leftovers.push(Leftover { path, what });
            } else {
                self.foreign.push(path);
            }
        }
        Ok(())
    }

    /// What there is of each version.
    fn judge(&mut self, layout: &Layout) -> Result<()> {
        for (version, held) in &mut self.versions {
            let receipt = receipt(layout, version)?;
            held.digest = match &receipt {
                Ok(Some(receipt)) => Some(receipt.deployment.digest),
                _ => None,
            };
            held.condition = Some(condition(held.deployment.as_deref(), &receipt));
        }
        Ok(())
    }

    /// `overlays/`: those of versions, those set aside, and half-made ones.
    fn overlays(&mut self, layout: &Layout) -> Result<()> {
        for (name, path) in entries(&layout.overlays_dir())? {
            let text = name.to_str().unwrap_or_default();
            let owners = owners(text);
            if !op_dbus_btrfs::is_subvolume(&path)? {
                self.foreign.push(path);
            } else if text.starts_with(".new-") {
                self.leave(path, "of an overlay that was being made")?;
            } else if owners.is_empty() {
                self.foreign.push(path);
            } else {
                for owner in owners {
                    self.entry(owner).overlays.push(path.clone());
                }
            }
        }
        Ok(())
    }

    /// `plans/`, which the first plan makes.
    fn plans(&mut self, layout: &Layout) -> Result<()> {
        for (name, path) in entries(&layout.plans_dir())? {
            let text = name.to_str().unwrap_or_default();
            let is_dir = path
                .symlink_metadata()
                .map_err(|why| Failure::io(format_args!("{}: look at", path.display()), why))?
                .is_dir();
            match text.parse() {
                Ok(version) if !is_dir => self.plans.push((version, path)),
                _ if is_temporary(text) && !is_dir => {
                    let what = "of a file that was being written";
                    self.leftovers.push(Leftover { path, what });
                }
                _ => self.foreign.push(path),
            }
        }
        Ok(())
    }

    fn entry(&mut self, version: Version) -> &mut Belongings {
        self.versions.entry(version).or_default()
    }

    /// Notes a leftover, if it is a subvolume: nothing of ours is anything else there.
    fn leave(&mut self, path: PathBuf, what: &'static str) -> Result<()> {
        if op_dbus_btrfs::is_subvolume(&path)? {
            self.leftovers.push(Leftover { path, what });
        } else {
            self.foreign.push(path);
        }
        Ok(())
    }
}

/// Whether a subvolume is mounted. Nothing else can be, whatever its name: a plan has
/// that of its version, which may well run.
pub(super) fn is_in_use(path: &Path, uses: &Uses) -> Result<bool> {
    if !op_dbus_btrfs::is_subvolume(path)? {
        return Ok(false);
    }
    if uses.has_name(path.file_name().unwrap_or_default()) {
        return Ok(true);
    }
    let device = path
        .symlink_metadata()
        .map_err(|why| Failure::io(format_args!("{}: look at", path.display()), why))?
        .dev();
    Ok(uses.has_subvolume(op_dbus_btrfs::info_of(path)?.id, device))
}

/// The receipt, or that it is damaged.
fn receipt(
    layout: &Layout,
    version: &Version,
) -> Result<std::result::Result<Option<Receipt>, Failure>> {
    match deployments::read_receipt(layout, version) {
        Err(damaged) if damaged.kind == Exit::Verification => Ok(Err(damaged)),
        Err(unreadable) => Err(unreadable),
        Ok(receipt) => Ok(Ok(receipt)),
    }
}

fn condition(
    deployment: Option<&Path>,
    receipt: &std::result::Result<Option<Receipt>, Failure>,
) -> Condition {
    let Some(path) = deployment else {
        return Condition::Remains;
    };
    match op_dbus_btrfs::is_subvolume(path) {
        Ok(true) => {}
        // A plain directory is nobody's version.
        Ok(false) => return Condition::Foreign,
        Err(_) => return Condition::Unreadable,
    }
    match receipt {
        Err(_) => Condition::Unusable,
        Ok(None) => Condition::Foreign,
        Ok(Some(receipt)) => match identity::check(path, &receipt.deployment.identity) {
            Check::Intact => Condition::Whole,
            Check::Altered(_) => Condition::Unusable,
            Check::Missing(_) | Check::Unreadable(_) => Condition::Unreadable,
        },
    }
}

/// Whether a name is what [`op_dbus_activator::files::replace`] writes under.
fn is_temporary(name: &str) -> bool {
    let name = name.strip_prefix('.');
    name.is_some_and(|name| name.strip_suffix(".new").is_some())
}

/// Whose overlay a name is. What was set aside has an ending, with which a name
/// may be that of another version as well: then it is both's, and goes with neither.
fn owners(name: &str) -> Vec<Version> {
    let aside = [".old", FAILED]
        .iter()
        .find_map(|ending| name.strip_suffix(ending));
    [Some(name), aside]
        .into_iter()
        .flatten()
        .filter_map(|name| name.parse().ok())
        .collect()
}

/// The names in a directory, sorted. None there is none in it.
fn entries(dir: &Path) -> Result<Vec<(OsString, PathBuf)>> {
    let fail = |why: io::Error| Failure::io(format_args!("{}: read", dir.display()), why);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(why) => return Err(fail(why)),
    };
    let mut found = Vec::new();
    for entry in entries.take(ENTRIES_MAX) {
        let entry = entry.map_err(fail)?;
        found.push((entry.file_name(), entry.path()));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_its_version_s() {
        let owners =
            |name: &str| -> Vec<String> { owners(name).iter().map(ToString::to_string).collect() };
        assert_eq!(owners("v1.0.0"), ["v1.0.0"]);
        assert_eq!(owners("v1.0.0.old"), ["v1.0.0"]);
        assert_eq!(owners("v1.0.0.failed"), ["v1.0.0"]);
        assert_eq!(owners("v1.0.0-rc.old"), ["v1.0.0-rc.old", "v1.0.0-rc"]);
        assert_eq!(owners(".new-v1.0.0"), [""; 0]);
        assert_eq!(owners("something"), [""; 0]);
    }
}
