//! Going through an overlay: every entry of the upper layer once, a directory
//! before what is in it, siblings in the order of their names.
//!
//! Whoever runs in the device may have filled the layer. Memory is the names on
//! the way down, and those are bounded; what is beyond a bound is told of, and
//! the walk goes on where it can.

use std::io;

use super::classify::{Kind, Owner, Trio};

/// Entries of one overlay that are looked at.
pub(crate) const ENTRIES_MAX: u64 = 1 << 20;
/// Names on the way down, in bytes.
pub(crate) const NAMES_MAX: usize = 64 << 20;
/// Deepest nesting of directories: each level keeps three descriptors open.
pub(crate) const DEPTH_MAX: usize = 128;

/// What people are told of an entry; it decides nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// What it is; none if there is nothing, or a mark that it was removed.
    pub(crate) kind: Option<Kind>,
    /// Size in bytes, of a file.
    pub(crate) size: Option<u64>,
    /// Whose it is.
    pub(crate) owner: Option<Owner>,
    /// When its content was changed last, in seconds since 1970.
    pub(crate) modified: i64,
}

/// What the layers have at one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What counts of it.
    pub(crate) trio: Trio,
    /// What people are told, in the order of the layers: old, upper, new.
    pub(crate) looks: [Look; 3],
}

/// The names of a directory.
pub(crate) struct Names {
    /// Sorted.
    pub(crate) names: Vec<Box<[u8]>>,
    /// Whether there are more than were wanted.
    pub(crate) is_cut: bool,
}

/// Layers that can be gone through.
pub(crate) trait Layers {
    /// A directory of the upper layer, and what is beneath it.
    type Dir;

    /// The names in the upper layer's directory; at most so many, of at most so
    /// many bytes.
    fn names(&mut self, dir: &Self::Dir, most: u64, bytes: usize) -> io::Result<Names>;

    /// What is at a name. `None`: nothing any more.
    fn look(&mut self, dir: &Self::Dir, name: &[u8]) -> io::Result<Option<Seen>>;

    /// A directory in a directory. `None`: it is not there any more.
    fn enter(&mut self, dir: &Self::Dir, name: &[u8]) -> io::Result<Option<Self::Dir>>;
}

/// Who is told what the walk comes across.
pub(crate) trait Visitor {
    /// An entry; whether what is below it matters, if it is a directory.
    fn entry(&mut self, path: &[u8], seen: &Seen) -> bool;

    /// Whether a path, with all below it, is left out.
    fn leaves_out(&self, path: &[u8]) -> bool;

    /// What could not be looked at, and why.
    fn failed(&mut self, path: &[u8], why: io::Error);
}

struct Walk<'w, L: Layers, V: Visitor> {
    layers: &'w mut L,
    visitor: &'w mut V,
    path: Vec<u8>,
    entries: u64,
    bytes: usize,
}

/// Goes through all of it. Returns how many entries were looked at.
pub(crate) fn walk<L: Layers>(layers: &mut L, root: &L::Dir, visitor: &mut impl Visitor) -> u64 {
    let mut walk = Walk {
        layers,
        visitor,
        path: Vec::new(),
        entries: 0,
        bytes: 0,
    };
    walk.directory(root, 0);
    walk.entries
}

impl<L: Layers, V: Visitor> Walk<'_, L, V> {
    fn failed(&mut self, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) {
        self.visitor.failed(&self.path, io::Error::other(why));
    }

    fn directory(&mut self, dir: &L::Dir, depth: usize) {
        if depth > DEPTH_MAX {
            return self.failed(format!(
                "is nested more than {DEPTH_MAX} directories deep; what is below was not looked at"
            ));
        }
        let (most, room) = (ENTRIES_MAX - self.entries, NAMES_MAX - self.bytes);
        let found = match self.layers.names(dir, most, room) {
            Ok(found) => found,
            Err(why) => return self.visitor.failed(&self.path, why),
        };
        if found.is_cut {
            self.failed(format!(
                "the overlay has more than {ENTRIES_MAX} entries or {} MiB of names; not all were looked at",
                NAMES_MAX >> 20
            ));
        }
        // Of what is below, too: a name was counted when it was read.
        self.entries += found.names.len() as u64;
        let bytes: usize = found.names.iter().map(|name| name.len()).sum();
        self.bytes += bytes;
        let length = self.path.len();
        for name in &found.names {
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            self.entry(dir, name, depth);
            self.path.truncate(length);
        }
        self.bytes -= bytes;
    }

    fn entry(&mut self, dir: &L::Dir, name: &[u8], depth: usize) {
        if self.visitor.leaves_out(&self.path) {
            return;
        }
        match self.layers.look(dir, name) {
            Ok(Some(seen)) if self.visitor.entry(&self.path, &seen) => {}
            Ok(_) => return,
            Err(why) => return self.visitor.failed(&self.path, why),
        }
        match self.layers.enter(dir, name) {
            Ok(Some(below)) => self.directory(&below, depth + 1),
            Ok(None) => {}
            Err(why) => self.visitor.failed(&self.path, why),
        }
    }
}
