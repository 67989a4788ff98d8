//! A file system that one receiver fills, held against another's.
//!
//! `btrfs receive` does not always make what was sent ([`FAULTS`]). Where it does
//! not, ours may do as it does or do it right; nothing else.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use op_dbus_btrfs::info_of;
use op_dbus_loopback::Volume;
use op_dbus_sendstream::StreamError;

use crate::chain::Setup;
use crate::compare::{self, Depth, Difference, report};
use crate::extents::{Extents, Sharing};
use crate::lab::Lab;
use crate::look;
use crate::receiver::Receiver;

/// What `btrfs receive` is known to get wrong, and the facts it shows in. Files
/// come into being under temporary names in the root, which moves the root's
/// times after they have been set; and if the root has a default ACL, they
/// inherit it, and nothing in the stream takes it away.
const FAULTS: [(&str, &str); 3] = [
    ("time of receiving left", "mtime"),
    ("access ACL inherited", "xattr system.posix_acl_access"),
    ("default ACL inherited", "xattr system.posix_acl_default"),
];

/// A known fault, with how it shows: left what was made, right what was sent.
pub(crate) type Fault = (&'static str, Difference);

/// A file system that one receiver fills.
pub(crate) struct Target {
    volume: Volume,
    pub(crate) receiver: Receiver,
    /// Of the version received last.
    extents: Extents,
    sharing: Sharing,
    /// When the last one was received, since 1970.
    received: [Duration; 2],
}

/// Removes everything that was received.
pub(crate) fn clear(targets: &[Target]) {
    for target in targets {
        for name in look::names(target.volume.top()) {
            target.remove(&name.to_string_lossy());
        }
        // The sooner the space of large ones is free, the better.
        op_dbus_btrfs::free_deleted(target.volume.top()).unwrap();
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

impl Target {
    pub(crate) fn new(lab: &Lab, setup: Setup, receiver: Receiver) -> Self {
        let name = receiver.name().replace(' ', "-");
        Self {
            volume: lab.volume(&name, setup.mib, setup.target),
            receiver,
            extents: Extents::default(),
            sharing: Sharing::default(),
            received: [Duration::ZERO; 2],
        }
    }

    pub(crate) fn remove(&self, name: &str) {
        op_dbus_btrfs::delete_subvolume(&self.volume.path(name)).unwrap();
    }

    /// Receives a version on top of another one.
    pub(crate) fn receive(
        &mut self,
        stream: &Path,
        name: &str,
        base: Option<&str>,
    ) -> Result<(), StreamError> {
        let begun = now();
        let area = self.volume.top();
        let base = base.map(|base| self.volume.path(base));
        self.receiver.receive(stream, area, name, base.as_deref())?;
        self.volume.sync();
        self.received = [begun, now()];
        let base = base.map(|base| Extents::of(&base));
        self.extents = Extents::of(&self.volume.path(name));
        self.sharing = self.extents.measure(base.as_ref());
        Ok(())
    }

    pub(crate) fn took(&self) -> Duration {
        self.received[1].saturating_sub(self.received[0])
    }

    /// What this one did not make as it was sent; panics unless all of it is known.
    pub(crate) fn faults(&self, title: &str, name: &str, sent: &Path) -> Vec<Fault> {
        let found = compare::trees(&self.volume.path(name), sent, Depth::Sent);
        let known = |difference: Difference| {
            let fault = FAULTS.iter().find(|(_, fact)| difference.fact == *fact);
            let holds = |what: &str| match what {
                "time of receiving left" => self.of_receiving(&difference.values[0]),
                _ => difference.values[1] == "none",
            };
            match fault.filter(|(what, _)| holds(what)) {
                Some((what, _)) => Ok((*what, difference)),
                None => Err(difference),
            }
        };
        let (faults, unknown): (Vec<_>, Vec<_>) =
            found.into_iter().map(known).partition(Result::is_ok);
        let unknown: Vec<_> = unknown.into_iter().filter_map(Result::err).collect();
        assert!(
            unknown.is_empty(),
            "{title}: {} differs from what was sent:{}",
            self.receiver.name(),
            report(&unknown)
        );
        faults.into_iter().filter_map(Result::ok).collect()
    }

    /// Whether a time, as [`look`] writes it, lies within the last receiving.
    fn of_receiving(&self, time: &str) -> bool {
        // The clock of files is some milliseconds behind.
        let from = self.received[0].saturating_sub(Duration::from_millis(20));
        let time = time.parse::<f64>().unwrap_or_default();
        (from.as_secs_f64()..=self.received[1].as_secs_f64()).contains(&time)
    }

    /// Every difference to the reference that its own faults do not excuse.
    pub(crate) fn differences(
        &self,
        reference: &Self,
        name: &str,
        faults: &[Fault],
    ) -> Vec<Difference> {
        let paths = [self, reference].map(|target| target.volume.path(name));
        let mut found = compare::trees(&paths[0], &paths[1], Depth::All);
        found.retain(|difference| {
            let same = |other: &Difference| {
                (&other.path, &other.fact) == (&difference.path, &difference.fact)
            };
            let Some((what, fault)) = faults.iter().find(|(_, fault)| same(fault)) else {
                return true;
            };
            let right = fault.values[1] == difference.values[0];
            let alike =
                *what == "time of receiving left" && self.of_receiving(&difference.values[0]);
            !right && !alike
        });
        let infos = [&paths[0], &paths[1]].map(|path| info_of(path).unwrap());
        found.extend(compare::subvolumes(&infos[0], &infos[1]));
        found.extend(self.sharing.differences(&reference.sharing));
        found
    }
}
