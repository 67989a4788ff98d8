//! The versions of the store: their receipts, and whether they are intact.

use std::io;
use std::path::Path;

use op_dbus_activator::files;
use op_dbus_activator::identity::{self, Check};
use op_dbus_activator::layout::{Layout, RECEIPT_SUFFIX};
use op_dbus_bootstate::receipt::{self, Receipt};
use op_dbus_bootstate::{Deployment, Digest, Version};

use crate::error::{Exit, Failure, Result};

/// Receipts a store may hold.
const RECEIPTS_MAX: usize = 4096;

/// All receipts of a store, by version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deployments {
    receipts: Vec<Receipt>,
    /// Receipts that could not be used, and why.
    pub(crate) problems: Vec<String>,
}

/// Reads one receipt. `None`: there is none.
pub(crate) fn read_receipt(layout: &Layout, version: &Version) -> Result<Option<Receipt>> {
    let path = layout.receipt(version);
    match load(&path, version) {
        Ok(receipt) => Ok(Some(receipt)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) if why.kind() == io::ErrorKind::InvalidData => Err(Failure::new(
            Exit::Verification,
            path.display(),
            why,
            format_args!("receive {version} again"),
        )),
        Err(why) => Err(Failure::io(format_args!("{}: read", path.display()), why)),
    }
}

fn load(path: &Path, version: &Version) -> io::Result<Receipt> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let bytes = files::read_bounded(path, receipt::MAX_LEN)?;
    let receipt = Receipt::parse(&bytes).map_err(invalid)?;
    if receipt.deployment.version != *version {
        return Err(invalid(format!(
            "is the receipt of {}",
            receipt.deployment.version
        )));
    }
    Ok(receipt)
}

impl Deployments {
    /// Reads all receipts. One that is damaged is a problem to tell of, and does
    /// not hide the others.
    pub(crate) fn read(layout: &Layout) -> Result<Self> {
        let dir = layout.manifests_dir();
        let fail = |why| Failure::io(format_args!("{}: read", dir.display()), why);
        let mut found = Self::default();
        for entry in std::fs::read_dir(&dir).map_err(fail)?.take(RECEIPTS_MAX) {
            let name = entry.map_err(fail)?.file_name();
            let name = name.to_string_lossy();
            let Some(version) = name
                .strip_suffix(RECEIPT_SUFFIX)
                .and_then(|version| version.parse().ok())
            else {
                continue;
            };
            match read_receipt(layout, &version) {
                Ok(receipt) => found.receipts.extend(receipt),
                Err(why) => found.problems.push(why.to_string()),
            }
        }
        found
            .receipts
            .sort_by(|a, b| b.deployment.version.cmp(&a.deployment.version));
        Ok(found)
    }

    /// The receipts, newest version first.
    pub(crate) fn receipts(&self) -> &[Receipt] {
        &self.receipts
    }

    /// Whether a digest's version is still in the store.
    pub(crate) fn is_present(&self, layout: &Layout, digest: &Digest) -> bool {
        let mut matching = self
            .receipts
            .iter()
            .filter(|receipt| receipt.deployment.digest == *digest);
        // What can't be looked at counts as present: only the absent may be forgotten.
        matching.any(|receipt| {
            op_dbus_btrfs::is_subvolume(&layout.deployment(&receipt.deployment.version))
                .unwrap_or(true)
        })
    }

    /// An intact version by its name, or why it can't be used.
    pub(crate) fn named(&self, layout: &Layout, version: &Version) -> Result<Deployment> {
        let receipt = read_receipt(layout, version)?
            .ok_or_else(|| self.unknown(version, "is not in the store"))?;
        self.check(layout, &receipt.deployment)?;
        Ok(receipt.deployment)
    }

    /// That a deployment is in the store as it was published, or why it can't be used.
    pub(crate) fn check(&self, layout: &Layout, deployment: &Deployment) -> Result<()> {
        let version = &deployment.version;
        match identity::check(&layout.deployment(version), &deployment.identity) {
            Check::Intact => Ok(()),
            Check::Missing(why) => Err(self.unknown(version, &why)),
            Check::Altered(why) => Err(Failure::new(
                Exit::Verification,
                version,
                why,
                format_args!("receive {version} again"),
            )),
            Check::Unreadable(why) => Err(Failure::new(
                Exit::Failure,
                version,
                why,
                "check the medium (journalctl -k)",
            )),
        }
    }

    fn unknown(&self, version: &Version, why: &str) -> Failure {
        let known: Vec<_> = self
            .receipts
            .iter()
            .map(|receipt| receipt.deployment.version.as_str())
            .filter(|known| *known != version.as_str())
            .take(8)
            .collect();
        let remedy = if known.is_empty() {
            "receive it first: op-dbus-stage receive FILE".to_owned()
        } else {
            format!("receive it first, or name one of: {}", known.join(", "))
        };
        Failure::new(Exit::UnknownVersion, version, why, remedy)
    }
}
