//! Where on a store's disk a scenario's requests fail.
//!
//! Files and subvolumes are looked up in the store itself, by the tools of its
//! file system: extents have addresses of their own in Btrfs, which
//! `btrfs-map-logical` turns into those of the disk.

use std::path::Path;

use crate::error::{Error, Result};
use crate::hardware::{Fault, Io};
use crate::sandbox::Mounted;
use crate::scenario::Fail;
use crate::tool::Tool;

/// Bytes of a sector, as the tools and QEMU count them.
const SECTOR: u64 = 512;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// The rules for `fail` on the store in the image `disk`, which is not in use.
pub fn find(fail: &Fail, disk: &Path) -> Result<Vec<Fault>> {
    let unknown = |what: &str, word: &str| Error::Scenario(format!("'{word}' is no {what}"));
    let io = match fail.io.as_str() {
        "read" => Io::Read,
        "write" => Io::Write,
        "flush" => Io::Flush,
        other => return Err(unknown("kind of request", other)),
    };
    let errno = match fail.error.as_str() {
        "" | "EIO" => EIO,
        "ENOSPC" => ENOSPC,
        other => return Err(unknown("error of a disk", other)),
    };
    let once = match fail.which.as_str() {
        "" | "all" => false,
        "first" => true,
        other => return Err(unknown("choice of requests", other)),
    };
    let rule = |sector| Fault {
        io,
        sector,
        errno,
        once,
    };
    if fail.files.is_empty() && fail.roots.is_empty() {
        return Ok(vec![rule(None)]);
    }
    let mut logical = Vec::new();
    let mut ids = Vec::new();
    {
        let mounted = Mounted::image(disk, "ro,subvol=@op-dbus")?;
        for name in &fail.files {
            let path = mounted.path().join(name);
            let map = Tool::new("filefrag")
                .args(["-b512", "-v"])
                .arg(path)
                .run()?;
            logical.push(first_extent(&map).ok_or_else(|| unexpected("filefrag", name))? * SECTOR);
        }
        for name in &fail.roots {
            let path = mounted.path().join(name);
            let id = Tool::new("btrfs")
                .args(["inspect-internal", "rootid"])
                .arg(path)
                .run()?;
            ids.push(id.trim().to_owned());
        }
        mounted.close()?;
    }
    if !ids.is_empty() {
        let tree = Tool::new("btrfs")
            .args(["inspect-internal", "dump-tree", "-t", "root"])
            .arg(disk)
            .run()?;
        for id in ids {
            logical.push(root_of(&tree, &id).ok_or_else(|| unexpected("dump-tree", &id))?);
        }
    }
    logical
        .into_iter()
        .map(|address| Ok(rule(Some(on_disk(address, disk)? / SECTOR))))
        .collect()
}

fn unexpected(tool: &str, about: &str) -> Error {
    Error::Host(format!("{tool} does not tell where {about} is"))
}

fn on_disk(logical: u64, disk: &Path) -> Result<u64> {
    let map = Tool::new("btrfs-map-logical")
        .args(["-l", &logical.to_string()])
        .arg(disk)
        .run()?;
    physical(&map, logical).ok_or_else(|| unexpected("btrfs-map-logical", &logical.to_string()))
}

/// The first extent's place in the output of `filefrag -v`, whose lines are
/// `0: first.. last: place.. place: length: flags`.
fn first_extent(map: &str) -> Option<u64> {
    let line = map
        .lines()
        .find(|line| line.trim_start().starts_with("0:"))?;
    let place = line.split(':').nth(2)?;
    place.split("..").next()?.trim().parse().ok()
}

/// The address of the root block of tree `id` in the dump of the root tree.
fn root_of(tree: &str, id: &str) -> Option<u64> {
    let key = format!("key ({id} ROOT_ITEM");
    let mut lines = tree.lines().skip_while(|line| !line.contains(&key)).skip(1);
    let words = lines.find(|line| line.contains("bytenr"))?;
    let mut words = words.split_whitespace();
    words.find(|word| *word == "bytenr")?;
    words.next()?.parse().ok()
}

fn physical(map: &str, logical: u64) -> Option<u64> {
    let logical = logical.to_string();
    let line = map.lines().find(|line| {
        let mut words = line.split_whitespace();
        words.find(|word| *word == "logical").and(words.next()) == Some(&logical)
    })?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == "physical")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_are_understood() {
        let map = "Filesystem type is: 9123683e\n\
                   File size of boot/record.0 is 4096 (8 blocks of 512 bytes)\n \
                   ext:     logical_offset:        physical_offset: length:   expected: flags:\n   \
                   0:        0..       7:      26624..     26631:      8:             last,eof\n";
        assert_eq!(first_extent(map), Some(26_624));
        let tree = "\titem 11 key (256 ROOT_ITEM 0) itemoff 12958 itemsize 439\n\
                    \t\tgeneration 28 root_dirid 256 bytenr 5783552 byte_limit 0\n\
                    \titem 15 key (258 ROOT_ITEM 14) itemoff 12445 itemsize 439\n\
                    \t\tgeneration 15 root_dirid 256 bytenr 6209536 byte_limit 0\n";
        assert_eq!(root_of(tree, "258"), Some(6_209_536));
        assert_eq!(root_of(tree, "25"), None);
        let map = "mirror 1 logical 6209536 physical 5161 device x\n\
                   mirror 1 logical 6213632 physical 9257 device x\n";
        assert_eq!(physical(map, 6_213_632), Some(9257));
    }
}
