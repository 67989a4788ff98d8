//! Reads Btrfs send streams without trusting them.
//!
//! A stream is walked command by command in bounded memory: framing and CRC
//! ([`walk`]), attributes ([`attrs`]), the shape of the whole stream ([`vet`]),
//! and what a release may contain ([`policy`]). Nothing here touches a file
//! system. `op-dbus-stage receive` walks a stream once completely before any
//! other program sees it, and once more while it hands it on, command by
//! command, so that not even a file changed in between gets past.
//!
//! Source of the format: kernel `fs/btrfs/send.h` and `send.c` (versions 1 and 2).

mod apply;
pub mod attrs;
mod error;
mod pass;
pub mod policy;
mod vet;
pub mod walk;
pub mod wire;

/// What only the fuzz targets call: decompression by itself, which otherwise
/// takes a file system to reach.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use op_dbus_btrfs::Encoded;

    /// The content of a compressed extent.
    pub fn decode(extent: &Encoded, data: &[u8]) -> Option<Vec<u8>> {
        let mut decoder = crate::apply::decode::Decoder::new();
        decoder.decode(extent, data).ok().map(<[u8]>::to_vec)
    }
}

pub use apply::{Destination, Incoming};
pub use error::{Problem, StreamError};
pub use pass::{Begin, Parent, Summary};
pub use policy::Policy;
pub use vet::{vet, vet_into};
