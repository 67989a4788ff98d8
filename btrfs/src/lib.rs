//! The Btrfs operations op-dbus uses, as safe functions.
//!
//! All ioctls live in [`sys`]; everything else is safe code over it. Paths are
//! opened without following a symlink in their last component, so that a link
//! planted in a store is an error and not a detour.
//!
//! Numbers and structures are those of the kernel's `uapi/linux/btrfs.h`.

mod device;
mod error;
mod extent;
mod subvolume;
mod sys;

pub use device::{Superblock, scan_device};
pub use error::Error;
pub use extent::{Encoded, Extent, clone_range, encoded_write, extents, unshared_bytes};
pub use subvolume::{
    SubvolInfo, create_subvolume, create_subvolume_at, delete_subvolume, delete_subvolume_at,
    filesystem_uuid, free_deleted, info_of, is_btrfs, is_read_only, is_subvolume, is_subvolume_fd,
    open_dir, reopen_dir, send, set_nocow, set_read_only, set_read_only_fd, set_received, snapshot,
    snapshot_at, subvol_info, sync_filesystem, sync_filesystem_fd,
};

/// Result of an operation on a path.
pub type Result<T> = std::result::Result<T, Error>;
