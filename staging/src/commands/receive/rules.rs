//! What a device does not take, however well it is signed.

use op_dbus_bootstate::transition::Refusal;
use op_dbus_bootstate::{Digest, Record, Version};

use crate::cli::device::Override;
use crate::error::{Exit, Failure, Result};
use crate::signed::Signed;

/// Another product's release would be a device's end.
pub(crate) fn product(signed: &Signed, wanted: &str) -> Result<()> {
    let found = &signed.manifest.product;
    if found == wanted {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Refused,
        &signed.manifest.version,
        format_args!("is a release of {found}, and this device takes {wanted}"),
        "fetch the right release, or correct [receive] product in the configuration",
    ))
}

/// Endings with which a version would have a name that belongs to another one:
/// `v1.0.0-x.deployment`'s manifest that of `v1.0.0-x`'s receipt, and the overlay
/// of `v1.0.0-x.old` that of what is set aside of `v1.0.0-x`'s, which the boot that
/// sets it aside deletes.
const TAKEN: [&str; 3] = [".deployment", ".old", ".failed"];

/// A name must not be taken by what belongs to another version.
pub(crate) fn name(version: &Version) -> Result<()> {
    let text = version.as_str();
    let Some(ending) = TAKEN.iter().find(|ending| text.ends_with(*ending)) else {
        return Ok(());
    };
    Err(Failure::new(
        Exit::Refused,
        version,
        format_args!("no version's name may end in {ending}"),
        "give the release another version",
    ))
}

/// Epoch and quarantine, as [`op_dbus_bootstate::transition::stage`] has them.
/// What the record names anyway may come back whole, if it was altered or lost.
/// Returns which rules were overridden, in words for the audit log.
pub(crate) fn may_be_received(
    signed: &Signed,
    record: &Record,
    overrides: Override,
) -> Result<&'static str> {
    let manifest = &signed.manifest;
    let version = &manifest.version;
    if is_held(record, version, &manifest.tree.digest)? {
        return Ok("");
    }
    let quarantined = record.quarantine.get(&manifest.tree.digest);
    if let Some(entry) = quarantined.filter(|_| !overrides.allow_quarantined) {
        let refusal = Refusal::Quarantined {
            version: version.clone(),
            cause: entry.cause,
        };
        return Err(Failure::refused("receive", &refusal));
    }
    let is_old = manifest.epoch < record.epoch_floor;
    if is_old && !overrides.allow_old_epoch {
        let refusal = Refusal::EpochBelowFloor {
            version: version.clone(),
            epoch: manifest.epoch,
            floor: record.epoch_floor,
        };
        return Err(Failure::refused("receive", &refusal));
    }
    Ok(match (quarantined.is_some(), is_old) {
        (false, false) => "",
        (true, false) => "; quarantine overridden",
        (false, true) => "; epoch floor overridden",
        (true, true) => "; quarantine and epoch floor overridden",
    })
}

/// Whether the record names this version with this content. With another
/// content, its name is taken.
fn is_held(record: &Record, version: &Version, digest: &Digest) -> Result<bool> {
    let mut named = record
        .deployments()
        .filter(|(_, held)| held.version == *version)
        .peekable();
    let is_named = named.peek().is_some();
    let other = named.find(|(_, held)| held.digest != *digest);
    let Some((slot, _)) = other else {
        return Ok(is_named);
    };
    Err(Failure::new(
        Exit::Refused,
        version,
        format_args!("another release of this name is this device's {slot} version"),
        "a version is never replaced; give the release a new version",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::{Deployment, Identity, Uuid};

    fn good(version: &str, digest: u8) -> Record {
        Record {
            good: Some(Deployment {
                version: version.parse().unwrap(),
                digest: Digest([digest; 32]),
                identity: Identity {
                    uuid: Uuid([1; 16]),
                    received_uuid: Uuid([2; 16]),
                    ctransid: 1,
                    rtransid: 1,
                },
                epoch: 0,
            }),
            ..Record::default()
        }
    }

    #[test]
    fn a_name_of_the_record_keeps_its_content() {
        let version: Version = "v1.0.0".parse().unwrap();
        let digest = Digest([1; 32]);
        let held = |record: &Record| is_held(record, &version, &digest);
        assert!(!held(&Record::default()).unwrap());
        assert!(held(&good("v1.0.0", 1)).unwrap());
        assert!(!held(&good("v2.0.0", 1)).unwrap());
        let why = held(&good("v1.0.0", 2)).unwrap_err();
        assert_eq!(why.kind, Exit::Refused);
    }

    #[test]
    fn a_name_that_would_clash_in_the_store_is_refused() {
        assert!(name(&"v1.0.0-deployment".parse().unwrap()).is_ok());
        for clash in ["v1.0.0-x.deployment", "v1.0.0-rc.old", "v1.0.0+a.failed"] {
            assert!(name(&clash.parse().unwrap()).is_err(), "{clash}");
        }
    }
}
