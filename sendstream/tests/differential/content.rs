//! Trees written by hand: what files have and contain.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{FallocateFlags, IFlags};

use crate::chain::{Setup, complete, some};
use crate::directed::{chain, dirs, files, moved, swapped};
use crate::make::{self, Rng};

#[test]
fn attributes() {
    fn before(root: &Path, _: Option<&Path>) {
        dirs(root, &["acl/inherits", "sticky", "prop"]);
        files(
            root,
            &["x", "cap", "cap-owned", "setuid", "acl/file", "flags"],
        );
        let file = root.join("x");
        for (name, value) in [
            (&b"user.short"[..], &b"v"[..]),
            (b"user.empty", b""),
            (b"user.binary", b"\0\xff\n\0"),
            (b"user.long", &[b'l'; 12_000]),
            (b"user.\xff\xfe", b"name that is no text"),
            (b"trusted.test", b"only root"),
            (b"security.test", b"a label"),
        ] {
            make::xattr(&file, name, value).unwrap();
        }
        let long = [&b"user."[..], &[b'n'; 250]].concat();
        make::xattr(&file, &long, b"longest name").unwrap();
        make::xattr(root, b"user.root", b"the root's own").unwrap();
        make::xattr(&root.join("sticky"), b"trusted.dir", b"1").unwrap();
        symlink("x", root.join("link")).unwrap();
        make::xattr(&root.join("link"), b"trusted.link", b"of the link").unwrap();
        // A default ACL is inherited by what is made below it later.
        make::acl(&root.join("acl"), true, 1000, 1001).unwrap();
        make::acl(&root.join("acl"), false, 1002, 1003).unwrap();
        dirs(root, &["acl/below/deeper"]);
        files(root, &["acl/below/file", "acl/below/deeper/file"]);
        make::acl(&root.join("acl/file"), false, 1000, 1001).unwrap();
        make::capability(&root.join("cap"), 1 << 10).unwrap();
        // Changing the owner drops capabilities and the setuid bit: set after it.
        make::chown(&root.join("cap-owned"), 12, 34).unwrap();
        make::capability(&root.join("cap-owned"), 1 << 12).unwrap();
        make::chown(&root.join("setuid"), 56, 78).unwrap();
        make::chmod(&root.join("setuid"), 0o6755).unwrap();
        make::chmod(&root.join("sticky"), 0o3777).unwrap();
        make::chmod(root, 0o711).unwrap();
        make::chown(root, 3, 4).unwrap();
        make::xattr(&root.join("prop"), b"btrfs.compression", b"zstd").unwrap();
        make::file(&root.join("prop/inherits"), &Rng::new(3).bytes(100_000)).unwrap();
        make::file(&root.join("nocow"), b"").unwrap();
        make::attributes(&root.join("nocow"), IFlags::NOCOW).unwrap();
        make::write(&root.join("nocow"), 0, &Rng::new(5).bytes(200_000)).unwrap();
        make::attributes(&root.join("flags"), IFlags::NODUMP | IFlags::NOATIME).unwrap();
        make::times(&root.join("x"), (-5, 1), (-1_000_000, 999_999_999)).unwrap();
        make::times(&root.join("cap"), (0, 0), (0, 0)).unwrap();
        make::times(&root.join("setuid"), (1, 2), (7_258_118_400, 1)).unwrap();
        make::times(root, (1_500_000_000, 3), (1_600_000_000, 4)).unwrap();
    }
    fn after(root: &Path, _: Option<&Path>) {
        // Owner changes of files that keep their capability, by setting it again.
        make::chown(&root.join("cap"), 99, 98).unwrap();
        make::capability(&root.join("cap"), 1 << 10).unwrap();
        make::chown(&root.join("cap-owned"), 0, 0).unwrap();
        make::chmod(&root.join("setuid"), 0o755).unwrap();
        make::no_xattr(&root.join("x"), b"user.short").unwrap();
        make::xattr(&root.join("x"), b"user.empty", b"no more").unwrap();
        make::xattr(&root.join("x"), b"user.long", b"").unwrap();
        make::no_xattr(&root.join("link"), b"trusted.link").unwrap();
        make::no_xattr(&root.join("acl"), b"system.posix_acl_default").unwrap();
        make::acl(&root.join("acl/below"), false, 5, 6).unwrap();
        files(root, &["acl/no-longer"]);
        make::chmod(&root.join("acl/file"), 0o600).unwrap();
        make::capability(&root.join("x"), 1).unwrap();
        make::chmod(root, 0o755).unwrap();
        make::no_xattr(&root.join("prop"), b"btrfs.compression").unwrap();
        make::write(&root.join("nocow"), 50_000, b"in place").unwrap();
        make::attributes(&root.join("cap-owned"), IFlags::APPEND).unwrap();
    }
    fn last(root: &Path, _: Option<&Path>) {
        moved(root, "cap", "renamed-cap");
        make::write(&root.join("x"), 3, b"writing drops capabilities").unwrap();
        make::chown(&root.join("renamed-cap"), 0, 5).unwrap();
        make::capability(&root.join("renamed-cap"), 3).unwrap();
        make::chmod(&root.join("renamed-cap"), 0o2711).unwrap();
    }
    for source in some(1, &[",compress-force=zstd", ""]) {
        chain("attributes", Setup::new(source), &[before, after, last]);
    }
}

#[test]
fn data() {
    fn before(root: &Path, _: Option<&Path>) {
        let mut rng = Rng::new(11);
        for size in [
            0, 1, 17, 2047, 2048, 2049, 4095, 4096, 4097, 65_536, 131_072, 131_073, 1_000_000,
        ] {
            make::file(&root.join(format!("size-{size}")), &rng.bytes(size)).unwrap();
        }
        make::file(&root.join("all-hole"), b"").unwrap();
        make::resize(&root.join("all-hole"), 10 << 20).unwrap();
        make::file(&root.join("zeroes"), &vec![0; 300_000]).unwrap();
        make::file(&root.join("holes"), &rng.bytes(5000)).unwrap();
        for at in [64 << 10, 1 << 20, (3 << 20) + 1, 16 << 20] {
            make::write(&root.join("holes"), at, &rng.bytes(9000)).unwrap();
        }
        make::file(&root.join("punched"), &rng.bytes(400_000)).unwrap();
        make::punch(&root.join("punched"), 8192, 100_000).unwrap();
        make::punch(&root.join("punched"), 390_000, 10_000).unwrap();
        let prealloc = root.join("preallocated");
        make::file(&prealloc, b"some").unwrap();
        make::allocate(&prealloc, FallocateFlags::empty(), 0, 500_000).unwrap();
        make::write(&prealloc, 200_000, &rng.bytes(20_000)).unwrap();
        let beyond = root.join("beyond-the-end");
        make::file(&beyond, &rng.bytes(10_000)).unwrap();
        make::allocate(&beyond, FallocateFlags::KEEP_SIZE, 10_000, 300_000).unwrap();
        make::file(&root.join("grown"), &rng.bytes(100_000)).unwrap();
        make::file(&root.join("cut"), &rng.bytes(100_000)).unwrap();
        make::file(&root.join("inline-grown"), b"tiny").unwrap();
        make::file(&root.join("text"), &b"the same line again\n".repeat(40_000)).unwrap();
    }
    fn after(root: &Path, _: Option<&Path>) {
        let mut rng = Rng::new(12);
        make::resize(&root.join("grown"), 700_001).unwrap();
        make::resize(&root.join("cut"), 33_333).unwrap();
        make::resize(&root.join("inline-grown"), 1_000_000).unwrap();
        make::resize(&root.join("size-4097"), 0).unwrap();
        make::write(&root.join("size-2048"), 2048, b"more").unwrap();
        make::write(&root.join("size-1000000"), 500_000, &rng.bytes(30_000)).unwrap();
        make::punch(&root.join("size-1000000"), 100_000, 200_000).unwrap();
        make::punch(&root.join("holes"), 1 << 20, 9000).unwrap();
        make::write(&root.join("holes"), 8 << 20, &rng.bytes(70_000)).unwrap();
        make::write(&root.join("preallocated"), 300_000, &rng.bytes(1000)).unwrap();
        make::allocate(
            &root.join("text"),
            FallocateFlags::ZERO_RANGE,
            100_000,
            65_536,
        )
        .unwrap();
        make::write(&root.join("text"), 400_000, &rng.bytes(131_072)).unwrap();
        make::write(&root.join("zeroes"), 10, b"not zero").unwrap();
    }
    fn last(root: &Path, _: Option<&Path>) {
        let mut rng = Rng::new(13);
        make::resize(&root.join("grown"), 50_000).unwrap();
        make::resize(&root.join("grown"), 60_000).unwrap();
        make::write(&root.join("all-hole"), (10 << 20) - 1, b"e").unwrap();
        make::punch(&root.join("text"), 0, 4096).unwrap();
        fs::remove_file(root.join("size-131073")).unwrap();
        make::file(&root.join("size-131073"), &rng.bytes(131_073)).unwrap();
    }
    let sources = [
        ",compress-force=zstd",
        "",
        ",compress-force=zlib",
        ",compress=lzo",
    ];
    for source in some(1, &sources) {
        chain(
            &format!("data{source}"),
            Setup::new(source),
            &[before, after, last],
        );
    }
    // Where compressed extents can't be taken over as they are, and where
    // everything is compressed again.
    let pairs = [
        (",compress-force=lzo", ",nodatasum"),
        (",compress-force=zlib", ",nodatasum"),
        (",compress-force=zstd", ",nodatasum"),
        ("", ",compress=zstd"),
        (",compress-force=zlib", ",compress-force=lzo"),
    ];
    for (source, target) in some(2, &pairs) {
        let setup = Setup {
            target,
            ..Setup::new(source)
        };
        chain(
            &format!("data{source} onto{target}"),
            setup,
            &[before, after],
        );
    }
}

#[test]
fn sharing() {
    fn before(root: &Path, _: Option<&Path>) {
        let mut rng = Rng::new(21);
        dirs(root, &["d"]);
        make::file(&root.join("a"), &rng.bytes(900_000)).unwrap();
        make::file(
            &root.join("text"),
            &b"a line that is there often\n".repeat(60_000),
        )
        .unwrap();
        make::reflink(&root.join("a"), &root.join("copy")).unwrap();
        make::reflink(&root.join("text"), &root.join("d/text")).unwrap();
        make::file(&root.join("parts"), &rng.bytes(200_000)).unwrap();
        make::share(
            &root.join("a"),
            65_536,
            262_144,
            &root.join("parts"),
            131_072,
        )
        .unwrap();
        make::share(
            &root.join("text"),
            4096,
            500_000,
            &root.join("parts"),
            524_288,
        )
        .unwrap();
        // Within one file.
        make::share(&root.join("a"), 0, 131_072, &root.join("a"), 1 << 20).unwrap();
        make::file(&root.join("tiny"), b"inline content").unwrap();
        make::reflink(&root.join("tiny"), &root.join("d/tiny")).unwrap();
    }
    fn after(root: &Path, old: Option<&Path>) {
        let old = old.unwrap();
        make::reflink(&root.join("a"), &root.join("again")).unwrap();
        make::write(&root.join("copy"), 300_000, &Rng::new(22).bytes(50_000)).unwrap();
        make::reflink(&old.join("parts"), &root.join("from-parent")).unwrap();
        make::share(&old.join("a"), 131_072, 65_536, &root.join("text"), 65_536).unwrap();
        // Its content stays reachable by another name only.
        fs::remove_file(root.join("a")).unwrap();
        moved(root, "text", "moved");
        make::reflink(&root.join("moved"), &root.join("text")).unwrap();
        make::resize(&root.join("d/text"), 100_000).unwrap();
        make::share(
            &root.join("moved"),
            0,
            65_536,
            &root.join("d/text"),
            131_072,
        )
        .unwrap();
    }
    fn last(root: &Path, old: Option<&Path>) {
        let old = old.unwrap();
        swapped(root, "again", "copy");
        make::reflink(&old.join("copy"), &root.join("back")).unwrap();
        fs::remove_dir_all(root.join("d")).unwrap();
        make::reflink(&old.join("d/text"), &root.join("d")).unwrap();
        make::share(
            &root.join("back"),
            0,
            65_536,
            &root.join("back"),
            65_536 * 4,
        )
        .unwrap();
    }
    for source in some(1, &[",compress=zstd", "", ",compress-force=lzo"]) {
        chain(
            &format!("sharing{source}"),
            Setup::new(source),
            &[before, after, last],
        );
    }
}

/// How much of it: data in MiB, and files.
fn scale() -> (u64, usize) {
    if complete() { (12, 5000) } else { (3, 600) }
}

#[test]
fn large_and_many() {
    fn before(root: &Path, _: Option<&Path>) {
        let (mib, count) = scale();
        let mut rng = Rng::new(31);
        make::file(&root.join("large"), &rng.bytes(mib << 20)).unwrap();
        for at in [100u64 << 20, 300 << 20, 399 << 20] {
            make::write(&root.join("large"), at, &rng.bytes((mib / 3) << 20)).unwrap();
        }
        make::resize(&root.join("large"), 600 << 20).unwrap();
        dirs(root, &["many"]);
        for number in 0..count {
            let content = format!("{number}").repeat(number % 40);
            fs::write(root.join(format!("many/file {number}")), content).unwrap();
        }
    }
    fn after(root: &Path, _: Option<&Path>) {
        let mut rng = Rng::new(32);
        make::write(&root.join("large"), 300 << 20, &rng.bytes(1 << 19)).unwrap();
        make::punch(&root.join("large"), 1 << 20, 1 << 20).unwrap();
        make::resize(&root.join("large"), 500 << 20).unwrap();
        let (_, count) = scale();
        for number in (0..count).step_by(3) {
            let [from, to] = ["file", "moved"].map(|word| format!("many/{word} {number}"));
            moved(root, &from, &to);
        }
        for number in (1..count).step_by(3) {
            fs::remove_file(root.join(format!("many/file {number}"))).unwrap();
        }
    }
    let setup = Setup::new(",compress=zstd");
    chain("large and many", setup, &[before, after]);
}
