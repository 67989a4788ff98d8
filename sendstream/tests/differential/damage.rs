//! The comparison notices each kind of difference, and nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use op_dbus_btrfs::{SubvolInfo, info_of, set_read_only, snapshot};
use op_dbus_loopback::Volume;
use rustix::fs::{FallocateFlags, FileType, IFlags};

use crate::compare::{self, Depth, Difference, trees};
use crate::extents::Extents;
use crate::lab::{Backing, Lab};
use crate::make::{self, Rng};

/// A tree with one of everything.
fn sound(root: &Path) {
    op_dbus_btrfs::create_subvolume(root).unwrap();
    let mut rng = Rng::new(1);
    fs::create_dir_all(root.join("dir/below")).unwrap();
    make::file(&root.join("file"), &rng.bytes(200_000)).unwrap();
    make::file(&root.join("dir/sparse"), b"start").unwrap();
    make::write(&root.join("dir/sparse"), 1 << 20, &rng.bytes(100_000)).unwrap();
    for name in ["1", "2", "3", "4"] {
        make::file(&root.join(name), b"alike").unwrap();
    }
    // Two pairs, alike but for who is linked with whom.
    make::file(&root.join("pair-a1"), b"alike").unwrap();
    make::file(&root.join("pair-b1"), b"alike").unwrap();
    fs::hard_link(root.join("pair-a1"), root.join("pair-a2")).unwrap();
    fs::hard_link(root.join("pair-b1"), root.join("pair-b2")).unwrap();
    symlink("file", root.join("link")).unwrap();
    make::fifo(&root.join("fifo")).unwrap();
    make::node(
        &root.join("device"),
        FileType::CharacterDevice,
        0o600,
        (1, 3),
    )
    .unwrap();
    make::xattr(&root.join("1"), b"user.x", b"value").unwrap();
    make::acl(&root.join("dir"), true, 5, 6).unwrap();
    make::capability(&root.join("2"), 7).unwrap();
    let paths = [
        "1",
        "2",
        "pair-a1",
        "pair-b1",
        "file",
        "link",
        "dir/below",
        "dir",
        "",
    ];
    for path in paths {
        make::times(&root.join(path), (10, 20), (1_000_000_000, 123_456_789)).unwrap();
    }
}

/// Does something to a path and puts its times back.
fn quietly(path: &Path, act: impl FnOnce(&Path)) {
    act(path);
    make::times(path, (10, 20), (1_000_000_000, 123_456_789)).unwrap();
}

type Damage = fn(&Path);

/// What is done, and what the comparison must say, at the path it must name.
const DAMAGES: &[(&str, &str, Damage)] = &[
    ("/file", "content: from byte 150000 on ", |root| {
        quietly(&root.join("file"), |path| {
            let old = fs::read(path).unwrap()[150_000];
            make::write(path, 150_000, &[old ^ 1]).unwrap();
        });
    }),
    ("/file", "size: 200000, in the other 200001", |root| {
        quietly(&root.join("file"), |path| {
            make::resize(path, 200_001).unwrap();
        });
    }),
    ("/1", "mode: 0644, in the other 4644", |root| {
        make::chmod(&root.join("1"), 0o4644).unwrap();
    }),
    ("/1", "owner: 0:0, in the other 1:0", |root| {
        make::chown(&root.join("1"), 1, 0).unwrap();
    }),
    ("/link", "owner: 0:0, in the other 0:2", |root| {
        make::chown(&root.join("link"), 0, 2).unwrap();
    }),
    (
        "/1",
        "mtime: 1000000000.123456789, in the other 1000000000.123456790",
        |root| {
            make::times(&root.join("1"), (10, 20), (1_000_000_000, 123_456_790)).unwrap();
        },
    ),
    ("/link", "mtime: ", |root| {
        make::times(&root.join("link"), (10, 20), (1_000_000_000, 0)).unwrap();
    }),
    (
        "/",
        "atime: 10.000000020, in the other 10.000000021",
        |root| {
            make::times(root, (10, 21), (1_000_000_000, 123_456_789)).unwrap();
        },
    ),
    ("/1", "xattr user.x: value, in the other valve", |root| {
        make::xattr(&root.join("1"), b"user.x", b"valve").unwrap();
    }),
    ("/1", "xattr user.x: value, in the other none", |root| {
        make::no_xattr(&root.join("1"), b"user.x").unwrap();
    }),
    ("/link", "xattr trusted.y: none, in the other ", |root| {
        make::xattr(&root.join("link"), b"trusted.y", b"").unwrap();
    }),
    ("/dir", "xattr system.posix_acl_default: ", |root| {
        make::acl(&root.join("dir"), true, 5, 7).unwrap();
    }),
    ("/2", "xattr security.capability: ", |root| {
        make::capability(&root.join("2"), 6).unwrap();
    }),
    ("/link", "target: file, in the other fire", |root| {
        fs::remove_file(root.join("link")).unwrap();
        symlink("fire", root.join("link")).unwrap();
        quietly(&root.join("link"), |_| ());
    }),
    ("/device", "device number: ", |root| {
        renode(root, FileType::CharacterDevice, (1, 5));
    }),
    (
        "/device",
        "type: character device, in the other block device",
        |root| {
            renode(root, FileType::BlockDevice, (1, 3));
        },
    ),
    ("/3", "exists: yes, in the other no", |root| {
        fs::remove_file(root.join("3")).unwrap();
    }),
    ("/dir/below/new", "exists: no, in the other yes", |root| {
        quietly(&root.join("dir/below"), |dir| {
            make::file(&dir.join("new"), b"").unwrap();
        });
    }),
    ("/pair-a2", "links: 2, in the other 1", |root| {
        let path = root.join("pair-a2");
        fs::remove_file(&path).unwrap();
        quietly(&path, |path| make::file(path, b"alike").unwrap());
    }),
    (
        "/pair-a2",
        "hard link of: pair-a1, in the other pair-a2",
        |root| {
            make::swap(&root.join("pair-a2"), &root.join("pair-b2")).unwrap();
        },
    ),
    ("/dir/sparse", "data at: ", |root| {
        let path = root.join("dir/sparse");
        let meta = fs::metadata(&path).unwrap();
        make::write(&path, 500_000, &[0; 4096]).unwrap();
        fs::File::open(&path)
            .unwrap()
            .set_modified(meta.modified().unwrap())
            .unwrap();
    }),
    ("/1", "attributes: ", |root| {
        quietly(&root.join("1"), |path| {
            make::attributes(path, IFlags::NODUMP).unwrap();
        });
    }),
];

fn renode(root: &Path, kind: FileType, device: (u32, u32)) {
    use std::os::unix::fs::MetadataExt as _;
    let path = root.join("device");
    let meta = fs::metadata(&path).unwrap();
    fs::remove_file(&path).unwrap();
    make::node(&path, kind, 0o600, device).unwrap();
    let times = [
        (meta.atime(), meta.atime_nsec()),
        (meta.mtime(), meta.mtime_nsec()),
    ];
    make::times(&path, times[0], times[1]).unwrap();
}

#[test]
fn every_difference_is_noticed() {
    let Some(lab) = Lab::new(Backing::Memory) else {
        return;
    };
    let volume = lab.volume("volume", 256, "");
    let whole = volume.path("whole");
    sound(&whole);
    volume.sync();
    let copy = copied(&volume, "copy");
    assert_eq!(
        lines(&trees(&whole, &copy, Depth::All)),
        Vec::<String>::new()
    );
    for (number, (path, words, damage)) in DAMAGES.iter().enumerate() {
        let copy = copied(&volume, &format!("copy-{number}"));
        damage(&copy);
        // The root's own time moves with what is made and removed in it.
        if *path != "/" {
            quietly(&copy, |_| ());
        }
        let found = lines(&trees(&whole, &copy, Depth::All));
        let expected = format!("{path}: {words}");
        // One change can show in more than one fact, but nowhere else.
        let shows = found.iter().any(|line| line.starts_with(&expected));
        assert!(shows, "{expected}\nfound: {found:#?}");
        let sent = trees(&whole, &copy, Depth::Sent);
        let skipped = words.starts_with("data at") || words.starts_with("attributes");
        assert_eq!(sent.is_empty(), skipped, "{expected}: {sent:?}");
        if !path.starts_with("/pair") {
            let elsewhere = found
                .iter()
                .find(|line| !line.starts_with(&format!("{path}: ")) && !line.contains("size:"));
            assert_eq!(elsewhere, None, "{expected}");
        }
    }
}

fn lines(found: &[Difference]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

fn copied(volume: &Volume, name: &str) -> std::path::PathBuf {
    let copy = volume.path(name);
    snapshot(&volume.path("whole"), &copy, false).unwrap();
    copy
}

#[test]
fn subvolumes_and_sharing_are_compared() {
    let Some(lab) = Lab::new(Backing::Memory) else {
        return;
    };
    let volume = lab.volume("volume", 256, "");
    let whole = volume.path("whole");
    sound(&whole);
    make::reflink(&whole.join("file"), &whole.join("twin")).unwrap();
    volume.sync();
    let copy = copied(&volume, "copy");
    let [left, mut right] = [&whole, &copy].map(|path| info_of(path).unwrap());
    let words =
        |left: &SubvolInfo, right: &SubvolInfo| lines(&compare::subvolumes(left, right)).join("\n");
    assert_eq!(words(&left, &left), "");
    assert!(words(&left, &right).contains("is a snapshot: false, in the other true"));
    right = left;
    right.received_uuid = [1; 16];
    assert!(words(&left, &right).contains("received UUID"));
    right = left;
    right.stransid += 1;
    assert!(words(&left, &right).contains("sent transaction"));
    set_read_only(&copy, true).unwrap();
    assert!(words(&left, &info_of(&copy).unwrap()).contains("flags: 0x0, in the other 0x1"));

    let base = Extents::of(&whole);
    let measure = |name: &str| {
        volume.sync();
        Extents::of(&volume.path(name)).measure(Some(&base))
    };
    let shared = measure("copy");
    assert_eq!(shared.from_base, shared.distinct);
    assert!(shared.within >= 200_000, "{shared:?}");
    assert_eq!(shared.differences(&shared), []);
    let told = |name: &str| lines(&shared.differences(&measure(name))).join("\n");
    // A file written again instead of shared with its twin.
    let copy = copied(&volume, "own-twin");
    fs::remove_file(copy.join("twin")).unwrap();
    make::file(&copy.join("twin"), &fs::read(whole.join("file")).unwrap()).unwrap();
    assert!(
        told("own-twin").contains("shared within"),
        "{}",
        told("own-twin")
    );
    // All of it written again instead of shared with the base.
    let copy = copied(&volume, "own-data");
    let content = fs::read(whole.join("file")).unwrap();
    make::write(&copy.join("file"), 0, &content).unwrap();
    fs::remove_file(copy.join("twin")).unwrap();
    make::reflink(&copy.join("file"), &copy.join("twin")).unwrap();
    assert!(
        told("own-data").contains("shared with its base"),
        "{}",
        told("own-data")
    );
    // Space that is taken without content being there.
    let copy = copied(&volume, "taken");
    make::file(&copy.join("room"), b"").unwrap();
    make::allocate(&copy.join("room"), FallocateFlags::KEEP_SIZE, 0, 1 << 20).unwrap();
    assert!(told("taken").contains("on disk"), "{}", told("taken"));
}
