//! What a manifest's fields may say.
//!
//! The signature says who wrote a manifest, not that it makes sense: these rules
//! keep a mistake of the build system from becoming a path, an allocation or an
//! endless read on a device.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use super::{Allow, Compression, Manifest, ManifestError, Parent, SCHEMA, Stream, Tree};
use crate::tree::{BYTES_MAX, ENTRIES_MAX};

/// Lengths a chunk may have, in bytes; always a power of two.
pub const CHUNK_SIZES: RangeInclusive<u32> = (64 << 10)..=(4 << 20);
/// Streams of one manifest.
pub const STREAMS_MAX: usize = 64;
/// Entries of one allow list.
pub const ALLOW_MAX: usize = 4096;
/// Longest path in an allow list, in bytes (`PATH_MAX` without the final zero).
pub const PATH_LEN_MAX: usize = 4095;
/// Longest file in a manifest and longest stream within, in bytes: 1 TiB.
pub const STREAM_BYTES_MAX: u64 = 1 << 40;
/// Longest product name, in bytes.
pub const PRODUCT_LEN_MAX: usize = 64;
/// Longest file name, in bytes: leaves room for a suffix below the kernel's 255.
pub const FILE_LEN_MAX: usize = 200;

type Checked = Result<(), ManifestError>;

fn refuse(field: impl Into<String>, why: impl Display) -> Checked {
    Err(ManifestError::Field {
        field: field.into(),
        why: why.to_string(),
    })
}

/// What a field says of sizes and counts.
fn within(field: impl Into<String>, value: u64, range: RangeInclusive<u64>) -> Checked {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    refuse(field, format_args!("{value} is not in {least}..={most}"))
}

pub(super) fn manifest(manifest: &Manifest) -> Checked {
    if manifest.schema != SCHEMA {
        return schema(manifest.schema);
    }
    product(&manifest.product)?;
    created(&manifest.created)?;
    tree(&manifest.tree)?;
    allow(&manifest.allow)?;
    let chunk_size = manifest.chunk_size;
    if !(CHUNK_SIZES.contains(&chunk_size) && chunk_size.is_power_of_two()) {
        let (least, most) = CHUNK_SIZES.into_inner();
        let why = format!("{chunk_size} is not a power of two in {least}..={most}");
        return refuse("chunk_size", why);
    }
    if manifest.streams.is_empty() || manifest.streams.len() > STREAMS_MAX {
        let count = manifest.streams.len();
        let why = format!("{count} streams; a manifest has 1 to {STREAMS_MAX}");
        return refuse("streams", why);
    }
    let mut files = BTreeSet::new();
    let mut firsts = BTreeSet::new();
    for (index, stream) in manifest.streams.iter().enumerate() {
        let field = |name: &str| format!("streams[{index}].{name}");
        self::stream(stream, manifest, field)?;
        if !files.insert(&stream.file) {
            let why = format!("{:?} is the file of another stream too", stream.file);
            return refuse(field("file"), why);
        }
        // A stream on standard input is recognised by its first chunk.
        if !firsts.insert(stream.chunks.first()) {
            let why = "begins with the same chunk as another stream";
            return refuse(field("chunks"), why);
        }
    }
    Ok(())
}

pub(super) fn schema(found: u32) -> Checked {
    let why = format!("{found} is another format than {SCHEMA}, which this program reads");
    refuse("schema", why)
}

/// Whether this can be the name of a product; the error's field is `product`.
pub fn product(name: &str) -> Checked {
    let bytes = name.as_bytes();
    let fine = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest = |byte: &u8| fine(byte) || matches!(byte, b'.' | b'-');
    if bytes.first().is_some_and(fine) && bytes.iter().all(rest) && bytes.len() <= PRODUCT_LEN_MAX {
        return Ok(());
    }
    let why =
        "is not 1 to 64 lower-case letters, digits, dots and hyphens, a letter or digit first";
    refuse("product", format_args!("{} {why}", shown(name)))
}

/// A text as it may be printed: escaped, and no longer than a line.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        short.push_str("...");
    }
    format!("\"{short}\"")
}

/// RFC 3339, section 5.6: `2026-11-23T01:22:00Z`, with a fraction or an offset.
fn created(text: &str) -> Checked {
    if rfc3339(text.as_bytes()).is_some() {
        return Ok(());
    }
    let why = "is not a time as 2026-11-23T01:22:00Z";
    refuse("created", format_args!("{} {why}", shown(text)))
}

fn rfc3339(text: &[u8]) -> Option<()> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let shape = date_time.iter().zip(b"0000-00-00T00:00:00");
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    let mut parts = [
        (5, 1..=12),
        (8, 1..=31),
        (11, 0..=23),
        (14, 0..=59),
        (17, 0..=60),
    ]
    .into_iter();
    let in_range =
        parts.all(|(at, range)| number(date_time, at).is_some_and(|n| range.contains(&n)));
    let rest = match rest.strip_prefix(b".") {
        None => rest,
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit());
            let (digits, rest) = fraction.split_at_checked(digits.count())?;
            (1..=9).contains(&digits.len()).then_some(rest)?
        }
    };
    let zone = match rest {
        b"Z" => true,
        [b'+' | b'-', _, _, b':', _, _] => {
            number(rest, 1).is_some_and(|hours| hours <= 23)
                && number(rest, 4).is_some_and(|minutes| minutes <= 59)
        }
        _ => false,
    };
    (shape.into_iter().all(fits) && in_range && zone).then_some(())
}

/// The two digits at a place.
fn number(text: &[u8], at: usize) -> Option<u8> {
    match text.get(at..at.checked_add(2)?)? {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some((tens - b'0') * 10 + (ones - b'0')),
        _ => None,
    }
}

fn tree(tree: &Tree) -> Checked {
    within("tree.entries", tree.entries, 1..=ENTRIES_MAX)?;
    within("tree.bytes", tree.bytes, 0..=BYTES_MAX)
}

fn allow(allow: &Allow) -> Checked {
    for (name, list) in [
        ("devices", &allow.devices),
        ("setuid", &allow.setuid),
        ("capabilities", &allow.capabilities),
    ] {
        if list.len() > ALLOW_MAX {
            let why = format!("{} entries; at most {ALLOW_MAX} are read", list.len());
            return refuse(format!("allow.{name}"), why);
        }
        let mut last: Option<&String> = None;
        for (index, path) in list.iter().enumerate() {
            let field = || format!("allow.{name}[{index}]");
            if !clean(path) {
                let why =
                    "is not a path from the root of the tree, without leading slash, as bin/su";
                return refuse(field(), format_args!("{} {why}", shown(path)));
            }
            // Sorted: one set has one form, and a double entry can't hide.
            if last.is_some_and(|last| last >= path) {
                let why = "does not come after the one before; the list must be sorted";
                return refuse(field(), format_args!("{} {why}", shown(path)));
            }
            last = Some(path);
        }
    }
    Ok(())
}

fn clean(path: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
    path.len() <= PATH_LEN_MAX && path.split('/').all(part)
}

fn stream(stream: &Stream, manifest: &Manifest, field: impl Fn(&str) -> String) -> Checked {
    file(&stream.file, manifest.version.as_str(), field("file"))?;
    within(field("size"), stream.size, 1..=STREAM_BYTES_MAX)?;
    let chunks = stream.size.div_ceil(u64::from(manifest.chunk_size.max(1)));
    if stream.chunks.len() as u64 != chunks {
        let (count, size) = (stream.chunks.len(), stream.size);
        let why = format!("{count} digests; {size} bytes are {chunks} chunks");
        return refuse(field("chunks"), why);
    }
    let bytes = stream.stream_bytes;
    within(field("stream_bytes"), bytes, 1..=STREAM_BYTES_MAX)?;
    if stream.compression == Compression::None && bytes != stream.size {
        let why = format!(
            "{bytes}, but the file has {} and is not compressed",
            stream.size
        );
        return refuse(field("stream_bytes"), why);
    }
    within(field("content_bytes"), stream.content_bytes, 0..=BYTES_MAX)?;
    if stream.uuid.is_nil() {
        return refuse(field("uuid"), "is not set");
    }
    let Some(parent) = &stream.parent else {
        return Ok(());
    };
    self::parent(parent, stream, manifest, field)
}

fn parent(
    parent: &Parent,
    stream: &Stream,
    manifest: &Manifest,
    field: impl Fn(&str) -> String,
) -> Checked {
    if parent.uuid.is_nil() {
        return refuse(field("parent.uuid"), "is not set");
    }
    if parent.uuid == stream.uuid {
        return refuse(field("parent.uuid"), "is the stream's own");
    }
    if parent.version == manifest.version {
        return refuse(field("parent.version"), "is the manifest's own");
    }
    Ok(())
}

/// A name of one component that means nothing to a shell, and none of the
/// files that belong to the manifest itself.
fn file(name: &str, version: &str, field: String) -> Checked {
    let bytes = name.as_bytes();
    let rest = |byte: &u8| byte.is_ascii_alphanumeric() || b"._+-".contains(byte);
    let first = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
    if !first || !bytes.iter().all(rest) || bytes.len() > FILE_LEN_MAX {
        let why = "is not a plain file name: 1 to 200 ASCII letters, digits and . _ + -, \
                   a letter or digit first";
        return refuse(field, format_args!("{} {why}", shown(name)));
    }
    let own = [".json", ".json.asc", ".sha256"];
    if own
        .into_iter()
        .any(|suffix| name.strip_suffix(suffix) == Some(version))
    {
        let why = "is the name of one of the manifest's own files";
        return refuse(field, format_args!("{} {why}", shown(name)));
    }
    Ok(())
}
