//! What a release is: a manifest, the streams it describes, and the digest of
//! the tree they bring.
//!
//! A build system writes manifests; a device believes one only after its
//! signature was checked over the very bytes that are parsed.

pub mod chunks;
pub mod manifest;
pub mod tree;
