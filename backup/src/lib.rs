//! The file a backup is.
//!
//! ```text
//! one zstd frame, window at most 8 MiB
//!   tar (ustar), regular files only, names in ascending order
//!     BACKUP.json             what, when, of which device (Info)
//!     device/…                small files: boot record, manifests, audit log …
//!     overlays/<name>/000000  a send stream in pieces of 4 MiB
//!     shared/<nnnn>/000000    likewise
//!     SHA256SUMS              of all members before it, as sha256sum -c reads it
//! a skippable zstd frame with the SHA-256 of everything before that digest
//! ```
//!
//! So `tar --zstd -xf FILE` takes it apart anywhere, `sha256sum -c SHA256SUMS`
//! checks it, and `cat overlays/v1.0.0/* | btrfs receive DIR` unpacks an overlay;
//! and still a reader here accepts only what a [`Writer`] writes, bit for bit:
//!
//! - A header is read by making the one it ought to be from its name and size, and
//!   comparing: there are no links, no paths that climb, no owners, no extensions.
//! - Names ascend, so none is there twice, and streams are whole.
//! - Content counts only once [`Reader::finish`] says that sums and digest are right.
//!
//! The digest shows damage. It does not show who made the file: whoever can write
//! it can write a digest too.

mod error;
mod info;
mod name;
mod read;
mod tail;
mod ustar;
mod write;

pub use error::{BackupError, Result};
pub use info::{Info, Key, SCHEMA, Stream};
pub use name::{INFO, SUMS, is_plain};
pub use read::{Content, Entry, Reader};
pub use tail::Digest;
pub use write::{StreamWriter, Writer};

/// What only the fuzz targets call: parts of a file that nobody but an attacker
/// puts together by hand.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// The header of a member.
    pub fn header(name: &str, size: u64) -> [u8; 512] {
        crate::ustar::header(name, size)
    }

    /// A file with this zstd frame.
    pub fn seal(frame: Vec<u8>) -> Vec<u8> {
        let mut hashed = crate::tail::Hashed::new(Vec::new());
        // Writing to memory can't fail.
        let _ = std::io::Write::write_all(&mut hashed, &frame);
        hashed.seal().map(|(bytes, _)| bytes).unwrap_or_default()
    }
}

/// Length of a stream's pieces, but for the last, in bytes.
pub const PIECE: usize = 4 << 20;
/// Largest window of a decompressor (8 MiB): what reading takes of memory.
pub const WINDOW_LOG_MAX: u32 = 23;
