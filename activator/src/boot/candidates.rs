//! The candidates, looked at before anything is written.
//!
//! After a write that failed, Btrfs may no longer find what it has not looked up
//! yet: its tree of subvolumes was changed in memory, and the blocks of that
//! change are nowhere on the disk (seen on 6.1: opening good's directory was an
//! I/O error, and the boot ended in rescue). What is held open stays to be had.

use std::os::fd::OwnedFd;

use op_dbus_bootstate::{Deployment, Record};

use crate::identity::{self, Check};
use crate::layout::Layout;

/// What was found of each version that the record names.
pub(super) struct Candidates(Vec<Candidate>);

struct Candidate {
    deployment: Deployment,
    found: Check,
    /// Keeps the kernel's memory of the directory.
    _held: Option<OwnedFd>,
}

impl Candidates {
    /// Looks at all of them.
    pub(super) fn look(layout: &Layout, record: &Record) -> Self {
        let look = |deployment: &Deployment| {
            let path = layout.deployment(&deployment.version);
            Candidate {
                deployment: deployment.clone(),
                found: identity::check(&path, &deployment.identity),
                _held: op_dbus_btrfs::open_dir(&path).ok(),
            }
        };
        Self(record.deployments().map(|(_, known)| look(known)).collect())
    }

    /// What was found of one, unless the record does not name it.
    pub(super) fn of(&self, deployment: &Deployment) -> Option<&Check> {
        let known = self.0.iter().find(|known| known.deployment == *deployment);
        known.map(|known| &known.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::deployment;
    use std::fs;
    use std::path::Path;

    fn is_open(path: &Path) -> bool {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .any(|target| target == path)
    }

    #[test]
    fn what_was_looked_at_stays_open() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().canonicalize().unwrap();
        let mut layout = Layout::new("/run", "/");
        layout.store = store;
        let good = deployment(1);
        let path = layout.deployment(&good.version);
        fs::create_dir_all(&path).unwrap();
        let record = Record {
            good: Some(good.clone()),
            ..Record::default()
        };
        let candidates = Candidates::look(&layout, &record);
        assert!(candidates.of(&good).is_some());
        assert!(is_open(&path));
        drop(candidates);
        assert!(!is_open(&path));
    }
}
