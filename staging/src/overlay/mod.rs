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
//! | [`find`], [`reset`] | one path, and taking the change at it back |
//! | [`name`] | names of files as text and as JSON |

pub(crate) mod classify;
pub(crate) mod diff;
pub(crate) mod disk;
pub(crate) mod find;
pub(crate) mod lint;
#[cfg(test)]
mod model;
pub(crate) mod name;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod reset;
mod same;
pub(crate) mod walk;

use std::io;
use std::path::Path;

use op_dbus_activator::overlay::beneath;

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

    /// Whether a path is one of them, or below or above one.
    pub(crate) fn reaches(&self, path: &[u8]) -> bool {
        let is_below = |path: &[u8], top: &[u8]| {
            let rest = path.strip_prefix(top);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let mut all = self.0.iter().map(String::as_bytes);
        all.any(|shared| is_below(path, shared) || is_below(shared, path))
    }

    fn holds(&self, path: &[u8]) -> bool {
        self.0.iter().any(|shared| shared.as_bytes() == path)
    }
}

/// A path of a version from what an operator typed: relative to the version's
/// tree, or absolute below the overlay's mount point.
pub(crate) fn relative(typed: &Path, mount_point: &Path) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = typed.strip_prefix(mount_point).unwrap_or(typed);
    // A slash at the end is what a shell's completion leaves.
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
    beneath::is_plain(bytes).then(|| bytes.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_they_are_typed() {
        let point = Path::new("/usr/local/op-dbus");
        for (typed, path) in [
            ("etc/a", Some("etc/a")),
            ("etc/", Some("etc")),
            ("/usr/local/op-dbus/etc/a", Some("etc/a")),
            ("/usr/local/op-dbus", None),
            ("/etc/a", None),
            ("../a", None),
            ("etc/../../a", None),
            ("", None),
        ] {
            let found = relative(Path::new(typed), point);
            assert_eq!(found.as_deref(), path.map(str::as_bytes), "{typed}");
        }
    }

    #[test]
    fn what_a_shared_path_reaches() {
        let shared = Shared::new(&["var/db".to_owned()]);
        for (path, reaches, holds) in [
            ("var/db", true, true),
            ("var/db/x", true, false),
            ("var", true, false),
            ("var/dbx", false, false),
            ("va", false, false),
        ] {
            assert_eq!(shared.reaches(path.as_bytes()), reaches, "{path}");
            assert_eq!(shared.holds(path.as_bytes()), holds, "{path}");
        }
    }
}
