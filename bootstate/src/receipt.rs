//! What is kept beside each published deployment, in
//! `manifests/<version>.deployment.json`: enough to stage it, and to recognise
//! it should every copy of the boot record be lost.

use serde::{Deserialize, Serialize};

use crate::record::Deployment;

/// Schema of the file.
pub const SCHEMA: u32 = 1;
/// Longest file a reader accepts, in bytes.
pub const MAX_LEN: usize = 16 * 1024;

/// The receipt of one received deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// The deployment as the boot record will name it.
    pub deployment: Deployment,
    /// Apparent size of its regular files, in bytes.
    pub bytes: u64,
    /// When it was received, RFC 3339, by the device's clock.
    pub received_at: String,
}

impl Receipt {
    /// Parses a receipt.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_LEN {
            return Err(format!("longer than {MAX_LEN} bytes"));
        }
        let receipt: Self = serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
        if receipt.schema != SCHEMA {
            return Err(format!("schema {} instead of {SCHEMA}", receipt.schema));
        }
        Ok(receipt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::{Digest, Identity, Uuid};

    fn receipt() -> Receipt {
        Receipt {
            schema: SCHEMA,
            deployment: Deployment {
                version: "v1.1.0".parse().unwrap(),
                digest: Digest([0x2a; 32]),
                identity: Identity {
                    uuid: Uuid([1; 16]),
                    received_uuid: Uuid([2; 16]),
                    ctransid: 300,
                    rtransid: 301,
                },
                epoch: 3,
            },
            bytes: 40_000,
            received_at: "2026-11-23T05:00:00Z".to_owned(),
        }
    }

    /// A receipt has no checksum: it is a file on a file system that has. But
    /// one that is cut short is none, and one that is changed says something
    /// else, which the subvolume or the manifest is then held against.
    #[test]
    fn a_damaged_receipt_is_refused_or_says_something_else() {
        let whole = receipt();
        let text = serde_json::to_vec_pretty(&whole).unwrap();
        assert_eq!(Receipt::parse(&text), Ok(whole.clone()));
        let mut accepted = 0;
        for bit in 0..text.len() * 8 {
            let mut changed = text.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(found) = Receipt::parse(&changed) {
                let is_space = text[bit / 8].is_ascii_whitespace();
                // Letters of a digest or UUID may be of either case.
                let is_case = changed.eq_ignore_ascii_case(&text);
                assert!(found != whole || is_space || is_case, "bit {bit}");
                accepted += 1;
            }
        }
        assert!(accepted < text.len() * 8 / 4, "{accepted}");
        for length in 0..text.len() {
            assert!(Receipt::parse(&text[..length]).is_err(), "{length}");
        }
    }
}
