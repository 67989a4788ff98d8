//! Deleting, in an order that no power cut makes a mess of.
//!
//! A subvolume is deleted by one transaction: after a crash it is there whole, or
//! its name is gone and the kernel goes on freeing it. So the subvolume goes
//! first. What may remain of a version is then its papers and overlay: `stage`
//! refuses a receipt whose subvolume is missing, `receive` takes such a version
//! as new, and the next prune finds the receipt, logs what the killed run could
//! not, and removes the rest. The other order would leave a subvolume that nobody
//! can tell from a stranger's.
//!
//! 1. Subvolumes, then a commit: from here on they are deleted for good.
//! 2. The audit log: by now even a full disk may have room for a line.
//! 3. Papers, then sync.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use op_dbus_activator::reserve::{Reserve, is_full};
use op_dbus_bootstate::Version;
use op_dbus_bootstate::audit::{Event, Kind};
use op_dbus_bootstate::retention::{Condition, Decision};

use super::mounts::Uses;
use super::survey::{Leftover, Survey, is_in_use};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::session::Session;

/// Room a line of the audit log needs, with what Btrfs needs to write it.
const ROOM: u64 = 256 << 10;
/// How long freed space is waited for on a full disk, and how often it is looked
/// for. Less than others wait for the store's lock: a verdict is not to fail for it.
const PATIENCE: Duration = Duration::from_secs(2);
const _: () = assert!(PATIENCE.as_secs() < crate::session::PATIENCE.as_secs());
const POLL: Duration = Duration::from_millis(100);

/// What is to go.
pub(super) struct Plan<'p> {
    /// The versions, in order.
    pub(super) versions: Vec<&'p Decision>,
    /// What belongs to none.
    pub(super) leftovers: Vec<&'p Leftover>,
    /// What there is.
    pub(super) survey: &'p Survey,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Versions that are deleted.
    pub(super) versions: Vec<Version>,
    /// Why not all are: the first failure.
    pub(super) failure: Option<Failure>,
}

impl Plan<'_> {
    /// Carries it out. One version that can't be deleted does not keep the others.
    pub(super) fn run(&self, context: &Context, session: &mut Session<'_>) -> Result<Done> {
        let mut done = Done::default();
        let reserve = Reserve::new(&context.layout);
        let remove = |path: &Path| remove(path, &reserve);
        for leftover in &self.leftovers {
            done.keep_failure(remove(&leftover.path));
        }
        let mut deleted = Vec::new();
        for decision in &self.versions {
            let subvolumes = self.subvolumes(decision);
            let result = subvolumes.iter().try_for_each(|path| remove(path));
            if done.keep_failure(result) {
                deleted.push(*decision);
            }
        }
        // Commits, and wakes the kernel's thread that frees the space.
        op_dbus_btrfs::free_deleted(&context.layout.store)?;
        self.wait_for_room(context);
        if !deleted.is_empty() {
            let events = deleted.iter().map(|one| event(one)).collect();
            session.note(events)?;
        }
        for decision in deleted {
            let version = &decision.candidate.version;
            let papers = self.survey.of(version).papers;
            if done.keep_failure(papers.iter().try_for_each(|path| remove(path))) {
                done.versions.push(version.clone());
            }
        }
        op_dbus_btrfs::sync_filesystem(&context.layout.store)?;
        Ok(done)
    }

    /// The subvolumes that go with a version. What was set aside under a name
    /// that may be another version's stays until that one goes as well.
    fn subvolumes(&self, decision: &Decision) -> Vec<std::path::PathBuf> {
        let held = self.survey.of(&decision.candidate.version);
        let stays = |overlay: &Path| {
            let mut owners = self.survey.owners(overlay);
            owners.any(|owner| {
                let goes = |one: &&Decision| one.candidate.version == *owner;
                !self.versions.iter().any(goes)
            })
        };
        let overlays = held.overlays.into_iter().filter(|path| !stays(path));
        held.deployment.into_iter().chain(overlays).collect()
    }

    /// On a full disk: waits, within bounds, until there is room for the log. The
    /// kernel frees deleted subvolumes in the background.
    fn wait_for_room(&self, context: &Context) {
        let available = || {
            rustix::fs::statvfs(&context.layout.store).map_or(u64::MAX, |found| {
                found.f_bavail.saturating_mul(found.f_frsize)
            })
        };
        let give_up = Instant::now() + PATIENCE;
        while !self.versions.is_empty() && available() < ROOM && Instant::now() < give_up {
            thread::sleep(POLL);
            // Freed space can be used after a commit. Without this one it comes
            // later, and the log's line may be lost.
            let _ = op_dbus_btrfs::free_deleted(&context.layout.store);
        }
    }
}

impl Done {
    /// Keeps the first failure; whether there was none.
    fn keep_failure(&mut self, result: Result<()>) -> bool {
        match result {
            Ok(()) => true,
            Err(failure) => {
                self.failure.get_or_insert(failure);
                false
            }
        }
    }
}

fn event(decision: &Decision) -> Event {
    let detail = match (decision.candidate.condition, decision.quarantined) {
        (Condition::Remains, _) => "what was left of it; its subvolume was gone before",
        (Condition::Unusable, _) => "it was not what was published any more",
        (_, true) => "it was quarantined",
        _ => "",
    };
    Event {
        version: Some(decision.candidate.version.clone()),
        digest: decision.candidate.digest,
        ..Event::general(Kind::Pruned, detail)
    }
}

/// Removes a subvolume or a file. What is gone already is fine: an overlay may be
/// two versions'.
fn remove(path: &Path, reserve: &Reserve) -> Result<()> {
    let is_dir = match path.symlink_metadata() {
        Ok(found) => found.is_dir(),
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => {
            return Err(Failure::io(
                format_args!("{}: look at", path.display()),
                why,
            ));
        }
    };
    let remove = || {
        if is_dir {
            op_dbus_btrfs::delete_subvolume(path).map_err(|why| why.source)
        } else {
            fs::remove_file(path)
        }
    };
    // Without room for metadata each deletion borrows from what Btrfs keeps for
    // that, and after some of them nothing is left of it until the next commit
    // (measured). If that does not help, the reserve is there.
    let committed = || match remove() {
        Err(why) if is_full(&why) => {
            let dir = path.parent().unwrap_or(path);
            op_dbus_btrfs::sync_filesystem(dir).map_err(|why| why.source)?;
            remove()
        }
        done => done,
    };
    reserve
        .spend(committed)
        .map_err(|why| Failure::io(format_args!("{}: remove", path.display()), why))
}

/// The leftovers that nothing has mounted.
pub(super) fn unused<'s>(survey: &'s Survey, uses: &Uses) -> Result<Vec<&'s Leftover>> {
    let mut found = Vec::new();
    for leftover in &survey.leftovers {
        if !is_in_use(&leftover.path, uses)? {
            found.push(leftover);
        }
    }
    Ok(found)
}
