//! Identities: content digests, UUIDs, kernel boot ids, subvolume identities.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is no hexadecimal identity of the expected length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits")]
pub struct HexError {
    expected: usize,
}

fn parse_hex<const N: usize>(text: impl Iterator<Item = char>) -> Result<[u8; N], HexError> {
    let error = HexError { expected: 2 * N };
    let mut digits = text.map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()));
    let mut bytes = [0; N];
    for byte in &mut bytes {
        let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else {
            return Err(error);
        };
        *byte = high << 4 | low;
    }
    if digits.next().is_some() {
        Err(error)
    } else {
        Ok(bytes)
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// A fixed-size identity that is text for people and bytes in the record.
macro_rules! identity {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    <[u8; $len]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

identity! {
    /// SHA-256 over a deployment's whole tree: names, metadata and content.
    Digest, 32
}

identity! {
    /// A Btrfs UUID (of a subvolume, or of the subvolume it was received from).
    Uuid, 16
}

identity! {
    /// The kernel's id of this boot, from `/proc/sys/kernel/random/boot_id`.
    ///
    /// A soft reboot keeps it; kexec and a full reboot draw a new one.
    BootId, 16
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for Digest {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        parse_hex(text.chars()).map(Self)
    }
}

impl Digest {
    /// The first twelve digits: enough to tell versions apart on a screen.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

fn display_dashed(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

fn parse_dashed(text: &str) -> Result<[u8; 16], HexError> {
    parse_hex(text.trim_end().chars().filter(|&c| c != '-'))
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display_dashed(&self.0, f)
    }
}

impl FromStr for Uuid {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        parse_dashed(text).map(Self)
    }
}

impl Uuid {
    /// All zero: Btrfs' way of saying "not set".
    pub fn is_nil(&self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display_dashed(&self.0, f)
    }
}

impl FromStr for BootId {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        parse_dashed(text).map(Self)
    }
}

/// What `BTRFS_IOC_GET_SUBVOL_INFO` said of a deployment right after its final
/// sync. A deployment is activated only while all four still hold and the
/// subvolume is read-only.
///
/// `ctransid` is the one that proves nothing was written since: making a
/// subvolume writable and read-only again leaves the others alone, but an edit
/// moves it, and balance does not (measured, DESIGN "The boot record").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// UUID of the subvolume itself.
    pub uuid: Uuid,
    /// UUID of the subvolume it was sent from.
    pub received_uuid: Uuid,
    /// Transaction of the last change to its content.
    pub ctransid: u64,
    /// Transaction at which receiving ended.
    pub rtransid: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip() {
        let digest = Digest([0xa5; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.short(), "a5a5a5a5a5a5");
        let id: BootId = "0b3c8f0e-7f55-4b5c-9d0a-3f7a4f5f0a11\n".parse().unwrap();
        assert_eq!(id.to_string(), "0b3c8f0e-7f55-4b5c-9d0a-3f7a4f5f0a11");
    }

    #[test]
    fn wrong_lengths_and_digits_are_refused() {
        assert!("".parse::<Digest>().is_err());
        assert!("a5".repeat(33).parse::<Digest>().is_err());
        assert!("zz".repeat(32).parse::<Digest>().is_err());
        assert!("é".repeat(32).parse::<Uuid>().is_err());
    }

    #[test]
    fn json_is_text_and_the_record_is_bytes() {
        let digest = Digest([7; 32]);
        assert_eq!(
            serde_json::to_string(&digest).unwrap(),
            format!("\"{digest}\"")
        );
        assert_eq!(postcard::to_stdvec(&digest).unwrap().len(), 32);
    }
}
