//! Whether a release fits, with something left for the running system.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use op_dbus_release::manifest::{Manifest, Stream, Tree};

/// What is kept free by default: a twentieth of the file system, within bounds.
const HEADROOM_LEAST: u64 = 32 << 20;
const HEADROOM_MOST: u64 = 1 << 30;
const HEADROOM_PART: u64 = 20;
/// What an entry costs beside its content: the rest of its last block, its inode
/// and names, twice where metadata is duplicated.
const ENTRY: u64 = 4 << 10;
/// Least room the commands about one changed entry take in a stream: three
/// headers, a path and the times.
const COMMANDS: u64 = 64;
/// Checksums and extent items, as a part of the content.
const CONTENT_PART: u64 = 128;

/// Bytes a stream will take on the disk, about. File content that turns out to
/// be compressed or shared takes less, never much more.
pub(crate) fn needed(stream: &Stream, tree: &Tree) -> u64 {
    let content = stream.content_bytes;
    // An increment touches few entries, but its manifest counts those of the tree.
    let entries = match stream.stream_bytes.checked_sub(content) {
        Some(commands) => tree.entries.min(commands / COMMANDS),
        None => tree.entries,
    };
    content
        .saturating_add(content / CONTENT_PART)
        .saturating_add(entries.saturating_mul(ENTRY))
}

/// Bytes to keep free on a file system of this size.
pub(crate) fn headroom(filesystem: u64, configured_mib: Option<u32>) -> u64 {
    match configured_mib {
        Some(mib) => u64::from(mib) << 20,
        None => (filesystem / HEADROOM_PART).clamp(HEADROOM_LEAST, HEADROOM_MOST),
    }
}

/// How often a transfer looks how much is left.
const LOOK: Duration = Duration::from_millis(200);

/// What is kept free while a release is received: it was found to fit before, so
/// only who else writes meanwhile takes more, or an estimate that was a little low.
/// For that much a download of hours is not thrown away.
pub(crate) fn floor(headroom: u64) -> u64 {
    headroom - headroom / 8
}

/// Fails if less than that is left where a path lies. What was written and is still
/// in memory only does not show: so this is asked once more after the sync.
pub(crate) fn require(path: &std::path::Path, floor: u64) -> io::Result<()> {
    let found = rustix::fs::statvfs(path)?;
    let available = found.f_bavail.saturating_mul(found.f_frsize);
    if available >= floor {
        return Ok(());
    }
    let why = format!(
        "{} MiB are kept free for the running system, and meanwhile {} MiB are left",
        mib(floor),
        available >> 20
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, why))
}

/// A stream that ends with an error when the disk gets too full while it is read.
pub(crate) struct Watched<R> {
    source: R,
    path: PathBuf,
    floor: u64,
    looked: Option<Instant>,
}

impl<R> Watched<R> {
    /// Watches the space where a path lies.
    pub(crate) fn new(source: R, path: impl Into<PathBuf>, floor: u64) -> Self {
        Self {
            source,
            path: path.into(),
            floor,
            looked: None,
        }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            require(&self.path, self.floor)?;
            self.looked = Some(Instant::now());
        }
        self.source.read(buffer)
    }
}

/// Bytes as MiB, rounded up: a number for people who have to make room.
pub(crate) fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// What would help when a stream does not fit.
pub(crate) fn remedy(manifest: &Manifest, stream: &Stream) -> String {
    let need = needed(stream, &manifest.tree);
    let mut smaller: Vec<_> = manifest
        .streams
        .iter()
        .filter(|other| needed(other, &manifest.tree) < need / 2)
        .collect();
    smaller.sort_by_key(|other| needed(other, &manifest.tree));
    let free = "free some space in the store's file system (op-dbus-stage prune), or lower [receive] headroom_mib";
    let other = smaller.iter().find_map(|other| {
        let parent = other.parent.as_ref()?;
        Some(format!(
            ", or take {} (about {} MiB, builds on {})",
            other.file,
            mib(needed(other, &manifest.tree)),
            parent.version
        ))
    });
    format!("{free}{}", other.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::{Digest, Uuid};
    use op_dbus_release::manifest::Compression;

    const MIB: u64 = 1 << 20;

    fn stream(stream_bytes: u64, content_bytes: u64) -> Stream {
        Stream {
            file: "v1.0.0.btrfs".to_owned(),
            size: 1,
            sha256: Digest([0; 32]),
            chunks: vec![Digest([0; 32])],
            compression: Compression::Zstd,
            stream_bytes,
            content_bytes,
            uuid: Uuid([1; 16]),
            parent: None,
        }
    }

    fn tree(entries: u64) -> Tree {
        Tree {
            digest: Digest([0; 32]),
            bytes: 0,
            entries,
        }
    }

    #[test]
    fn content_and_entries_count() {
        let tree = tree(10_000);
        let whole = needed(&stream(310 * MIB, 300 * MIB), &tree);
        assert_eq!(whole, 300 * MIB + 300 * MIB / 128 + 10_000 * 4096);
        // A small step on the same tree touches few of its entries.
        let step = needed(&stream(MIB + 6400, MIB), &tree);
        assert_eq!(step, MIB + MIB / 128 + 100 * 4096);
        // Of a stream that holds compressed extents that can't be told.
        let packed = needed(&stream(100 * MIB, 300 * MIB), &tree);
        assert_eq!(packed, whole);
        assert_eq!(needed(&stream(0, u64::MAX), &tree), u64::MAX);
    }

    #[test]
    fn headroom_grows_with_the_file_system_within_bounds() {
        for (filesystem, expected) in [
            (0, 32 * MIB),
            (256 * MIB, 32 * MIB),
            (2000 * MIB, 100 * MIB),
            (1 << 40, 1 << 30),
        ] {
            assert_eq!(headroom(filesystem, None), expected);
            assert_eq!(headroom(filesystem, Some(7)), 7 * MIB);
        }
    }

    #[test]
    fn a_stream_ends_where_the_disk_gets_too_full() {
        let read = |floor| {
            let mut text = String::new();
            let mut watched = Watched::new(&b"content"[..], "/", floor);
            watched.read_to_string(&mut text).map(|_| text)
        };
        assert_eq!(read(0).unwrap(), "content");
        let why = read(u64::MAX).unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::StorageFull);
        assert!(why.to_string().contains("are kept free"), "{why}");
        assert_eq!(floor(32 * MIB), 28 * MIB);
    }

    #[test]
    fn a_need_is_never_told_too_small() {
        assert_eq!((mib(0), mib(1), mib(MIB), mib(MIB + 1)), (0, 1, 1, 2));
    }
}
