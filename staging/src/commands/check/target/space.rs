//! Space: for the next version, for the metadata of everything, and in reserve.

use op_dbus_activator::reserve::{PARTS, Reserve};

use crate::commands::check::host::Host;
use crate::commands::receive::headroom;
use crate::deployments::Deployments;
use crate::error::Exit;
use crate::findings::Findings;
use crate::reserve;
use crate::settings::Settings;
use crate::settings::prune::Prune;

use super::store;

const SUBJECT: &str = "space";
/// With less room for metadata, changes may fail while there is space for data:
/// about what a commit of a receive writes, twice.
const METADATA_LEAST: u64 = 16 << 20;
const PRUNE: &str = "see what would go: op-dbus-stage prune --dry-run; then: op-dbus-stage prune";

/// Bytes as MiB, rounded up: what is needed is never told too small.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Looks at all of it.
pub(crate) fn check(host: &Host, settings: &Settings, findings: &mut Findings) {
    let place = &host.context.layout.store;
    let found = match rustix::fs::statvfs(place) {
        Ok(found) => found,
        Err(why) => {
            let found = format!("{}: {why}", place.display());
            return findings.error(Exit::Store, SUBJECT, found, "see: journalctl -k");
        }
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let size = found.f_blocks.saturating_mul(found.f_frsize);
    let kept = headroom(size, settings.headroom_mib);
    let deployments = Deployments::read(&host.context.layout).unwrap_or_default();
    let largest = deployments.receipts().iter().map(|one| one.bytes).max();
    data(free, kept, largest.unwrap_or(0), findings);
    if let Some(allocation) = Allocation::read(host) {
        metadata(&allocation, findings);
    }
    if let Ok(prune) = Prune::load(&host.context) {
        let kept = Reserve::new(&host.context.layout);
        let is_there = |part: &u8| kept.part(*part).symlink_metadata().is_ok();
        let parts = (0..PARTS).filter(is_there).count();
        reserve(parts, reserve::size(size, prune.reserve_mib), findings);
    }
}

/// What a full disk lives on.
fn reserve(parts: usize, wanted: u64, findings: &mut Findings) {
    if wanted == 0 {
        findings.info(
            "reserve",
            "none is wanted: a full disk may fail to count a boot",
        );
    } else if parts < usize::from(PARTS) {
        findings.warning(
            "reserve",
            format!("{parts} of its {PARTS} parts are there: a full disk may fail to count a boot"),
            "make them anew, once there is room: op-dbus-stage prune",
        );
    } else {
        findings.ok("reserve", format!("{} MiB for a full disk", wanted >> 20));
    }
}

/// Bytes that are free, that stay free, and that the largest version here has.
fn data(free: u64, kept: u64, largest: u64, findings: &mut Findings) {
    let usable = free.saturating_sub(kept);
    let words = format!("{} MiB free, {} MiB of it kept free", free >> 20, mib(kept));
    if free <= kept {
        findings.error(
            Exit::NoSpace,
            SUBJECT,
            format!(
                "{} MiB free, and {} MiB are kept free: no release is received",
                free >> 20,
                mib(kept)
            ),
            PRUNE,
        );
    } else if usable < largest {
        findings.warning(
            SUBJECT,
            format!(
                "{words}: another version of {} MiB fits only as a small delta",
                mib(largest)
            ),
            PRUNE,
        );
    } else {
        findings.ok(SUBJECT, words);
    }
}

/// How the file system has divided its devices, in bytes (`/sys/fs/btrfs/<fsid>`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Allocation {
    /// Of all devices.
    devices: u64,
    /// Given to data, metadata and system, copies counted.
    allocated: u64,
    /// Room for metadata, copies not counted.
    total: u64,
    /// What of that is used.
    used: u64,
    /// What of that only the kernel may use, to delete when full.
    reserve: u64,
    /// Copies of metadata.
    copies: u64,
}

impl Allocation {
    fn read(host: &Host) -> Option<Self> {
        let dir = store::sysfs(host)?;
        let number = |path: &str| -> Option<u64> {
            let text = host.sys.text(format!("{dir}/{path}"), 64).ok()?;
            text.trim().parse().ok()
        };
        let names = host.sys.names(format!("{dir}/devices"), 64).ok()?;
        let sectors: u64 = names
            .iter()
            .filter_map(|name| number(&format!("devices/{name}/size")))
            .sum();
        let disk = |kind: &str| number(&format!("allocation/{kind}/disk_total"));
        let total = number("allocation/metadata/total_bytes")?;
        Some(Self {
            devices: sectors.saturating_mul(512),
            allocated: disk("data")? + disk("metadata")? + disk("system")?,
            total,
            used: number("allocation/metadata/bytes_used")?,
            reserve: number("allocation/global_rsv_size").unwrap_or(0),
            copies: (disk("metadata")? / total.max(1)).max(1),
        })
    }

    /// Room for metadata that is left, with what is not given to anything yet.
    fn left(&self) -> u64 {
        let unallocated = self.devices.saturating_sub(self.allocated);
        self.total
            .saturating_sub(self.used)
            .saturating_sub(self.reserve)
            .saturating_add(unallocated / self.copies.max(1))
    }
}

fn metadata(allocation: &Allocation, findings: &mut Findings) {
    let left = allocation.left();
    let words = format!(
        "{} of {} MiB of metadata used, room for {} MiB more",
        allocation.used >> 20,
        allocation.total >> 20,
        left >> 20
    );
    if left < METADATA_LEAST {
        findings.warning(
            "metadata",
            words,
            "prune versions, then give unused data space back: btrfs balance start -dusage=20 /run/op-dbus/store",
        );
    } else {
        findings.ok("metadata", words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::{bad, found};
    use crate::findings::Severity::{Error, Info, Ok, Warning};

    const MIB: u64 = 1 << 20;

    #[test]
    fn free_space_is_weighed_against_headroom_and_versions() {
        for (free, largest, expected) in [
            (500, 100, Ok),
            (164, 100, Ok),
            (163, 100, Warning),
            (64, 0, Error),
            (0, 0, Error),
            (65, 0, Ok),
        ] {
            let told = found(|findings| data(free * MIB, 64 * MIB, largest * MIB, findings));
            assert_eq!(told[0].0, expected, "{free} {largest}");
        }
    }

    #[test]
    fn a_reserve_that_was_used_is_told() {
        for (parts, wanted, expected) in [(4, MIB, Ok), (3, MIB, Warning), (0, 0, Info)] {
            let told = found(|findings| super::reserve(parts, wanted, findings));
            assert_eq!(told[0].0, expected, "{parts} {wanted}");
        }
    }

    #[test]
    fn unallocated_space_can_become_metadata() {
        let allocation = Allocation {
            devices: 1000 * MIB,
            allocated: 900 * MIB,
            total: 64 * MIB,
            used: 50 * MIB,
            reserve: 8 * MIB,
            copies: 2,
        };
        assert_eq!(allocation.left(), 56 * MIB);
        assert!(bad(|findings| metadata(&allocation, findings)).is_empty());
        let full = Allocation {
            allocated: 1000 * MIB,
            ..allocation
        };
        assert_eq!(full.left(), 6 * MIB);
        let told = bad(|findings| metadata(&full, findings));
        assert_eq!(told[0].0, Warning);
    }
}
