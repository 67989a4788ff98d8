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
