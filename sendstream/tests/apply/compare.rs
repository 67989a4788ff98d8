//! What a tree holds.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Which times count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    All,
    NotOfRoot,
}

/// Everything about an entry that a stream carries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    mode: u32,
    owner: (u32, u32),
    times: Option<[(i64, i64); 2]>,
    device: u64,
    size: u64,
    /// The first path that leads to the same file, and how many do.
    links: (PathBuf, u64),
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    content: u32,
    target: PathBuf,
}

/// The entries of a tree by their paths, the root as the empty one.
pub(crate) fn entries(root: &Path, times: Times) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    let mut first = HashMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let kind = meta.file_type();
        if kind.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&full)
                .unwrap()
                .map(|entry| path.join(entry.unwrap().file_name()))
                .collect();
            names.sort();
            left.extend(names);
        }
        let first = first.entry(meta.ino()).or_insert_with(|| path.clone());
        let counts = times == Times::All || path != Path::new("");
        let is_device = kind.is_char_device() || kind.is_block_device();
        let entry = Entry {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            times: counts.then(|| {
                [
                    (meta.atime(), meta.atime_nsec()),
                    (meta.mtime(), meta.mtime_nsec()),
                ]
            }),
            device: if is_device { meta.rdev() } else { 0 },
            size: if kind.is_dir() { 0 } else { meta.size() },
            links: (first.clone(), meta.nlink()),
            attributes: attributes(&full),
            content: if kind.is_file() {
                crc32c::crc32c(&fs::read(&full).unwrap())
            } else {
                0
            },
            target: fs::read_link(&full).unwrap_or_default(),
        };
        found.insert(path, entry);
    }
    found
}

fn attributes(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut found: Vec<_> = names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 64 * 1024];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (name.to_owned(), value)
        })
        .collect();
    found.sort();
    found
}
