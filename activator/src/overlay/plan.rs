//! What is to be done to a copied overlay, so that what a user changed and what
//! a new version brings get along: made when the version is staged, by who can
//! take time and can be answered, carried out at its first boot.
//!
//! ```text
//! offset  size  content
//!      0     8  magic "OPDBUSPL"
//!      8     4  format, little endian
//!     12     n  payload: the plan in postcard encoding
//! 12 + n     4  CRC-32 (IEEE) of all before, little endian
//! ```

use op_dbus_bootstate::Digest;
use serde::{Deserialize, Serialize};

use super::beneath;

/// Entries a plan may have.
pub const ENTRIES_MAX: usize = 4096;
/// Longest encoded plan, in bytes.
pub const MAX_LEN: usize = 1024 * 1024;
/// The one format there is.
pub const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"OPDBUSPL";

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Content of the version that was staged.
    pub onto: Digest,
    /// Content of the version that was good then, whose overlay was looked at.
    pub over: Digest,
    /// What to do, in order.
    pub entries: Vec<Entry>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where, relative to the version's tree.
    pub path: Vec<u8>,
    /// What.
    pub action: Action,
    /// [`digest`](super::entry::digest) of what the overlay had there. Where that
    /// has changed since, nothing is done.
    pub expected: [u8; 32],
}

/// What to do at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The user's is renamed to `<path>.mine` (`.mine-1`, … if that is taken), so
    /// that the version's shows.
    SetAside,
    /// A whiteout is removed, or the opaque mark of a directory, so that the
    /// version's shows.
    Unhide,
    /// The user's stays, and the version's file is put beside as `<path>.new`.
    OfferNew,
    /// Owner, group and mode become the version's, the content stays the user's.
    TakeOwner,
}

/// Why bytes are no plan, or a plan can't be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too long for a reader.
    #[error("more than {ENTRIES_MAX} entries or {MAX_LEN} bytes")]
    TooLarge,
    /// Does not begin with the magic.
    #[error("not a plan")]
    Magic,
    /// The checksum does not match.
    #[error("checksum mismatch")]
    Crc,
    /// Of a format this program does not know.
    #[error("format {0} instead of {FORMAT}")]
    Format(u32),
    /// The checksum is right and the content is not.
    #[error("checksum is right but the content is not a plan")]
    Payload,
    /// A path that is not plain.
    #[error("a path of the plan is not relative and plain")]
    Path,
}

impl Plan {
    /// Encodes a plan that [`Plan::decode`] accepts.
    pub fn encode(&self) -> Result<Vec<u8>, PlanError> {
        self.check()?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        let mut bytes = postcard::to_extend(self, bytes).map_err(|_| PlanError::TooLarge)?;
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        if bytes.len() > MAX_LEN {
            return Err(PlanError::TooLarge);
        }
        Ok(bytes)
    }

    /// Decodes a plan. Memory use is bounded by the length of what is given, and
    /// that by [`MAX_LEN`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PlanError> {
        if bytes.len() > MAX_LEN {
            return Err(PlanError::TooLarge);
        }
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(PlanError::Magic)?;
        if *magic != MAGIC {
            return Err(PlanError::Magic);
        }
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(PlanError::Crc)?;
        if *crc != crc32fast::hash(body).to_le_bytes() {
            return Err(PlanError::Crc);
        }
        let (format, rest) = rest.split_first_chunk::<4>().ok_or(PlanError::Payload)?;
        let format = u32::from_le_bytes(*format);
        if format != FORMAT {
            return Err(PlanError::Format(format));
        }
        let payload = rest.len().checked_sub(4).and_then(|end| rest.get(..end));
        let found = postcard::take_from_bytes::<Self>(payload.ok_or(PlanError::Payload)?);
        match found {
            Ok((plan, [])) => plan.check().map(|()| plan),
            _ => Err(PlanError::Payload),
        }
    }

    fn check(&self) -> Result<(), PlanError> {
        if self.entries.len() > ENTRIES_MAX {
            return Err(PlanError::TooLarge);
        }
        let plain = |entry: &Entry| beneath::is_plain(&entry.path);
        if self.entries.iter().all(plain) {
            Ok(())
        } else {
            Err(PlanError::Path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let entry = |path: &str, action| Entry {
            path: path.into(),
            action,
            expected: [7; 32],
        };
        Plan {
            onto: Digest([1; 32]),
            over: Digest([2; 32]),
            entries: vec![
                entry("etc/a\nb", Action::SetAside),
                entry("etc", Action::Unhide),
                entry("c", Action::OfferNew),
                entry("d", Action::TakeOwner),
            ],
        }
    }

    fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len() - 4;
        let crc = crc32fast::hash(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&crc);
        bytes
    }

    #[test]
    fn survives_its_encoding() {
        let bytes = plan().encode().unwrap();
        assert_eq!(Plan::decode(&bytes).unwrap(), plan());
        // What is in the stores of devices is not encoded anew with a release.
        assert_eq!(&bytes[..12], b"OPDBUSPL\x01\0\0\0");
        let crc = u32::from_le_bytes(*bytes.last_chunk().unwrap());
        assert_eq!((bytes.len(), crc), (229, 1_492_501_006));
    }

    #[test]
    fn no_bit_flips_and_no_part_passes() {
        let bytes = plan().encode().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Plan::decode(&bytes).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Plan::decode(&bytes[..length]).is_err());
            // Not even with a checksum that fits.
            if length >= 4 {
                let part = with_crc(bytes[..length].to_vec());
                assert!(Plan::decode(&part).is_err(), "{length} bytes");
            }
        }
    }

    #[test]
    fn what_it_may_hold_is_bounded() {
        let one = plan().entries.remove(0);
        let many = |entries: usize, length: usize| Plan {
            entries: vec![
                Entry {
                    path: vec![b'a'; length],
                    ..one.clone()
                };
                entries
            ],
            ..plan()
        };
        let full = many(ENTRIES_MAX, 200).encode().unwrap();
        assert_eq!(Plan::decode(&full).unwrap().entries.len(), ENTRIES_MAX);
        assert_eq!(many(ENTRIES_MAX + 1, 1).encode(), Err(PlanError::TooLarge));
        assert_eq!(many(ENTRIES_MAX, 300).encode(), Err(PlanError::TooLarge));
        assert_eq!(many(1, 0).encode(), Err(PlanError::Path));
        assert_eq!(many(1, 5000).encode(), Err(PlanError::Path));
        // A length that claims what is not there.
        let mut bytes = plan().encode().unwrap();
        bytes[12 + 64..12 + 64 + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(Plan::decode(&with_crc(bytes)), Err(PlanError::Payload));
    }
}
