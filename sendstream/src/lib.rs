//! Reads Btrfs send streams without trusting them.
//!
//! A stream is walked command by command in bounded memory: framing and CRC
//! ([`walk`]), attributes ([`attrs`]), the shape of the whole stream, and what a
//! release may contain ([`policy`]). [`vet`] leaves it at that and touches no
//! file system; [`Incoming`] also does what the commands say, in a subvolume of
//! its own and nowhere else, and is done with each before it reads the next.
//!
//! Source of the format: kernel `fs/btrfs/send.h` and `send.c` (versions 1 to 3).

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
