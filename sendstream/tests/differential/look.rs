//! Everything the file system tells of one file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// One file of a tree, but for what a regular file contains.
pub(crate) struct Look {
    /// Facts in words, by name: all of them have to be equal.
    pub(crate) facts: BTreeMap<String, String>,
    /// What makes two names one file.
    pub(crate) inode: u64,
    pub(crate) links: u64,
    pub(crate) kind: &'static str,
}

impl Look {
    pub(crate) fn at(path: &Path) -> Self {
        let meta = fs::symlink_metadata(path).unwrap();
        let kind = kind(&meta);
        let mut facts = BTreeMap::new();
        let mut fact = |name: &str, value: String| facts.insert(name.to_owned(), value);
        fact("type", kind.to_owned());
        fact("mode", format!("{:04o}", meta.mode() & 0o7777));
        fact("owner", format!("{}:{}", meta.uid(), meta.gid()));
        fact("links", meta.nlink().to_string());
        fact("device number", format!("{:#x}", meta.rdev()));
        fact(
            "mtime",
            format!("{}.{:09}", meta.mtime(), meta.mtime_nsec()),
        );
        fact(
            "atime",
            format!("{}.{:09}", meta.atime(), meta.atime_nsec()),
        );
        // A directory's size is that of its names, a symlink's its target's.
        fact("size", meta.size().to_string());
        if kind == "symlink" {
            let target = fs::read_link(path).unwrap().into_os_string();
            fact("target", shown(&target.into_vec()));
        }
        for (name, value) in xattrs(path) {
            fact(&format!("xattr {name}"), value);
        }
        if matches!(kind, "file" | "directory") {
            let file = File::open(path).unwrap();
            let flags = rustix::fs::ioctl_getflags(&file).unwrap();
            fact("attributes", format!("{flags:?}"));
            if kind == "file" {
                fact("data at", format!("{:?}", data(&file, meta.size())));
            }
        }
        Self {
            facts,
            inode: meta.ino(),
            links: meta.nlink(),
            kind,
        }
    }
}

/// Bytes in a form that fits a line.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    match text.char_indices().nth(90) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], bytes.len()),
        None => text,
    }
}

fn kind(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    if kind.is_dir() {
        "directory"
    } else if kind.is_file() {
        "file"
    } else if kind.is_symlink() {
        "symlink"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_char_device() {
        "character device"
    } else {
        "block device"
    }
}

/// Extended attributes of all name spaces, ACLs and capabilities among them.
fn xattrs(path: &Path) -> BTreeMap<String, String> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    names.truncate(length);
    let names = names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (shown(name), value[..length].escape_ascii().to_string())
        })
        .collect()
}

/// The ranges of a file that are data, as `SEEK_DATA` and `SEEK_HOLE` tell.
pub(crate) fn data(file: &File, size: u64) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size {
        let from = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(from) => from,
            Err(Errno::NXIO) => break,
            Err(why) => panic!("SEEK_DATA: {why}"),
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(from)).unwrap();
        ranges.push((from, at));
    }
    ranges
}

/// Names in a directory, in the order of their bytes.
pub(crate) fn names(dir: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    names
}
