//! What a user changed over a version.

use std::io;
use std::path::Path;

use super::classify::{Change, Kind, Upper};
use super::disk::Disk;
use super::walk::{Look, Seen, Visitor, walk};
use super::{Shared, Unseen};

/// Changes that are listed; more are only counted.
pub(crate) const CHANGES_MAX: usize = 10_000;

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Where, relative to the version's tree.
    pub(crate) path: Vec<u8>,
    /// Which.
    pub(crate) change: Change,
    /// What the version has there.
    pub(crate) old: Look,
    /// What the overlay has there.
    pub(crate) mine: Look,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The changes, in the order of their paths.
    pub(crate) list: Vec<Changed>,
    /// Changes beyond [`CHANGES_MAX`].
    pub(crate) more: u64,
    /// Copies of the version's own files that nobody changed.
    pub(crate) copies: u64,
    /// What could not be looked at.
    pub(crate) unseen: Unseen,
    /// Entries of the overlay that were looked at.
    pub(crate) entries: u64,
}

impl Changes {
    /// How many changes there are.
    pub(crate) fn count(&self) -> u64 {
        self.more + self.list.len() as u64
    }
}

struct Lister<'l> {
    shared: &'l Shared,
    found: Changes,
}

impl Visitor for Lister<'_> {
    fn entry(&mut self, path: &[u8], seen: &Seen) -> bool {
        let is_directory = match &seen.trio.upper {
            Upper::Whiteout => false,
            Upper::Opaque(mine) | Upper::Plain(mine) => mine.kind == Kind::Directory,
        };
        match seen.trio.change() {
            None => self.found.copies += u64::from(!is_directory),
            Some(_) if self.found.list.len() >= CHANGES_MAX => self.found.more += 1,
            Some(change) => {
                let [old, mine, _] = seen.looks;
                self.found.list.push(Changed {
                    path: path.to_owned(),
                    change,
                    old,
                    mine,
                });
            }
        }
        is_directory
    }

    fn leaves_out(&self, path: &[u8]) -> bool {
        self.shared.holds(path)
    }

    fn failed(&mut self, path: &[u8], why: io::Error) {
        self.found.unseen.add(path, &why);
    }
}

/// Lists what an upper layer changes of the tree beneath it.
pub(crate) fn on_disk(upper: &Path, old: &Path, shared: &Shared) -> io::Result<Changes> {
    let (mut disk, root) = Disk::open(upper, old, None)?;
    let mut lister = Lister {
        shared,
        found: Changes::default(),
    };
    let entries = walk(&mut disk, &root, &mut lister);
    Ok(Changes {
        entries,
        ..lister.found
    })
}
