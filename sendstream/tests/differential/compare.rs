//! Tells in words every difference between two trees.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use op_dbus_btrfs::SubvolInfo;

use crate::look::{Look, data, names, shown};

/// What is looked at beyond types, modes, owners, times, links and content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Two that were received from one stream: everything.
    All,
    /// A received tree and the one that was sent: a stream carries neither
    /// attributes like "no copy-on-write", nor which zeroes are holes.
    Sent,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Path in the tree, from its root on; none of a whole subvolume.
    pub(crate) path: String,
    /// What differs.
    pub(crate) fact: String,
    /// How it is on the left, and on the right.
    pub(crate) values: [String; 2],
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [left, right] = &self.values;
        write!(
            f,
            "{}: {}: {left}, in the other {right}",
            self.path, self.fact
        )
    }
}

/// Every difference, path by path; none if the trees are equal.
pub(crate) fn trees(left: &Path, right: &Path, depth: Depth) -> Vec<Difference> {
    let mut comparison = Comparison {
        roots: [left, right],
        depth,
        found: Vec::new(),
        first: [BTreeMap::new(), BTreeMap::new()],
    };
    comparison.paths(Path::new(""));
    comparison.found
}

struct Comparison<'a> {
    roots: [&'a Path; 2],
    depth: Depth,
    found: Vec<Difference>,
    /// For each side: the first path of every file that has more than one.
    first: [BTreeMap<u64, PathBuf>; 2],
}

impl Comparison<'_> {
    fn tell(&mut self, path: &Path, fact: &str, values: [&str; 2]) {
        self.found.push(Difference {
            path: format!("/{}", shown(path.as_os_str().as_bytes())),
            fact: fact.to_owned(),
            values: values.map(str::to_owned),
        });
    }

    fn full(&self, path: &Path) -> [PathBuf; 2] {
        // Joining an empty path would add a slash.
        self.roots
            .map(|root| root.components().chain(path.components()).collect())
    }

    fn paths(&mut self, path: &Path) {
        let full = self.full(path);
        let looks = [Look::at(&full[0]), Look::at(&full[1])];
        self.facts(path, &looks);
        self.groups(path, &looks);
        if looks[0].kind != looks[1].kind {
            return;
        }
        match looks[0].kind {
            "file" => self.content(path, &full),
            "directory" => self.entries(path, &full),
            _ => {}
        }
    }

    fn facts(&mut self, path: &Path, [left, right]: &[Look; 2]) {
        let keys = left.facts.keys().chain(right.facts.keys());
        let keys: BTreeSet<_> = keys.collect();
        for key in keys {
            if self.depth == Depth::Sent && matches!(key.as_str(), "attributes" | "data at") {
                continue;
            }
            let values = [left, right].map(|look| look.facts.get(key));
            if values[0] != values[1] {
                let values = values.map(|value| value.map_or("none", String::as_str));
                self.tell(path, key, values);
            }
        }
    }

    /// Which names are one file must be the same on both sides.
    fn groups(&mut self, path: &Path, looks: &[Look; 2]) {
        let mut partners: [Option<PathBuf>; 2] = [None, None];
        for ((look, first), partner) in looks.iter().zip(&mut self.first).zip(&mut partners) {
            if look.links > 1 && look.kind != "directory" {
                let known = first.entry(look.inode).or_insert_with(|| path.to_owned());
                *partner = Some(known.clone());
            }
        }
        // That one is linked and the other not, the number of links tells.
        if let [Some(left), Some(right)] = &partners {
            if left != right {
                let values = [left, right].map(|path| shown(path.as_os_str().as_bytes()));
                self.tell(path, "hard link of", [&values[0], &values[1]]);
            }
        }
    }

    fn content(&mut self, path: &Path, full: &[PathBuf; 2]) {
        let [left, right] = [&full[0], &full[1]].map(|path| File::open(path).unwrap());
        let sizes = [&left, &right].map(|file| file.metadata().unwrap().len());
        let size = sizes[0].min(sizes[1]);
        // What is a hole on both sides need not be read.
        let mut ranges = data(&left, size);
        ranges.extend(data(&right, size));
        ranges.sort_unstable();
        let mut done = 0;
        for (from, to) in ranges {
            let from = from.max(done);
            if let Some(at) = first_difference(&left, &right, from, to.min(size)) {
                let values = [&left, &right].map(|file| glimpse(file, at));
                self.tell(path, "content", [&values[0], &values[1]]);
                return;
            }
            done = done.max(to);
        }
    }

    fn entries(&mut self, path: &Path, full: &[PathBuf; 2]) {
        let [left, right] = [names(&full[0]), names(&full[1])];
        for name in &left {
            if right.binary_search(name).is_ok() {
                self.paths(&path.join(name));
            } else {
                self.tell(&path.join(name), "exists", ["yes", "no"]);
            }
        }
        for name in right
            .iter()
            .filter(|name| left.binary_search(name).is_err())
        {
            self.tell(&path.join(name), "exists", ["no", "yes"]);
        }
    }
}

/// What a file contains at a place.
fn glimpse(file: &File, at: u64) -> String {
    let mut bytes = [0; 16];
    let length = file.read_at(&mut bytes, at).unwrap();
    format!("from byte {at} on {}", shown(&bytes[..length]))
}

fn first_difference(left: &File, right: &File, from: u64, to: u64) -> Option<u64> {
    let mut buffers = [vec![0; 256 << 10], vec![0; 256 << 10]];
    let mut at = from;
    while at < to {
        let room = buffers[0].len() as u64;
        let length = usize::try_from(room.min(to - at)).unwrap();
        for (file, buffer) in [left, right].iter().zip(&mut buffers) {
            file.read_exact_at(&mut buffer[..length], at).unwrap();
        }
        if buffers[0][..length] != buffers[1][..length] {
            let same = buffers[0]
                .iter()
                .zip(&buffers[1])
                .take_while(|(a, b)| a == b);
            return Some(at + same.count() as u64);
        }
        at += length as u64;
    }
    None
}

/// Whether two received subvolumes are the same to Btrfs.
pub(crate) fn subvolumes(left: &SubvolInfo, right: &SubvolInfo) -> Vec<Difference> {
    let facts = |info: &SubvolInfo| {
        [
            ("flags", format!("{:#x}", info.flags)),
            ("received UUID", format!("{:02x?}", info.received_uuid)),
            ("sent transaction", info.stransid.to_string()),
            ("is a snapshot", (info.parent_uuid != [0; 16]).to_string()),
            (
                "has a receive transaction",
                (info.rtransid != 0).to_string(),
            ),
        ]
    };
    facts(left)
        .into_iter()
        .zip(facts(right))
        .filter(|(one, two)| one != two)
        .map(|((what, one), (_, two))| Difference {
            path: "subvolume".to_owned(),
            fact: what.to_owned(),
            values: [one, two],
        })
        .collect()
}

/// The first so many lines, and how many more there are.
pub(crate) fn report(found: &[Difference]) -> String {
    let lines = found.iter().take(40).map(|found| format!("\n  {found}"));
    let more = found.len().saturating_sub(40);
    let rest = (more > 0).then(|| format!("\n  … and {more} more"));
    lines.chain(rest).collect()
}
