//! Trying a candidate for real: identity, count, mounts.

use std::io;
use std::os::fd::AsFd as _;

use op_dbus_bootstate::record::{self, Outcome};
use op_dbus_bootstate::store::Writer;
use op_dbus_bootstate::{BootId, Deployment, Record, Slot};

use super::Options;
use super::candidates::Candidates;
use crate::choose::{self, Unfit};
use crate::config::{self, Mounts};
use crate::identity::{self, Check};
use crate::mount::{Detached, MountPoint};
use crate::overlay::{self, Begin, Origin, OverlayReport, Own, word};
use crate::records::Records;
use crate::steps::Steps;

/// The medium and the host, as a boot finds them.
pub(super) struct World<'a> {
    pub(super) options: &'a Options,
    pub(super) steps: &'a mut Steps,
    pub(super) writer: &'a mut Writer<Records>,
    pub(super) boot_id: BootId,
    pub(super) store_read_only: bool,
    pub(super) points: Points,
    pub(super) candidates: Candidates,
    pub(super) config: &'a config::Overlay,
    pub(super) degraded: Vec<String>,
    /// What is mounted as overlay, if anything is.
    pub(super) overlay: Option<OverlayReport>,
}

/// The two places a version is mounted on.
pub(super) struct Points {
    lower: MountPoint,
    overlay: MountPoint,
}

impl Points {
    /// Finds both. A missing one is the host's fault and would fail every
    /// version, so this comes before any is counted or blamed.
    pub(super) fn find(options: &Options, mounts: &Mounts) -> Result<Self, String> {
        let sysroot = &options.layout.sysroot;
        let open = |path| {
            MountPoint::open(sysroot, path).map_err(|why| {
                format!(
                    "{}: open the mount point: {why}; make it with: op-dbus-stage prepare",
                    options.layout.host(path).display()
                )
            })
        };
        Ok(Self {
            lower: open(&mounts.lower)?,
            overlay: open(&mounts.overlay)?,
        })
    }

    /// Whether the version is mounted there already: a second run in one boot.
    fn hold(&self, deployment: &Deployment) -> Result<bool, String> {
        let (lower, overlay) = (self.lower.is_occupied(), self.overlay.is_occupied());
        if !lower && !overlay {
            return Ok(false);
        }
        let same = lower
            && overlay
            && op_dbus_btrfs::reopen_dir(self.lower.dir())
                .and_then(op_dbus_btrfs::subvol_info)
                .is_ok_and(|info| info.uuid == deployment.identity.uuid.0);
        if same {
            return Ok(true);
        }
        Err(
            "something else is mounted on the mount points; unmount it, or reboot to activate another version"
                .to_owned(),
        )
    }
}

impl World<'_> {
    fn degrade(&mut self, found: &overlay::Degraded) {
        log::warn!("degraded: {}: {}", found.word, found.why);
        if !self.degraded.iter().any(|word| word == found.word) {
            self.degraded.push(found.word.to_owned());
        }
    }

    fn origin(&self, base: &Record, slot: Slot, deployment: &Deployment) -> Origin {
        Origin::of(base, slot, deployment, self.boot_id, self.config.mode)
    }

    /// What the user wrote over an earlier life of the trial is set aside before
    /// its first try is counted: to the next try, should power go, it would be
    /// what the first one left.
    fn set_aside(&mut self, base: &Record, next: &Record) {
        let (Some(trial), Some(counted)) = (&base.trial, &next.trial) else {
            return;
        };
        let origin = self.origin(base, Slot::Trial, &trial.deployment);
        if origin.own == Own::IsOld && counted.attempts > trial.attempts {
            // Should this fail, it is tried again before the overlay is made.
            if let Err(why) = overlay::set_aside(&self.options.layout, &trial.deployment.version) {
                log::warn!("{why}");
            }
        }
    }

    fn mount(&mut self, base: &Record, slot: Slot, deployment: &Deployment) -> io::Result<()> {
        self.overlay = None;
        let layout = &self.options.layout;
        let version = &deployment.version;
        let path = layout.deployment(version);
        let dir = op_dbus_btrfs::open_dir(&path).map_err(|why| why.source)?;
        let lower = Detached::read_only_clone(&dir)?;
        self.steps.done("lower");

        let usable = if self.store_read_only {
            // Nothing can be made: its own is shown, if there is one.
            Ok(OverlayReport {
                origin: Begin::Own,
                plan: None,
            })
        } else {
            let origin = self.origin(base, slot, deployment);
            overlay::prepare(layout, version, &deployment.digest, &origin)
        };
        self.steps.done("overlay-prepare");
        let (report, unusable) = match usable {
            Ok(report) => (Some(report), None),
            Err(why) => (None, Some(why)),
        };
        let (over, less) =
            overlay::build(layout, version, dir.as_fd(), self.store_read_only, unusable)?;
        if less
            .as_ref()
            .is_none_or(|less| less.word != word::OVERLAY_MISSING)
        {
            self.overlay = report;
        }
        if let Some(less) = less {
            self.degrade(&less);
        }
        self.steps.done("overlay");

        let lower = lower.attach(&self.points.lower)?;
        let over = over.attach(&self.points.overlay)?;
        self.steps.done("attach");
        let missing = over
            .root()
            .and_then(|root| overlay::shared::attach(layout, root, &self.config.shared_paths));
        if let Some(missing) = missing {
            self.degrade(&missing);
        }
        lower.keep();
        over.keep();
        self.steps.done("shared");
        Ok(())
    }
}

impl choose::World for World<'_> {
    fn check(&mut self, _slot: Slot, deployment: &Deployment) -> Result<(), Unfit> {
        if !self.options.dry_run {
            self.points.hold(deployment).map_err(Unfit::Host)?;
        }
        let path = self.options.layout.deployment(&deployment.version);
        let found = match self.candidates.of(deployment) {
            Some(found) => found.clone(),
            None => identity::check(&path, &deployment.identity),
        };
        self.steps.done("identity");
        let (outcome, why) = match found {
            Check::Intact => return Ok(()),
            Check::Missing(why) => (Outcome::Missing, why),
            Check::Altered(why) => (Outcome::Altered, why),
            // The medium no longer gives this subvolume away; others it may.
            Check::Unreadable(why) => (Outcome::ActivationFailed, why),
        };
        log::error!("{} not activated: {why}", deployment.version);
        Err(Unfit::Candidate(outcome, why))
    }

    fn commit(&mut self, base: &Record, next: Record) -> Result<Record, String> {
        if self.options.dry_run {
            return Ok(next);
        }
        self.set_aside(base, &next);
        let written = self.writer.commit(Some(base), next);
        self.steps.done("count");
        let written = written.map_err(|why| why.to_string())?;
        if let Some(last) = &written.last_boot {
            announce(&written, last);
        }
        Ok(written)
    }

    fn activate(
        &mut self,
        base: &Record,
        slot: Slot,
        deployment: &Deployment,
    ) -> Result<(), Unfit> {
        if self.options.dry_run || self.points.hold(deployment).map_err(Unfit::Host)? {
            return Ok(());
        }
        self.mount(base, slot, deployment)
            .map_err(|why| blame(deployment, &why))
    }
}

/// Says what was counted.
fn announce(record: &Record, last: &record::LastBoot) {
    let record::Choice::Deployment { slot, digest } = last.choice else {
        return;
    };
    let version = record
        .deployments()
        .find(|(_, deployment)| deployment.digest == digest)
        .map(|(_, deployment)| deployment.version.clone());
    let (Some(version), unblessed) = (version, record.good_unblessed) else {
        return;
    };
    match (slot, &record.trial) {
        (Slot::Trial, Some(trial)) => {
            let left = trial.tries_left;
            log::info!("counted {version} (trial, {left} tries left)");
        }
        (Slot::Fallback, _) => log::info!(
            "counted {version} (fallback, unblessed boot {})",
            record.fallback_unblessed
        ),
        _ => log::info!("counted {version} (good, unblessed boot {unblessed})"),
    }
}

/// Who is to blame for a mount that failed. Only what the kernel refuses to this
/// program as a whole is the host's: every candidate would meet it. Whatever else
/// it is, the next candidate may do, and a device without its service is worse
/// than a version wrongly held back.
fn blame(deployment: &Deployment, why: &io::Error) -> Unfit {
    let of_host = [
        libc::EPERM,
        libc::EACCES,
        libc::ENOSYS,
        libc::ENOMEM,
        libc::EMFILE,
        libc::ENFILE,
    ];
    let text = format!("{}: mount: {why}", deployment.version);
    match why.raw_os_error() {
        Some(error) if of_host.contains(&error) => Unfit::Host(text),
        _ => Unfit::Candidate(Outcome::ActivationFailed, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::deployment;

    #[test]
    fn only_what_every_version_would_meet_is_held_against_the_host() {
        let deployment = deployment(1);
        let by = |error| blame(&deployment, &io::Error::from_raw_os_error(error));
        for error in [
            libc::EIO,
            libc::EINVAL,
            libc::ENOENT,
            libc::ELOOP,
            libc::EUCLEAN,
        ] {
            assert!(matches!(
                by(error),
                Unfit::Candidate(Outcome::ActivationFailed, _)
            ));
        }
        for error in [libc::EPERM, libc::ENOSYS, libc::ENOMEM] {
            assert!(matches!(by(error), Unfit::Host(_)));
        }
    }
}
