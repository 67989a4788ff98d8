//! What a power cut can leave, and which of all that is looked at.
//!
//! # Which states are legal
//!
//! The disk has a volatile write cache and keeps these promises, no others:
//!
//! 1. What was written before a flush was issued is on the medium once the flush
//!    has completed.
//! 2. A sector of 512 bytes reaches the medium whole or not at all, and no write
//!    harms another sector.
//! 3. Of several writes to one sector, the medium holds one, and never an older
//!    one after a newer one has reached it.
//!
//! So of the writes since the last flush *any* subset may have reached the
//! medium, whatever their order, and of each write any subset of its sectors.
//! Where the survivors overlap, the one that came last is seen (rule 3: that the
//! others were there before makes no difference).
//!
//! One write is never torn: that of a Btrfs superblock. Btrfs takes for granted
//! that its 4 KiB reach the medium whole; after a torn one the kernel refuses to
//! mount (checksum mismatch; it looks at no copy), and no program that runs on it
//! can change that. So for these blocks rule 2 says 4 KiB where it says 512 bytes:
//! true of disks with physical blocks of that size, which is nearly all.
//!
//! A flush counts from where it stands in the log, as the disk answered it
//! there. A write that was under way beside it and stands before it counts as
//! flushed: a disk may flush more than it must.

mod choice;
mod fate;

use std::fmt;
use std::str::FromStr;

pub use choice::enumerate;
pub use fate::Fate;

use crate::content::BLOCK;
use crate::{Entry, Image, Log, moment};

/// What became of the writes that no flush had covered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// All of them are on the medium.
    Prefix,
    /// Some are, by this seed.
    Subset(u64),
    /// Some are, and at least one of these only with some of its sectors.
    Torn(u64),
}

/// A power cut, and what it left. Written as `1234:prefix`, `1234:subset:77` or
/// `1234:torn:78`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    /// How many entries of the log had happened.
    pub position: usize,
    /// What was left of the last of them.
    pub kind: Kind,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Prefix => write!(f, "{}:prefix", self.position),
            Kind::Subset(seed) => write!(f, "{}:subset:{seed}", self.position),
            Kind::Torn(seed) => write!(f, "{}:torn:{seed}", self.position),
        }
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "{text}: no state; write POSITION:prefix, POSITION:subset:SEED or POSITION:torn:SEED"
            )
        };
        let mut parts = text.split(':');
        let position = parts
            .next()
            .and_then(|part| part.parse().ok())
            .ok_or_else(refuse)?;
        let kind = parts.next().ok_or_else(refuse)?;
        let mut seed = || {
            parts
                .next()
                .and_then(|part| part.parse().ok())
                .ok_or_else(refuse)
        };
        let kind = match kind {
            "prefix" => Kind::Prefix,
            "subset" => Kind::Subset(seed()?),
            "torn" => Kind::Torn(seed()?),
            _ => return Err(refuse()),
        };
        match parts.next() {
            None => Ok(Self { position, kind }),
            Some(_) => Err(refuse()),
        }
    }
}

/// Where Btrfs has its superblocks, in bytes from the start of the disk
/// (`btrfs_sb_offset()`).
const SUPERBLOCKS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];

/// In how many pieces a write may reach the medium. None if it is no write.
fn units(entry: &Entry) -> Option<usize> {
    let Entry::Write { offset, data } = entry else {
        return None;
    };
    let end = offset + data.len() as u64;
    let is_super = |start: &u64| *offset < start + BLOCK as u64 && *start < end;
    Some(if SUPERBLOCKS.iter().any(is_super) {
        1
    } else {
        data.sectors
    })
}

impl State {
    /// What the disk holds after this power cut.
    pub fn image(&self, log: &Log) -> Result<Image, String> {
        moment::image(self, log)
    }

    /// How many entries had happened when the last flush completed, that one
    /// included.
    pub(crate) fn flushed(&self, log: &Log) -> usize {
        let mut happened = log.entries.iter().take(self.position);
        let flush = happened.rposition(|entry| *entry == Entry::Flush);
        flush.map_or(0, |flush| flush + 1)
    }

    /// What became of each write since the last flush: its place in the log, and
    /// what of it reached the medium.
    pub fn fates(&self, log: &Log) -> Vec<(usize, Fate)> {
        let flushed = self.flushed(log);
        let since = log.entries.iter().enumerate().take(self.position);
        let (places, units): (Vec<_>, Vec<_>) = since
            .skip(flushed)
            .filter_map(|(place, entry)| Some((place, units(entry)?)))
            .unzip();
        places.into_iter().zip(self.kind.fates(&units)).collect()
    }
}
