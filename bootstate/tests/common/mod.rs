//! Shared by the integration tests: sample data and a medium that can fail.

// Each test program uses its own part.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod programs;

use op_dbus_bootstate::codec::Block;
use op_dbus_bootstate::ident::{BootId, Digest, Identity, Uuid};
use op_dbus_bootstate::record::{Deployment, Limits, Record};
use op_dbus_bootstate::store::{Copy, Storage};

pub const LIMITS: Limits = Limits {
    tries: 3,
    refunds: 3,
    good_boots: 5,
};

/// Version `v1.<n>.0`, with a digest of `n`s.
pub fn deployment(n: u8) -> Deployment {
    Deployment {
        version: format!("v1.{n}.0").parse().unwrap(),
        digest: Digest([n; 32]),
        identity: Identity {
            uuid: Uuid([n; 16]),
            received_uuid: Uuid([n ^ 0xff; 16]),
            ctransid: 100 + u64::from(n),
            rtransid: 90 + u64::from(n),
        },
        epoch: 0,
    }
}

pub fn boot(n: u8) -> BootId {
    BootId([n; 16])
}

/// What the medium does with the next writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Power goes away before the write reaches the medium.
    Lost,
    /// Power goes away with the first `n` bytes written.
    Torn(usize),
    /// The write is reported as failed, and did not happen.
    Refused,
    /// The write is reported as failed, and happened all the same.
    FailedButPersisted,
}

#[derive(Debug, thiserror::Error)]
#[error("injected: {0:?}")]
pub struct Injected(pub Fault);

/// Three copies in memory, and at most one fault to come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Medium {
    pub copies: [Option<Vec<u8>>; 3],
    /// The fault, and after how many more writes it strikes.
    pub fault: Option<(usize, Fault)>,
    pub writes: Vec<Copy>,
}

fn index(copy: Copy) -> usize {
    Copy::ALL.iter().position(|&known| known == copy).unwrap()
}

impl Medium {
    /// A medium as `prepare` leaves it: both copies hold the record.
    pub fn holding(record: &Record) -> Self {
        let block = op_dbus_bootstate::codec::encode(record).unwrap().to_vec();
        Self {
            copies: [Some(block.clone()), Some(block), None],
            ..Self::default()
        }
    }

    pub fn copy(&mut self, copy: Copy) -> &mut Option<Vec<u8>> {
        &mut self.copies[index(copy)]
    }
}

impl Storage for &mut Medium {
    type Error = Injected;

    fn read(&mut self, copy: Copy) -> Result<Option<Vec<u8>>, Injected> {
        Ok(self.copies[index(copy)].clone())
    }

    fn write(&mut self, copy: Copy, block: &Block) -> Result<(), Injected> {
        let fault = match &mut self.fault {
            Some((0, fault)) => Some(fault.clone()),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        self.writes.push(copy);
        let place = &mut self.copies[index(copy)];
        match &fault {
            None | Some(Fault::FailedButPersisted) => *place = Some(block.to_vec()),
            Some(Fault::Torn(bytes)) => {
                let old = place.get_or_insert_with(|| vec![0; block.len()]);
                old[..*bytes].copy_from_slice(&block[..*bytes]);
            }
            Some(Fault::Lost | Fault::Refused) => {}
        }
        match fault {
            None => Ok(()),
            Some(fault) => Err(Injected(fault)),
        }
    }
}
