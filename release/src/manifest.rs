//! The manifest: what is signed about a release.
//!
//! JSON, at most [`MAX_LEN`] bytes, unknown keys refused. It says which tree a
//! version is, and of each stream that brings this tree to a device every byte:
//! whoever trusts the manifest need not trust the medium.

use op_dbus_bootstate::{Digest, Uuid, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

#[cfg(test)]
use crate::tree::{BYTES_MAX, ENTRIES_MAX};
use crate::tree::{Kind, Privileged};

mod check;
#[cfg(test)]
mod schema;

pub use check::{
    ALLOW_MAX, CHUNK_SIZES, FILE_LEN_MAX, PATH_LEN_MAX, PRODUCT_LEN_MAX, STREAM_BYTES_MAX,
    STREAMS_MAX, product as check_product,
};

/// Schema of the file.
pub const SCHEMA: u32 = 1;
/// Usual length of a chunk, in bytes.
pub const CHUNK_SIZE: u32 = 1 << 20;
/// Longest file a reader accepts, in bytes: 16 GiB in chunks of 1 MiB, twice over.
pub const MAX_LEN: usize = 4 << 20;

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format of the manifest.
    #[cfg_attr(test, schemars(schema_with = "schema::number"))]
    pub schema: u32,
    /// What it is a release of; a device takes one product only.
    #[cfg_attr(test, schemars(schema_with = "schema::product"))]
    pub product: String,
    /// Its version.
    #[cfg_attr(test, schemars(schema_with = "schema::version"))]
    pub version: Version,
    /// Security epoch: a device never goes below the highest it has blessed.
    pub epoch: u32,
    /// When the manifest was made, RFC 3339; a claim, decides nothing.
    #[cfg_attr(test, schemars(schema_with = "schema::time"))]
    pub created: String,
    /// The tree, whichever stream brings it.
    pub tree: Tree,
    /// What the tree may hold beyond plain files.
    #[serde(default)]
    pub allow: Allow,
    /// Length of every chunk of every stream but its last, in bytes.
    #[cfg_attr(test, schemars(schema_with = "schema::chunk_size"))]
    pub chunk_size: u32,
    /// The streams, each of which brings the whole tree.
    #[cfg_attr(test, schemars(length(min = 1, max = "STREAMS_MAX")))]
    pub streams: Vec<Stream>,
}

/// A tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// Its content digest.
    #[cfg_attr(test, schemars(schema_with = "schema::digest"))]
    pub digest: Digest,
    /// Sum of the sizes of its regular files, in bytes.
    #[cfg_attr(test, schemars(range(max = "BYTES_MAX")))]
    pub bytes: u64,
    /// Entries, the root included.
    #[cfg_attr(test, schemars(range(min = 1, max = "ENTRIES_MAX")))]
    pub entries: u64,
}

/// Entries that need permission, by their path from the root of the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// Character and block devices.
    #[cfg_attr(test, schemars(schema_with = "schema::paths"))]
    pub devices: Vec<String>,
    /// Files with the setuid or setgid bit.
    #[cfg_attr(test, schemars(schema_with = "schema::paths"))]
    pub setuid: Vec<String>,
    /// Files with capabilities.
    #[cfg_attr(test, schemars(schema_with = "schema::paths"))]
    pub capabilities: Vec<String>,
}

/// One send stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Its file name, beside the manifest.
    #[cfg_attr(test, schemars(schema_with = "schema::file"))]
    pub file: String,
    /// Length of the file, in bytes.
    #[cfg_attr(test, schemars(range(min = 1, max = "STREAM_BYTES_MAX")))]
    pub size: u64,
    /// SHA-256 of the file.
    #[cfg_attr(test, schemars(schema_with = "schema::digest"))]
    pub sha256: Digest,
    /// SHA-256 of each chunk of the file.
    #[cfg_attr(test, schemars(schema_with = "schema::chunks"))]
    pub chunks: Vec<Digest>,
    /// How the file is compressed.
    pub compression: Compression,
    /// Length of the send stream within, in bytes.
    #[cfg_attr(test, schemars(range(min = 1, max = "STREAM_BYTES_MAX")))]
    pub stream_bytes: u64,
    /// File content it brings, in bytes, uncompressed, without what it clones.
    #[cfg_attr(test, schemars(range(max = "BYTES_MAX")))]
    pub content_bytes: u64,
    /// UUID of the subvolume that was sent.
    #[cfg_attr(test, schemars(schema_with = "schema::uuid"))]
    pub uuid: Uuid,
    /// What it builds on; none is a full stream.
    pub parent: Option<Parent>,
}

/// How a stream's file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    None,
    /// Zstandard frames.
    Zstd,
}

/// The version an incremental stream builds on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Its version.
    #[cfg_attr(test, schemars(schema_with = "schema::version"))]
    pub version: Version,
    /// UUID it has in the stream; a device's copy has it as received UUID.
    #[cfg_attr(test, schemars(schema_with = "schema::uuid"))]
    pub uuid: Uuid,
    /// Its content digest.
    #[cfg_attr(test, schemars(schema_with = "schema::digest"))]
    pub digest: Digest,
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_LEN`].
    #[error("the manifest is {0} bytes long; at most {MAX_LEN} are read")]
    TooLong(usize),
    /// A field has a value that it can't have, or the file is no manifest at all.
    #[error("{field}: {why}")]
    Field {
        /// Which, as `streams[0].file`; `manifest` for the whole.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

/// An entry of a tree that its manifest does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is {kind}, which the manifest does not allow", path.escape_ascii())]
pub struct NotAllowed {
    /// Path from the root of the tree.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
}

/// What every schema of the file has.
#[derive(Deserialize)]
struct Probe {
    schema: u32,
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ManifestError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json);
    let value = value.map_err(|why| {
        let field = match why.path().to_string() {
            path if path == "." => WHOLE.to_owned(),
            path => printable(&path),
        };
        let why = printable(&why.inner().to_string());
        ManifestError::Field { field, why }
    })?;
    json.end().map_err(|why| ManifestError::Field {
        field: WHOLE.to_owned(),
        why: why.to_string(),
    })?;
    Ok(value)
}

/// The name of the whole, where no field is at fault.
const WHOLE: &str = "manifest";

/// A message that may quote the file: on one line of a bounded length.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    let mut short: String = text.chars().take(300).map(plain).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

impl Manifest {
    /// Reads a manifest, of which nothing is believed: bounded, and every field is checked.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_LEN {
            return Err(ManifestError::TooLong(bytes.len()));
        }
        // Before the rest, which another schema has other names for.
        let Probe { schema } = read(bytes)?;
        if schema != SCHEMA {
            check::schema(schema)?;
        }
        let manifest: Self = read(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether the fields are what [`Manifest::parse`] accepts, but for the
    /// length of the whole.
    pub fn check(&self) -> Result<(), ManifestError> {
        check::manifest(self)
    }

    /// The file: JSON for people to read, its fields always in the same order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The stream with this file name.
    pub fn stream_by_file(&self, name: &str) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.file == name)
    }

    /// The stream whose file begins with these bytes: its first chunk, or all
    /// of a file that is shorter.
    pub fn stream_by_first_chunk(&self, first: &[u8]) -> Option<&Stream> {
        let digest = Digest(Sha256::digest(first).into());
        self.streams
            .iter()
            .find(|stream| stream.chunks.first() == Some(&digest))
    }
}

impl Allow {
    /// Whether everything that was found is listed; else the first that is not.
    pub fn permits(&self, found: &[Privileged]) -> Result<(), NotAllowed> {
        let listed = |entry: &&Privileged| {
            let list = match entry.kind {
                Kind::Device => &self.devices,
                Kind::Setuid => &self.setuid,
                Kind::Capability => &self.capabilities,
            };
            !list.iter().any(|path| path.as_bytes() == entry.path)
        };
        found.iter().find(listed).map_or(Ok(()), |entry| {
            Err(NotAllowed {
                path: entry.path.clone(),
                kind: entry.kind,
            })
        })
    }
}
