//! What an act may find on the medium before it begins.

use op_dbus_bootstate::codec::{self, Block};
use op_dbus_bootstate::record::{Choice, LastBoot, Origin, Reason, Trial};
use op_dbus_bootstate::{Record, Slot};

use crate::acts::running;
use crate::common::deployment;
use crate::disk::Disk;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Intact,
    /// Power went between two writes.
    ZeroNewer,
    OneNewer,
    ZeroLost,
    OneLost,
    /// `record.blessed` is all there is.
    BothLost,
    AllLost,
}

impl Start {
    pub const ALL: [Self; 7] = [
        Self::Intact,
        Self::ZeroNewer,
        Self::OneNewer,
        Self::ZeroLost,
        Self::OneLost,
        Self::BothLost,
        Self::AllLost,
    ];

    pub fn disk(self) -> Disk {
        let block = |record: &Record| -> Block { codec::encode(record).unwrap() };
        let (old, new, kept) = (block(&older()), block(&newer()), block(&blessed()));
        match self {
            Self::Intact => Disk::holding(Some(&new), Some(&new), Some(&kept)),
            Self::ZeroNewer => Disk::holding(Some(&new), Some(&old), Some(&kept)),
            Self::OneNewer => Disk::holding(Some(&old), Some(&new), Some(&kept)),
            Self::ZeroLost => Disk::holding(None, Some(&new), Some(&kept)),
            Self::OneLost => Disk::holding(Some(&new), None, Some(&kept)),
            Self::BothLost => Disk::holding(None, None, Some(&kept)),
            Self::AllLost => Disk::default(),
        }
    }
}

/// The record of the last bless.
fn blessed() -> Record {
    Record {
        sequence: 3,
        good: Some(deployment(1)),
        fallback: Some(deployment(0)),
        ..Record::default()
    }
}

/// Version 2 is on trial.
fn older() -> Record {
    Record {
        sequence: 6,
        trial: Some(Trial {
            deployment: deployment(2),
            tries_left: 3,
            refunds_left: 3,
            attempts: 0,
            origin: Origin::Stage,
        }),
        ..blessed()
    }
}

/// And runs.
fn newer() -> Record {
    let running = running();
    let mut next = Record {
        sequence: 7,
        last_boot: Some(LastBoot {
            boot_id: running.boot_id,
            choice: Choice::Deployment {
                slot: Slot::Trial,
                digest: running.digest,
            },
            reason: Reason::TrialDue,
            after_rescue: false,
            refunded: false,
            verdict: None,
        }),
        ..older()
    };
    if let Some(trial) = &mut next.trial {
        trial.tries_left = 2;
        trial.attempts = 1;
    }
    next
}
