//! What an act may find on the medium before it begins.

use op_dbus_bootstate::codec::{self, Block};
use op_dbus_bootstate::record::{Choice, LastBoot, Origin, Reason, Trial};
use op_dbus_bootstate::{Record, Slot};

use crate::acts::running;
use crate::common::deployment;
use crate::disk::Disk;

/// The files, and what the newer copy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    files: Files,
    /// A trial runs; without one, a stage has something to write.
    trial: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
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

impl Files {
    const ALL: [Self; 7] = [
        Self::Intact,
        Self::ZeroNewer,
        Self::OneNewer,
        Self::ZeroLost,
        Self::OneLost,
        Self::BothLost,
        Self::AllLost,
    ];

    fn holding(self, old: &Block, new: &Block, kept: &Block) -> Disk {
        match self {
            Self::Intact => Disk::holding(Some(new), Some(new), Some(kept)),
            Self::ZeroNewer => Disk::holding(Some(new), Some(old), Some(kept)),
            Self::OneNewer => Disk::holding(Some(old), Some(new), Some(kept)),
            Self::ZeroLost => Disk::holding(None, Some(new), Some(kept)),
            Self::OneLost => Disk::holding(Some(new), None, Some(kept)),
            Self::BothLost => Disk::holding(None, None, Some(kept)),
            Self::AllLost => Disk::default(),
        }
    }
}

impl Start {
    pub fn all() -> impl Iterator<Item = Self> {
        let with = |trial| move |files| Self { files, trial };
        let without = Files::ALL.into_iter().filter(|&files| {
            // The same as with a trial: no copy is left to name one.
            !matches!(files, Files::BothLost | Files::AllLost)
        });
        Files::ALL
            .into_iter()
            .map(with(true))
            .chain(without.map(with(false)))
    }

    /// Whether a stage is not refused: nothing that has run is on trial.
    pub fn takes_a_stage(self) -> bool {
        !self.trial || matches!(self.files, Files::BothLost | Files::AllLost)
    }

    pub fn disk(self) -> Disk {
        let block = |record: &Record| -> Block { codec::encode(record).unwrap() };
        let (old, new) = if self.trial {
            (older(), newer())
        } else {
            (settled(6), settled(7))
        };
        self.files
            .holding(&block(&old), &block(&new), &block(&blessed()))
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

/// Nothing is on trial; good has been started so often without a verdict.
fn settled(sequence: u64) -> Record {
    Record {
        sequence,
        good_unblessed: u8::try_from(sequence - 5).unwrap(),
        ..blessed()
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
