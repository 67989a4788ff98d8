//! What staging a version would make of the changes to the good one.

use std::io;

use op_dbus_activator::config::{Config, Mode};
use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::record::{Origin, Record};
use op_dbus_bootstate::{Deployment, Digest, Version};

use crate::error::{Exit, Failure};
use crate::overlay::Shared;
use crate::overlay::classify::{Clash, Verdict};
use crate::overlay::lint::{self, Findings};
use crate::overlay::name::shown;
use crate::overlay::plan::{self, Drafted};
use crate::overlay::policy::Policies;

/// Paths that an error names.
const NAMED_MAX: usize = 3;

/// The conflicts, and what is to be done about them.
#[derive(Debug)]
pub(crate) struct Outlook {
    /// The version to come.
    pub(crate) version: Version,
    /// The good one.
    pub(crate) over: Version,
    /// The good one's content.
    over_digest: Digest,
    /// The conflicts.
    pub(crate) findings: Findings,
    /// What the next boot is to be told.
    pub(crate) drafted: Drafted,
    /// Whether what could not be looked at must not be staged over.
    may_refuse: bool,
}

/// Why there is nothing to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needless {
    /// Nothing was good yet.
    NoGood,
    /// It is the good version itself.
    IsGood,
    /// It has the good version's name: an overlay goes with a name.
    SameName,
    /// It has an overlay of its own, and goes on with that.
    KeepsOwn,
    /// `overlay.mode = "fresh"`: no change is taken along.
    Fresh,
}

impl Needless {
    /// In a word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NoGood => "no-good",
            Self::IsGood => "is-good",
            Self::SameName => "same-name",
            Self::KeepsOwn => "keeps-own",
            Self::Fresh => "fresh",
        }
    }

    /// In a sentence.
    pub(crate) fn sentence(self, version: &Version) -> String {
        match self {
            Self::NoGood => format!("No version is good, so {version} begins without changes."),
            Self::IsGood => format!("{version} is the good version: it keeps its changes."),
            Self::SameName => {
                format!("{version} is the good version's name, too: no changes are taken along.")
            }
            Self::KeepsOwn => format!(
                "{version} goes on with changes of its own; none of the good version's are taken along."
            ),
            Self::Fresh => format!("overlay.mode is \"fresh\": {version} begins without changes."),
        }
    }
}

/// Whether the changes to good come along to a version, and from which.
pub(crate) fn source<'r>(
    record: &'r Record,
    config: &Config,
    deployment: &Deployment,
) -> std::result::Result<&'r Deployment, Needless> {
    let version = &deployment.version;
    let good = record.good.as_ref().ok_or(Needless::NoGood)?;
    if good.digest == deployment.digest {
        return Err(Needless::IsGood);
    }
    if good.version == *version {
        return Err(Needless::SameName);
    }
    let is_rollback = record.trial.as_ref().is_some_and(|trial| {
        trial.origin == Origin::Rollback && trial.deployment.digest == deployment.digest
    });
    let is_fallback = record
        .fallback
        .as_ref()
        .is_some_and(|fallback| fallback.version == *version);
    if is_rollback || is_fallback {
        return Err(Needless::KeepsOwn);
    }
    if config.overlay.mode == Mode::Fresh {
        return Err(Needless::Fresh);
    }
    Ok(good)
}

impl Outlook {
    /// Looks at good's overlay, and at both versions.
    pub(crate) fn new(
        layout: &Layout,
        config: &Config,
        good: &Deployment,
        version: &Version,
        policies: &Policies,
    ) -> io::Result<Self> {
        let shared = Shared::new(&config.overlay.shared_paths);
        let upper = layout.upper(&good.version);
        let mut outlook = Self {
            version: version.clone(),
            over: good.version.clone(),
            over_digest: good.digest,
            findings: Findings::default(),
            drafted: Drafted::default(),
            may_refuse: policies.may_refuse(),
        };
        match upper.symlink_metadata() {
            // It never ran writable: nobody could change anything.
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(outlook),
            found => found.map(|_| ())?,
        }
        let (old, new) = (layout.deployment(&good.version), layout.deployment(version));
        outlook.findings = lint::on_disk(&upper, &old, &new, policies, &shared)?;
        let root = op_dbus_btrfs::open_dir(&upper).map_err(|why| why.source)?;
        outlook.drafted = plan::draft(root, &outlook.findings);
        Ok(outlook)
    }

    /// Why the version may not be staged, if so.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        let found = &self.findings;
        let remedy = format!(
            "see: op-dbus-stage overlay lint {0}; then take changes back (overlay reset), change [lint], or say who wins: stage {0} --overlay keep-mine",
            self.version
        );
        if found.refused > 0 {
            let refused = found.list.iter();
            let refused = refused.filter(|finding| finding.verdict == Verdict::Refuse);
            let names: Vec<_> = refused
                .take(NAMED_MAX)
                .map(|one| shown(&one.path))
                .collect();
            let rest = if found.refused > names.len() as u64 {
                ", …"
            } else {
                ""
            };
            let why = format!(
                "[lint] refuses {} of the changes to {} that clash with it: {}{rest}",
                found.refused,
                self.over,
                names.join(", ")
            );
            return Some(Failure::new(Exit::Refused, &self.version, why, remedy));
        }
        let (path, why) = found.unseen.some.first().filter(|_| self.may_refuse)?;
        let why = format!(
            "[lint] may refuse a change that could not be looked at: {}: {why}",
            shown(path)
        );
        Some(Failure::new(Exit::Refused, &self.version, why, remedy))
    }

    /// Writes the plan, or sees to it that there is none. Durable when this
    /// returns. Whether there is one.
    pub(crate) fn write(&mut self, layout: &Layout, onto: Digest) -> io::Result<bool> {
        let entries = std::mem::take(&mut self.drafted.entries);
        plan::write(layout, &self.version, onto, self.over_digest, entries)
    }

    /// Copies without a change that hide what the version has, because they could
    /// not be planned away.
    pub(crate) fn hiding(&self) -> Vec<String> {
        let kept = self.drafted.kept.iter();
        let findings = kept.filter_map(|(index, _)| self.findings.list.get(*index));
        let stale = findings.filter(|finding| finding.clash == Clash::StaleCopy);
        stale.take(NAMED_MAX).map(|one| shown(&one.path)).collect()
    }

    /// Conflicts, where the user's stays because nothing else could be planned.
    pub(crate) fn unplanned(&self) -> u64 {
        self.findings.more + self.drafted.kept.len() as u64
    }
}
