//! Which versions go, and why the others stay. Pure.

use std::path::PathBuf;

use op_dbus_bootstate::{Uuid, Version};
use serde::Serialize;

/// A snapshot, as far as the decision needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its name.
    pub(crate) version: Version,
    /// The UUID it has in streams.
    pub(crate) uuid: Uuid,
}

/// A published manifest, likewise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    /// The directory it is in.
    pub(crate) dir: PathBuf,
    /// The version it is of.
    pub(crate) version: Version,
    /// What its deltas build on.
    pub(crate) parents: Vec<(Version, Uuid)>,
}

/// Why a version stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "why", content = "version")]
pub(crate) enum Reason {
    /// One of the newest.
    Newest,
    /// A published delta of this version builds on it: devices have it, and the
    /// next delta for them needs its very UUID.
    ParentOf(Version),
    /// The newest one published in a directory: what devices run, or will.
    NewestPublished,
}

/// What becomes of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Which one.
    pub(crate) version: Version,
    /// Why it stays; nothing: it goes.
    pub(crate) kept: Vec<Reason>,
}

/// Decides on all versions, newest first.
pub(crate) fn decide(
    candidates: &[Candidate],
    published: &[Published],
    keep: usize,
) -> Vec<Decision> {
    let mut sorted: Vec<_> = candidates.iter().collect();
    sorted.sort_by(|a, b| b.version.cmp(&a.version));
    let newest = newest_published(published);
    let mut decisions = Vec::new();
    for (place, candidate) in sorted.into_iter().enumerate() {
        let mut kept = Vec::new();
        if place < keep {
            kept.push(Reason::Newest);
        }
        for manifest in published {
            // By name or by UUID: a snapshot may have been made anew or renamed.
            let builds_on = |(version, uuid): &(Version, Uuid)| {
                *version == candidate.version || *uuid == candidate.uuid
            };
            let reason = Reason::ParentOf(manifest.version.clone());
            if manifest.parents.iter().any(builds_on) && !kept.contains(&reason) {
                kept.push(reason);
            }
        }
        if newest.contains(&&candidate.version) {
            kept.push(Reason::NewestPublished);
        }
        decisions.push(Decision {
            version: candidate.version.clone(),
            kept,
        });
    }
    decisions
}

/// The newest version of each directory.
fn newest_published(published: &[Published]) -> Vec<&Version> {
    let of_dir = |dir: &PathBuf| {
        let here = published.iter().filter(|manifest| manifest.dir == *dir);
        here.map(|manifest| &manifest.version).max()
    };
    published
        .iter()
        .filter_map(|manifest| of_dir(&manifest.dir))
        .collect()
}

impl Decision {
    /// Why it stays, in words.
    pub(crate) fn words(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        let mut children: Vec<&str> = Vec::new();
        for reason in &self.kept {
            match reason {
                Reason::Newest => words.push("one of the newest".to_owned()),
                Reason::ParentOf(version) => children.push(version.as_str()),
                Reason::NewestPublished => words.push("the newest that is published".to_owned()),
            }
        }
        if !children.is_empty() {
            words.push(format!(
                "published deltas build on it: {}",
                children.join(", ")
            ));
        }
        words.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuid(of: &str) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..of.len().min(16)].copy_from_slice(&of.as_bytes()[..of.len().min(16)]);
        Uuid(bytes)
    }

    fn candidates(names: &[&str]) -> Vec<Candidate> {
        let candidate = |name: &&str| Candidate {
            version: name.parse().unwrap(),
            uuid: uuid(name),
        };
        names.iter().map(candidate).collect()
    }

    fn published(dir: &str, version: &str, parents: &[&str]) -> Published {
        Published {
            dir: dir.into(),
            version: version.parse().unwrap(),
            parents: parents
                .iter()
                .map(|parent| (parent.parse().unwrap(), uuid(parent)))
                .collect(),
        }
    }

    fn gone(candidates: &[Candidate], published: &[Published], keep: usize) -> Vec<String> {
        decide(candidates, published, keep)
            .into_iter()
            .filter(|decision| decision.kept.is_empty())
            .map(|decision| decision.version.to_string())
            .collect()
    }

    const FIVE: [&str; 5] = ["v1.9.0", "v1.10.0", "v1.8.0", "v2.0.0-rc.1", "v2.0.0"];

    #[test]
    fn the_newest_by_semver_stay() {
        assert_eq!(gone(&candidates(&FIVE), &[], 3), ["v1.9.0", "v1.8.0"]);
        assert_eq!(gone(&candidates(&FIVE), &[], 5), [""; 0]);
        assert_eq!(gone(&candidates(&FIVE), &[], 100), [""; 0]);
        assert_eq!(gone(&[], &[], 3), [""; 0]);
    }

    #[test]
    fn what_a_published_delta_builds_on_stays() {
        let published = [published("a", "v2.0.0", &["v1.8.0"])];
        assert_eq!(
            gone(&candidates(&FIVE), &published, 1),
            ["v2.0.0-rc.1", "v1.10.0", "v1.9.0"]
        );
    }

    #[test]
    fn a_parent_is_known_by_its_uuid_whatever_its_name_is_now() {
        let mut candidates = candidates(&FIVE);
        candidates[2].version = "v0.1.0".parse().unwrap();
        let published = [published("a", "v2.0.0", &["v1.8.0"])];
        assert!(!gone(&candidates, &published, 1).contains(&"v0.1.0".to_owned()));
    }

    #[test]
    fn the_newest_published_of_every_directory_stays() {
        let published = [
            published("stable", "v1.8.0", &[]),
            published("stable", "v1.9.0", &[]),
            published("beta", "v1.10.0", &[]),
        ];
        assert_eq!(
            gone(&candidates(&FIVE), &published, 1),
            ["v2.0.0-rc.1", "v1.8.0"]
        );
    }

    #[test]
    fn every_reason_is_told() {
        let published = [
            published("a", "v2.0.0", &["v1.8.0"]),
            published("b", "v1.8.0", &[]),
        ];
        let decisions = decide(&candidates(&["v1.8.0"]), &published, 1);
        let words = decisions[0].words();
        assert_eq!(
            words,
            "one of the newest; the newest that is published; published deltas build on it: v2.0.0"
        );
    }

    /// Every choice of what is published, over four versions: nothing that is
    /// needed goes, and what stays has a reason.
    #[test]
    fn nothing_that_is_needed_goes() {
        let names = ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"];
        let all = candidates(&names);
        for bits in 0..1_u32 << 6 {
            let edges = [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)];
            let chosen: Vec<_> = edges
                .iter()
                .enumerate()
                .filter(|(index, _)| bits & (1 << index) != 0)
                .map(|(_, &(child, parent))| published("d", names[child], &[names[parent]]))
                .collect();
            for keep in 1..=4 {
                let gone = gone(&all, &chosen, keep);
                assert!(gone.len() <= 4 - keep);
                for manifest in &chosen {
                    for (parent, _) in &manifest.parents {
                        assert!(!gone.contains(&parent.to_string()));
                    }
                }
            }
        }
    }
}
