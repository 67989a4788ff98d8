//! What deleting versions would free, as far as Btrfs tells without quotas: the
//! data of their files that nothing else refers to (FIEMAP's "shared" flag).
//!
//! Of one version it is the least that is freed if it alone goes: a file's copies
//! within it (reflinks), metadata and files so small that they lie in metadata come
//! on top. What several share that go together is found by place: what lies where
//! nothing that stays has anything. Compressed data counts as it is read, and what
//! somebody shares from outside the store counts as freed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use op_dbus_activator::files::open_flags;
use rustix::fs::OFlags;

/// How long all versions together may take to measure. A version of a few
/// thousand files takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one tree has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Weight {
    /// Bytes that nothing else refers to.
    own: u64,
    /// Begin and end of what something else refers to as well, within it or not.
    shared: BTreeSet<(u64, u64)>,
}

/// Measures within bounded time. Nobody is kept waiting meanwhile: it needs no lock.
#[derive(Debug)]
pub(super) struct Scale {
    give_up: Instant,
    known: RefCell<BTreeMap<PathBuf, Option<Weight>>>,
}

impl Scale {
    /// Begins now.
    pub(super) fn new() -> Self {
        Self {
            give_up: Instant::now() + PATIENCE,
            known: RefCell::default(),
        }
    }

    /// Bytes of these trees that nothing else refers to. None: it would take too
    /// long, or something changed meanwhile; a number in doubt is left out.
    pub(super) fn weigh<'p>(&self, trees: impl IntoIterator<Item = &'p PathBuf>) -> Option<u64> {
        let weigh = |sum: u64, tree: &PathBuf| Some(sum.saturating_add(self.weight(tree)?.own));
        trees.into_iter().try_fold(0, weigh)
    }

    /// Bytes that go when all these trees go, and those stay.
    pub(super) fn together(&self, going: &[PathBuf], staying: &[PathBuf]) -> Option<u64> {
        let mut needed = BTreeSet::new();
        for tree in staying {
            needed.extend(self.weight(tree)?.shared);
        }
        let needed = merged(needed);
        let (mut sum, mut shared) = (0_u64, BTreeSet::new());
        for tree in going {
            let weight = self.weight(tree)?;
            sum = sum.saturating_add(weight.own);
            shared.extend(weight.shared);
        }
        let freed = shared.into_iter().filter(|part| !touches(&needed, *part));
        Some(freed.fold(sum, |sum, (start, end)| sum.saturating_add(end - start)))
    }

    fn weight(&self, tree: &Path) -> Option<Weight> {
        let mut known = self.known.borrow_mut();
        let weight = known
            .entry(tree.to_owned())
            .or_insert_with(|| self.measure(tree).ok());
        weight.clone()
    }

    fn measure(&self, root: &Path) -> io::Result<Weight> {
        let mut weight = Weight::default();
        // A plan, or a file that was being written: too small to lie in an extent.
        if !root.symlink_metadata()?.is_dir() {
            return Ok(weight);
        }
        let mut dirs = vec![root.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir)? {
                if Instant::now() >= self.give_up {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    dirs.push(entry.path());
                } else if kind.is_file() {
                    weight.add(&entry.path())?;
                }
            }
        }
        Ok(weight)
    }
}

impl Weight {
    fn add(&mut self, path: &Path) -> io::Result<()> {
        let file = File::options()
            .read(true)
            .custom_flags(open_flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(path)?;
        for extent in op_dbus_btrfs::extents(&file)? {
            let end = extent.start.saturating_add(extent.length);
            if extent.shared {
                self.shared.insert((extent.start, end));
            } else {
                self.own = self.own.saturating_add(extent.length);
            }
        }
        Ok(())
    }
}

/// The same places, each once: by their begin, where they end.
fn merged(parts: BTreeSet<(u64, u64)>) -> BTreeMap<u64, u64> {
    let mut merged = BTreeMap::new();
    let mut last: Option<(u64, u64)> = None;
    for (start, end) in parts {
        last = match last {
            Some((first, before)) if start <= before => Some((first, before.max(end))),
            _ => Some((start, end)),
        };
        merged.extend(last);
    }
    merged
}

/// Whether any of the places has something of a part.
fn touches(merged: &BTreeMap<u64, u64>, (start, end): (u64, u64)) -> bool {
    let before = merged.range(..end).next_back();
    before.is_some_and(|(_, &known)| known > start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_keeps_what_it_touches() {
        let merged = merged(BTreeSet::from([(10, 20), (15, 30), (30, 40), (50, 60)]));
        assert_eq!(merged, BTreeMap::from([(10, 40), (50, 60)]));
        for (part, expected) in [
            ((0, 10), false),
            ((0, 11), true),
            ((35, 38), true),
            ((39, 55), true),
            ((40, 50), false),
            ((59, 99), true),
            ((60, 99), false),
        ] {
            assert_eq!(touches(&merged, part), expected, "{part:?}");
        }
    }

    #[test]
    fn what_several_share_goes_with_the_last_of_them() {
        let scale = Scale::new();
        let [a, b, c] = ["/a", "/b", "/c"].map(PathBuf::from);
        let weight = |own, shared: &[(u64, u64)]| Weight {
            own,
            shared: shared.iter().copied().collect(),
        };
        *scale.known.borrow_mut() = BTreeMap::from([
            (a.clone(), Some(weight(1, &[(100, 200), (300, 400)]))),
            (b.clone(), Some(weight(2, &[(100, 200), (500, 600)]))),
            (c.clone(), Some(weight(4, &[(350, 360)]))),
        ]);
        let together = |going: &[&PathBuf], staying: &[&PathBuf]| {
            let list = |paths: &[&PathBuf]| -> Vec<_> { paths.iter().copied().cloned().collect() };
            scale.together(&list(going), &list(staying))
        };
        assert_eq!(scale.weigh([&a, &b]), Some(3));
        assert_eq!(together(&[&a], &[&b, &c]), Some(1));
        assert_eq!(together(&[&a, &b], &[&c]), Some(203));
        assert_eq!(together(&[&a, &b, &c], &[]), Some(317));
        // One that can't be measured makes it a number in doubt.
        assert_eq!(together(&[&a], &[&PathBuf::from("/nonexistent")]), None);
    }
}
