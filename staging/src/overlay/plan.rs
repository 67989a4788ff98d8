//! From conflicts to what the next boot is told.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use op_dbus_activator::files::{self, Durable};
use op_dbus_activator::layout::Layout;
use op_dbus_activator::overlay::entry;
use op_dbus_activator::overlay::plan::{Entry, MAX_LEN, Plan};
use op_dbus_bootstate::{Digest, Version};

use super::classify::Verdict;
use super::lint::Findings;

/// Content that is read for all digests of a plan, in bytes: what a boot reads
/// to carry it out.
pub(crate) const CONTENT_MAX: u64 = 64 << 20;
/// What an entry takes besides its path, at most, in bytes: action, digest, and
/// the length of the path.
const ENTRY_LEN: usize = 1 + 32 + 2;
/// What a plan takes besides its entries, at most, in bytes.
const FRAME_LEN: usize = 128;

/// A plan, and what could not be planned.
#[derive(Debug, Default)]
pub(crate) struct Drafted {
    /// What to do; in the order of the conflicts.
    pub(crate) entries: Vec<Entry>,
    /// Conflicts, by their place in the list, where the user's stays because it
    /// can't be planned otherwise, and why.
    pub(crate) kept: Vec<(usize, String)>,
}

/// Plans what the conflicts' verdicts ask for. Each entry is bound to what the
/// overlay has there now.
pub(crate) fn draft(upper: impl AsFd, findings: &Findings) -> Drafted {
    let mut drafted = Drafted {
        entries: Vec::new(),
        kept: Vec::new(),
    };
    let (mut budget, mut length) = (CONTENT_MAX, FRAME_LEN);
    for (index, finding) in findings.list.iter().enumerate() {
        let (Verdict::Take(action) | Verdict::Keep(Some(action))) = finding.verdict else {
            continue;
        };
        length += finding.path.len() + ENTRY_LEN;
        let digest = if length > MAX_LEN {
            Err(io::Error::other("the plan has no room for it"))
        } else {
            entry::digest_within(upper.as_fd(), &finding.path, &mut budget)
        };
        match digest {
            Ok(expected) => drafted.entries.push(Entry {
                path: finding.path.clone(),
                action,
                expected,
            }),
            Err(why) => drafted.kept.push((index, why.to_string())),
        }
    }
    drafted
}

/// Writes the plan of a version; without entries there is to be none. Durable
/// when this returns. Whether there is one now.
pub(crate) fn write(
    layout: &Layout,
    version: &Version,
    onto: Digest,
    over: Digest,
    entries: Vec<Entry>,
) -> io::Result<bool> {
    if entries.is_empty() {
        remove(layout, version)?;
        return Ok(false);
    }
    let plan = Plan {
        onto,
        over,
        entries,
    };
    let bytes = plan.encode().map_err(io::Error::other)?;
    make_dir(&layout.plans_dir())?;
    files::replace(&layout.plan(version), &bytes, 0o600, Durable::Yes)?;
    // The directory may be new, and a rename is only durable with it.
    op_dbus_btrfs::sync_filesystem(&layout.store).map_err(|why| why.source)?;
    Ok(true)
}

fn make_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => Err(why),
        _ => Ok(()),
    }
}

/// Removes the plan of a version, if there is one. Durable when this returns.
pub(crate) fn remove(layout: &Layout, version: &Version) -> io::Result<()> {
    match std::fs::remove_file(layout.plan(version)) {
        Ok(()) => op_dbus_btrfs::sync_filesystem(&layout.store).map_err(|why| why.source),
        // Where there is no directory of plans there is none.
        Err(why)
            if matches!(
                why.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(())
        }
        Err(why) => Err(why),
    }
}
