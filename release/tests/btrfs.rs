//! The tree digest on a real Btrfs. Needs root; each test has a mount namespace
//! and a disk of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::symlink;

use op_dbus_loopback::sh;
use op_dbus_release::tree::{Cache, digest, survey};

#[allow(dead_code, reason = "shared with the benchmark")]
#[path = "common/mod.rs"]
mod common;
use common::{Disk, find};

/// 1 MiB that occurs nowhere else.
fn pattern() -> Vec<u8> {
    (0..65_536_u64)
        .flat_map(|number| [number ^ 0x0123_4567_89ab_cdef, number.rotate_left(23) ^ !0])
        .flat_map(u64::to_le_bytes)
        .collect()
}

/// Memory may still hold what the disk has lost: this is why a device that has
/// received a version reads it back past the cache.
#[test]
fn with_the_cache_dropped_it_is_the_disk_that_is_read() {
    let Some(disk) = Disk::new(256) else {
        return;
    };
    let tree = disk.path("tree");
    op_dbus_btrfs::create_subvolume(&tree).unwrap();
    fs::write(tree.join("app"), pattern()).unwrap();
    op_dbus_btrfs::sync_filesystem(&tree).unwrap();
    let good = digest(&tree, Cache::Drop).unwrap();
    assert_eq!(digest(&tree, Cache::Keep).unwrap(), good);

    let at = find(&disk.image(), &pattern()[..4096]).unwrap();
    let mut image = fs::File::options().write(true).open(disk.image()).unwrap();
    image.seek(SeekFrom::Start(at + 100)).unwrap();
    image.write_all(b"damage").unwrap();
    image.sync_all().unwrap();

    assert_eq!(digest(&tree, Cache::Keep).unwrap(), good, "from memory");
    let error = digest(&tree, Cache::Drop).unwrap_err();
    assert_eq!(error.path, tree.join("app"));
    // Btrfs' own checksum does not fit.
    assert_eq!(error.source.raw_os_error(), Some(nix::libc::EIO), "{error}");
    survey(&tree).unwrap();
}

#[test]
fn how_a_tree_is_stored_does_not_count() {
    let Some(disk) = Disk::new(256) else {
        return;
    };
    let fill = |name: &str| {
        let tree = disk.path(name);
        op_dbus_btrfs::create_subvolume(&tree).unwrap();
        tree
    };
    let plain = fill("plain");
    let mut content = pattern();
    content.extend(vec![0; 1 << 20]);
    content.extend_from_slice(b"end");
    for name in ["a", "b", "c"] {
        fs::write(plain.join(name), &content).unwrap();
    }
    let base = digest(&plain, Cache::Keep).unwrap();

    let stored = fill("stored");
    let at = |name: &str| stored.join(name).to_str().unwrap().to_owned();
    fs::write(at("c"), b"").unwrap();
    sh(
        "btrfs",
        &["property", "set", &at("c"), "compression", "zstd"],
    );
    fs::write(at("c"), &content).unwrap();
    // A hole instead of zeros, a hard link, another order of creation.
    sh("cp", &["--sparse=always", &at("c"), &at("a")]);
    fs::hard_link(at("a"), at("b")).unwrap();
    op_dbus_btrfs::sync_filesystem(&stored).unwrap();
    assert_eq!(digest(&stored, Cache::Drop).unwrap(), base);

    let snapshot = disk.path("snapshot");
    op_dbus_btrfs::snapshot(&stored, &snapshot, true).unwrap();
    assert_eq!(digest(&snapshot, Cache::Drop).unwrap(), base);
}

#[test]
fn what_belongs_to_another_subvolume_is_refused() {
    let Some(disk) = Disk::new(256) else {
        return;
    };
    let tree = disk.path("tree");
    op_dbus_btrfs::create_subvolume(&tree).unwrap();
    fs::create_dir(tree.join("dir")).unwrap();
    op_dbus_btrfs::create_subvolume(&tree.join("dir/inner")).unwrap();
    for error in [
        digest(&tree, Cache::Keep).unwrap_err(),
        survey(&tree).unwrap_err(),
    ] {
        assert_eq!(error.path, tree.join("dir/inner"));
        assert!(error.to_string().contains("another subvolume"), "{error}");
    }
    // A link to it is only a link.
    fs::rename(tree.join("dir/inner"), disk.path("outside")).unwrap();
    symlink(disk.path("outside"), tree.join("dir/inner")).unwrap();
    assert_eq!(digest(&tree, Cache::Keep).unwrap().tree.entries, 3);
}
