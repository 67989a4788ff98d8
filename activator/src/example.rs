//! A published version, made up: for tests.

use op_dbus_bootstate::{Deployment, Digest, Identity, Uuid};

/// Version `v<number>.0.0`. Two of the same number are the same, and of different
/// ones nothing that tells versions apart is.
pub(crate) fn deployment(number: u8) -> Deployment {
    Deployment {
        version: format!("v{number}.0.0").parse().unwrap(),
        digest: Digest([number; 32]),
        identity: Identity {
            uuid: Uuid([number; 16]),
            received_uuid: Uuid([0; 16]),
            ctransid: 1,
            rtransid: 0,
        },
        epoch: 1,
    }
}
