//! What a user changed over a version, and how it gets along with another one
//! (docs/OVERLAYS.md).
//!
//! | Module | Does |
//! |---|---|
//! | [`classify`] | from three entries of a path: what was changed, what clashes; pure |
//! | [`policy`] | `[lint]`: who wins where |
//! | [`walk`] | goes through an overlay, within bounds |
//! | [`disk`], [`same`] | the layers as they are on disk, and whether two have the same |
//! | [`diff`] | lists changes |
//! | [`lint`] | lists conflicts, and what is to be done about each |
//! | [`plan`] | from conflicts to what the next boot is told |
//! | [`name`] | names of files as text and as JSON |

pub(crate) mod classify;
pub(crate) mod diff;
mod disk;
pub(crate) mod lint;
#[cfg(test)]
mod model;
pub(crate) mod name;
pub(crate) mod plan;
pub(crate) mod policy;
mod same;
pub(crate) mod walk;

use std::io;

/// Paths that could not be looked at and are told of one by one.
const UNSEEN_MAX: usize = 16;

/// What could not be looked at.
#[derive(Debug, Default)]
pub(crate) struct Unseen {
    /// The first ones: where, and why.
    pub(crate) some: Vec<(Vec<u8>, String)>,
    /// How many there are.
    pub(crate) count: u64,
}

impl Unseen {
    fn add(&mut self, path: &[u8], why: &io::Error) {
        self.count += 1;
        if self.some.len() < UNSEEN_MAX {
            self.some.push((path.to_owned(), why.to_string()));
        }
    }
}

/// Paths of a version that its overlay does not hold, because they are shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Vec<String>);

impl Shared {
    /// Those of a configuration.
    pub(crate) fn new(paths: &[String]) -> Self {
        Self(paths.to_vec())
    }

    fn holds(&self, path: &[u8]) -> bool {
        self.0.iter().any(|shared| shared.as_bytes() == path)
    }
}
