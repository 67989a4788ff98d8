//! A stream's file in chunks of equal length.
//!
//! The build system writes it through a [`Writer`], which yields what the manifest
//! says of it. The device reads it through [`Verified`]: a chunk whose length or
//! SHA-256 is another than the signed manifest's is seen by nobody, neither by the
//! decompressor nor by the parser of the send stream.

mod error;
mod hasher;
mod inflate;
mod verified;

pub use error::ChunkError;
pub use hasher::{ChunkHasher, Writer, Written};
pub use inflate::WINDOW_LOG_MAX;
pub use verified::Verified;
