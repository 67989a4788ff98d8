//! Which places on disk a tree's files lie in, as the file system records it.
//!
//! Read with `BTRFS_IOC_TREE_SEARCH_V2` from the subvolume's own tree: FIEMAP
//! tells no offsets within compressed extents, without which partly shared ones
//! can't be measured. Structures: `uapi/linux/btrfs.h`, `btrfs_tree.h`.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use crate::compare::Difference;

/// `struct btrfs_ioctl_search_args_v2` without the buffer behind it: thirteen
/// words of key and the buffer's size.
const HEAD: usize = 14;
const BUFFER: usize = 64 << 10;
const INODE_ITEM: u32 = 1;
const EXTENT_DATA: u32 = 108;
const INLINE: u8 = 0;

nix::ioctl_readwrite!(ioc_tree_search_v2, 0x94, 17, [u64; HEAD]);

/// One item of the subvolume's tree.
struct Item {
    objectid: u64,
    kind: u32,
    offset: u64,
    data: Vec<u8>,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// All items of the kinds wanted.
fn search(root: &Path, first: u64, last: u64, mut each: impl FnMut(Item)) {
    let dir = File::open(root).unwrap();
    let mut buffer = vec![0u64; HEAD + BUFFER / 8];
    let (mut objectid, mut kind, mut offset) = (first, 0u32, 0u64);
    loop {
        buffer[..HEAD].copy_from_slice(&[
            0, // the tree of the subvolume that is open
            objectid,
            last,
            offset,
            u64::MAX,
            0,
            u64::MAX,
            u64::from(kind) | u64::from(u32::MAX) << 32,
            u64::from(u32::MAX), // as many items as fit
            0,
            0,
            0,
            0,
            BUFFER as u64,
        ]);
        let at = buffer.as_mut_ptr().cast::<[u64; HEAD]>();
        // SAFETY: the kernel reads the key and writes at most as many bytes
        // behind it as its last word says, which the buffer has room for.
        unsafe { ioc_tree_search_v2(dir.as_raw_fd(), at) }.unwrap();
        let count = buffer[8] & u64::from(u32::MAX);
        if count == 0 {
            return;
        }
        let bytes: Vec<u8> = buffer[HEAD..]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let mut position = 0;
        for _ in 0..count {
            let header = &bytes[position..position + 32];
            let length = usize::try_from(half(header, 28)).unwrap();
            let item = Item {
                objectid: word(header, 8),
                offset: word(header, 16),
                kind: half(header, 24),
                data: bytes[position + 32..position + 32 + length].to_vec(),
            };
            position += 32 + length;
            (objectid, kind, offset) = (item.objectid, item.kind, item.offset);
            each(item);
        }
        // The key behind the last one seen.
        if let Some(next) = offset.checked_add(1) {
            offset = next;
        } else {
            (kind, offset) = (kind + 1, 0);
        }
    }
}

/// Generation of an inode: the second number in a temporary name of a stream.
pub(crate) fn generation(root: &Path, inode: u64) -> Option<u64> {
    let mut found = None;
    search(root, inode, inode, |item| {
        if item.kind == INODE_ITEM {
            found = Some(word(&item.data, 0));
        }
    });
    found
}

/// Ranges of one extent, as offsets into its content.
type Ranges = Vec<(u64, u64)>;

/// The extents a subvolume refers to.
#[derive(Default)]
pub(crate) struct Extents {
    /// By place on disk: its size there, and the parts that are used.
    used: BTreeMap<u64, (u64, Ranges)>,
    /// Bytes of files that have a place on disk, counted as often as they occur.
    referenced: u64,
}

impl Extents {
    /// Of a subvolume that has been synced.
    pub(crate) fn of(root: &Path) -> Self {
        let mut found = Self::default();
        search(root, 256, u64::MAX - 256, |item| {
            if item.kind == EXTENT_DATA {
                found.add(&item.data);
            }
        });
        for (_, ranges) in found.used.values_mut() {
            merge(ranges);
        }
        found
    }

    /// Takes one `struct btrfs_file_extent_item`.
    fn add(&mut self, data: &[u8]) {
        let kind = data[20];
        if kind == INLINE {
            return;
        }
        let (place, size) = (word(data, 21), word(data, 29));
        let (from, length) = (word(data, 37), word(data, 45));
        if place != 0 {
            self.referenced += length;
            let entry = self.used.entry(place).or_insert((size, Vec::new()));
            entry.1.push((from, from + length));
        }
    }

    /// What is shared, on top of the tree `base` when there is one.
    pub(crate) fn measure(&self, base: Option<&Self>) -> Sharing {
        let mut sharing = Sharing::default();
        for (place, (size, ranges)) in &self.used {
            sharing.disk += size;
            sharing.distinct += length(ranges);
            let before = base.and_then(|base| base.used.get(place));
            if let Some((_, before)) = before {
                sharing.from_base += common(ranges, before);
            }
        }
        sharing.within = self.referenced - sharing.distinct;
        sharing
    }
}

fn merge(ranges: &mut Ranges) {
    ranges.sort_unstable();
    let mut merged: Ranges = Vec::with_capacity(ranges.len());
    for &(from, to) in ranges.iter() {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    *ranges = merged;
}

fn length(ranges: &Ranges) -> u64 {
    ranges.iter().map(|(from, to)| to - from).sum()
}

fn common(left: &Ranges, right: &Ranges) -> u64 {
    let mut sum = 0;
    for (from, to) in left {
        for (other_from, other_to) in right {
            sum += to.min(other_to).saturating_sub(*from.max(other_from));
        }
    }
    sum
}

/// How a tree's content lies on disk, in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sharing {
    /// Content that is stored, each piece once.
    pub(crate) distinct: u64,
    /// Of that, what the tree it builds on refers to as well.
    pub(crate) from_base: u64,
    /// Content that needs no place, because another file or range has it.
    pub(crate) within: u64,
    /// Size on disk of every extent it refers to, compressed ones as they are.
    pub(crate) disk: u64,
}

impl Sharing {
    /// The figures that differ by more than 5 %. Writing in other pieces moves
    /// the borders of extents by some blocks, which weighs in a tiny tree.
    pub(crate) fn differences(&self, other: &Self) -> Vec<Difference> {
        [
            ("bytes stored", self.distinct, other.distinct),
            (
                "bytes shared with its base",
                self.from_base,
                other.from_base,
            ),
            ("bytes shared within", self.within, other.within),
            ("bytes on disk", self.disk, other.disk),
        ]
        .into_iter()
        .filter(|(_, left, right)| left.abs_diff(*right) > (left.max(right) / 20).max(SLACK))
        .map(|(what, left, right)| Difference {
            path: "sharing".to_owned(),
            fact: what.to_owned(),
            values: [left.to_string(), right.to_string()],
        })
        .collect()
    }
}

/// Difference that never counts: a few blocks.
const SLACK: u64 = 16 << 10;
