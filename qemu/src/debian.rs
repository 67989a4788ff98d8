//! Debian guests: roots made from packages, disks made from roots.

pub mod disk;
pub mod profile;
pub mod root;
mod setup;
