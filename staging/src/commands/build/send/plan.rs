//! Which streams a run makes.

use op_dbus_bootstate::Version;

use crate::cli::build::Parent;

/// The streams of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Whether there is one that needs no other version.
    pub(crate) full: bool,
    /// The versions that deltas build on, each once, in the order they were named.
    pub(crate) parents: Vec<Version>,
    /// `auto` found nothing, and the full stream is what is left.
    pub(crate) nothing_older: bool,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    /// `auto` found nothing.
    #[error("no older version is there; leave --parent out, or ask for both: --full --parent auto")]
    NothingOlder,
    /// A version is no delta of itself.
    #[error("is its own parent; name an older version")]
    Itself,
}

/// Decides from what was asked for and what is there.
pub(crate) fn plan(
    version: &Version,
    full: bool,
    wanted: &[Parent],
    known: &[Version],
) -> Result<Plan, PlanError> {
    let mut plan = Plan {
        full: full || wanted.is_empty(),
        parents: Vec::new(),
        nothing_older: false,
    };
    for parent in wanted {
        let parent = match parent {
            Parent::Version(parent) => parent,
            Parent::Auto => match highest_older(version, known) {
                Some(parent) => parent,
                None if full => {
                    plan.nothing_older = true;
                    continue;
                }
                None => return Err(PlanError::NothingOlder),
            },
        };
        if parent == version {
            return Err(PlanError::Itself);
        }
        if !plan.parents.contains(parent) {
            plan.parents.push(parent.clone());
        }
    }
    Ok(plan)
}

fn highest_older<'v>(version: &Version, known: &'v [Version]) -> Option<&'v Version> {
    known.iter().filter(|known| *known < version).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(names: &[&str]) -> Vec<Version> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn planned(
        version: &str,
        full: bool,
        wanted: &[&str],
        known: &[&str],
    ) -> Result<Plan, PlanError> {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|&name| match name {
                "auto" => Parent::Auto,
                name => Parent::Version(name.parse().unwrap()),
            })
            .collect();
        plan(&version.parse().unwrap(), full, &wanted, &versions(known))
    }

    #[test]
    fn without_parents_the_stream_is_full() {
        let plan = planned("v1.0.0", false, &[], &["v0.9.0"]).unwrap();
        assert!(plan.full && plan.parents.is_empty());
    }

    #[test]
    fn parents_make_deltas_only_unless_both_are_asked_for() {
        let plan = planned("v1.0.0", false, &["v0.9.0", "v0.8.0"], &[]).unwrap();
        assert!(!plan.full);
        assert_eq!(plan.parents, versions(&["v0.9.0", "v0.8.0"]));
        assert!(planned("v1.0.0", true, &["v0.9.0"], &[]).unwrap().full);
    }

    #[test]
    fn auto_is_the_highest_older_one_by_semver() {
        let known = ["v1.9.0", "v1.10.0", "v1.11.0-rc.1", "v1.11.0", "v2.0.0"];
        let parents = |version| planned(version, false, &["auto"], &known).unwrap().parents;
        assert_eq!(parents("v1.11.0"), versions(&["v1.11.0-rc.1"]));
        assert_eq!(parents("v1.11.0-rc.1"), versions(&["v1.10.0"]));
        assert_eq!(parents("v1.10.0"), versions(&["v1.9.0"]));
        assert_eq!(parents("v3.0.0"), versions(&["v2.0.0"]));
    }

    #[test]
    fn the_same_parent_twice_is_one_stream() {
        let plan = planned("v2.0.0", false, &["auto", "v1.0.0"], &["v1.0.0"]).unwrap();
        assert_eq!(plan.parents, versions(&["v1.0.0"]));
    }

    #[test]
    fn the_first_release_has_no_parent() {
        assert_eq!(
            planned("v1.0.0", false, &["auto"], &["v1.0.0", "v2.0.0"]),
            Err(PlanError::NothingOlder)
        );
        let plan = planned("v1.0.0", true, &["auto"], &[]).unwrap();
        assert!(plan.full && plan.nothing_older && plan.parents.is_empty());
    }

    #[test]
    fn a_version_is_not_its_own_parent() {
        assert_eq!(
            planned("v1.0.0", true, &["v1.0.0"], &["v1.0.0"]),
            Err(PlanError::Itself)
        );
    }
}
