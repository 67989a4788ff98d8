//! The version an increment builds on: the very one, or in words why not.

use std::os::fd::OwnedFd;

use op_dbus_activator::identity;
use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::receipt::Receipt;
use op_dbus_bootstate::{Deployment, Digest, Uuid, Version};
use op_dbus_release::manifest::{Manifest, Parent, Stream};

use crate::deployments::Deployments;
use crate::error::{Exit, Failure, Result};

/// Why the store has no such parent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lacking {
    /// No version of this name, UUID or content.
    Absent,
    /// It is here, but is not what was published any more.
    Unusable(String),
    /// A version of this name is here, with this other content.
    OtherContent(Version, Digest),
    /// The content is here, but from another build: this UUID.
    OtherBuild(Version, Uuid),
}

/// The receipt of the parent, by UUID and content.
fn known<'r>(
    receipts: &'r [Receipt],
    wanted: &Parent,
) -> std::result::Result<&'r Deployment, Lacking> {
    let all = || receipts.iter().map(|receipt| &receipt.deployment);
    let same = |held: &&Deployment| {
        held.identity.received_uuid == wanted.uuid && held.digest == wanted.digest
    };
    if let Some(found) = all().find(same) {
        return Ok(found);
    }
    // The nearest miss says most: the name first, for that is what people know.
    let named = |held: &&Deployment| held.version == wanted.version;
    let near = all().find(named).or_else(|| {
        all()
            .find(|held| held.digest == wanted.digest || held.identity.received_uuid == wanted.uuid)
    });
    Err(match near {
        None => Lacking::Absent,
        Some(held) if held.digest == wanted.digest => {
            Lacking::OtherBuild(held.version.clone(), held.identity.received_uuid)
        }
        Some(held) => Lacking::OtherContent(held.version.clone(), held.digest),
    })
}

/// Opens the parent: the descriptor is of what was checked, whatever happens to
/// its name meanwhile.
fn open(
    layout: &Layout,
    deployments: &Deployments,
    wanted: &Parent,
) -> std::result::Result<OwnedFd, Lacking> {
    let found = known(deployments.receipts(), wanted)?;
    let path = layout.deployment(&found.version);
    let unusable = |why: &dyn std::fmt::Display| Lacking::Unusable(why.to_string());
    let dir = op_dbus_btrfs::open_dir(&path).map_err(|why| unusable(&why))?;
    match op_dbus_btrfs::is_subvolume_fd(&dir) {
        Ok(true) => {}
        Ok(false) => return Err(unusable(&format_args!("{}: no subvolume", path.display()))),
        Err(why) => return Err(unusable(&why)),
    }
    let info = op_dbus_btrfs::subvol_info(&dir).map_err(|why| unusable(&why))?;
    match identity::difference(&info, &found.identity) {
        None => Ok(dir),
        Some(what) => Err(unusable(&what)),
    }
}

/// Whether a stream can be applied in this store.
pub(crate) fn is_here(layout: &Layout, deployments: &Deployments, stream: &Stream) -> bool {
    let parent = stream.parent.as_ref();
    parent.is_none_or(|parent| open(layout, deployments, parent).is_ok())
}

/// Opens what a stream builds on; none for a full stream.
pub(crate) fn find(
    layout: &Layout,
    deployments: &Deployments,
    manifest: &Manifest,
    stream: &Stream,
) -> Result<Option<OwnedFd>> {
    let Some(parent) = &stream.parent else {
        return Ok(None);
    };
    open(layout, deployments, parent)
        .map(Some)
        .map_err(|lacking| {
            let fitting = manifest
                .streams
                .iter()
                .filter(|other| other.file != stream.file && is_here(layout, deployments, other));
            failure(stream, parent, &lacking, &remedy(parent, fitting))
        })
}

fn failure(stream: &Stream, parent: &Parent, lacking: &Lacking, remedy: &str) -> Failure {
    let version = &parent.version;
    let needs = format!(
        "builds on {version} (UUID {}, digest {})",
        parent.uuid,
        parent.digest.short()
    );
    let why = match lacking {
        Lacking::Absent => format!("{needs}, which is not in the store"),
        Lacking::Unusable(why) => format!("{needs}, which is in the store, but not usable: {why}"),
        Lacking::OtherContent(held, digest) => format!(
            "{needs}; the {held} that is in the store has another content (digest {})",
            digest.short()
        ),
        Lacking::OtherBuild(held, uuid) => format!(
            "{needs}; the {held} that is in the store has that content, but is of another build (UUID {uuid})"
        ),
    };
    Failure::new(Exit::Verification, &stream.file, why, remedy)
}

/// What would fit instead.
fn remedy<'s>(parent: &Parent, fitting: impl Iterator<Item = &'s Stream>) -> String {
    let mut names: Vec<_> = fitting
        .map(|stream| match &stream.parent {
            Some(parent) => format!("{} (builds on {})", stream.file, parent.version),
            None => format!("{} (full)", stream.file),
        })
        .collect();
    // The first of a manifest with 64 streams will do.
    names.truncate(4);
    if names.is_empty() {
        return format!(
            "receive {} as it was published first; this release has no stream that fits",
            parent.version
        );
    }
    format!("what fits this device: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::Identity;
    use op_dbus_bootstate::receipt::SCHEMA;

    fn receipt(version: &str, uuid: u8, digest: u8) -> Receipt {
        Receipt {
            schema: SCHEMA,
            deployment: Deployment {
                version: version.parse().unwrap(),
                digest: Digest([digest; 32]),
                identity: Identity {
                    uuid: Uuid([99; 16]),
                    received_uuid: Uuid([uuid; 16]),
                    ctransid: 1,
                    rtransid: 1,
                },
                epoch: 0,
            },
            bytes: 0,
            received_at: String::new(),
        }
    }

    fn wanted() -> Parent {
        Parent {
            version: "v1.0.0".parse().unwrap(),
            uuid: Uuid([1; 16]),
            digest: Digest([1; 32]),
        }
    }

    #[test]
    fn both_uuid_and_content_count_and_the_name_does_not() {
        let other: Version = "v1.0.0".parse().unwrap();
        let cases = [
            (vec![], Err(Lacking::Absent)),
            (vec![receipt("v0.9.0", 8, 8)], Err(Lacking::Absent)),
            (vec![receipt("v1.0.0", 1, 1)], Ok("v1.0.0")),
            (
                vec![receipt("v1.0.0", 8, 8), receipt("v2.0.0", 1, 1)],
                Ok("v2.0.0"),
            ),
            (
                vec![receipt("v1.0.0", 1, 2)],
                Err(Lacking::OtherContent(other.clone(), Digest([2; 32]))),
            ),
            (
                vec![receipt("v1.0.0", 2, 1)],
                Err(Lacking::OtherBuild(other.clone(), Uuid([2; 16]))),
            ),
            (
                vec![receipt("v3.0.0", 2, 1), receipt("v1.0.0", 8, 8)],
                Err(Lacking::OtherContent(other, Digest([8; 32]))),
            ),
        ];
        for (receipts, expected) in cases {
            let found = known(&receipts, &wanted()).map(|held| held.version.as_str());
            assert_eq!(found, expected, "{receipts:?}");
        }
    }
}
