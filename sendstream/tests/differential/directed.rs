//! Trees written by hand: each thing that has ever been hard to send.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FileType, IFlags};

use crate::chain::{Chain, Setup, complete, some};
use crate::extents;
use crate::make::{self, Rng};

/// Runs a chain whose versions are made by these functions, one after the other.
fn chain(title: &str, setup: Setup, versions: &[fn(&Path, Option<&Path>)]) {
    let Some(mut chain) = Chain::new(title, setup) else {
        return;
    };
    for version in versions {
        version(&chain.work(), chain.last());
        chain.version();
    }
    chain.verify();
}

fn dirs(root: &Path, paths: &[&str]) {
    for path in paths {
        fs::create_dir_all(root.join(path)).unwrap();
    }
}

fn files(root: &Path, paths: &[&str]) {
    for path in paths {
        fs::write(root.join(path), format!("content of {path}\n")).unwrap();
    }
}

fn moved(root: &Path, from: &str, to: &str) {
    fs::rename(root.join(from), root.join(to)).unwrap();
}

fn swapped(root: &Path, one: &str, two: &str) {
    make::swap(&root.join(one), &root.join(two)).unwrap();
}

#[test]
fn renames() {
    fn before(root: &Path, _: Option<&Path>) {
        dirs(
            root,
            &[
                "a/b/c/d",
                "p/q",
                "x/y",
                "gone/kept/deep",
                "loop/in/ner",
                "full",
                "empty",
            ],
        );
        dirs(
            root,
            &["turn/one", "turn/two", "turn/three", "up/down/left"],
        );
        files(
            root,
            &[
                "a/1",
                "a/b/2",
                "a/b/c/3",
                "a/b/c/d/4",
                "p/5",
                "p/q/6",
                "x/y/7",
            ],
        );
        files(
            root,
            &[
                "gone/8",
                "gone/kept/9",
                "gone/kept/deep/10",
                "loop/in/ner/11",
                "full/12",
            ],
        );
        files(
            root,
            &[
                "one",
                "two",
                "dir-to-be",
                "turn/one/i",
                "turn/two/ii",
                "turn/three/iii",
            ],
        );
        files(root, &["up/down/left/13", "cycle-1", "cycle-2", "cycle-3"]);
        dirs(root, &["file-to-be/with"]);
        files(root, &["file-to-be/with/content"]);
    }
    fn after(root: &Path, _: Option<&Path>) {
        // Two directories, two files, and one of each change places.
        swapped(root, "a", "p");
        swapped(root, "one", "two");
        swapped(root, "x/y", "dir-to-be");
        // A parent goes below what was its child's child.
        moved(root, "loop/in/ner", "ner");
        moved(root, "loop", "ner/loop");
        // A deleted directory leaves its children.
        moved(root, "gone/kept", "kept");
        fs::remove_file(root.join("gone/8")).unwrap();
        fs::remove_dir(root.join("gone")).unwrap();
        // One directory over another, three round about.
        moved(root, "full", "empty");
        moved(root, "turn/one", "turn/tmp");
        moved(root, "turn/three", "turn/one");
        moved(root, "turn/two", "turn/three");
        moved(root, "turn/tmp", "turn/two");
        moved(root, "cycle-1", "cycle-t");
        moved(root, "cycle-2", "cycle-1");
        moved(root, "cycle-3", "cycle-2");
        moved(root, "cycle-t", "cycle-3");
        // A directory becomes a file of the same name, with a new one inside another.
        fs::remove_dir_all(root.join("file-to-be")).unwrap();
        files(root, &["file-to-be"]);
        moved(root, "up/down", "down");
        moved(root, "up", "down/left/up");
        moved(root, "down", "up");
    }
    fn last(root: &Path, _: Option<&Path>) {
        // Deep turns inside out.
        moved(root, "p/b/c", "p/c");
        moved(root, "p/b", "p/c/d/b");
        moved(root, "p/c/d", "p/d");
        moved(root, "p/c", "p/d/b/c");
        // What changed places before gives its own to something new.
        fs::remove_file(root.join("two")).unwrap();
        moved(root, "one", "two");
        dirs(root, &["one"]);
        files(root, &["one/two"]);
    }
    chain("renames", Setup::new(""), &[before, after, last]);
}

#[test]
fn links() {
    fn before(root: &Path, _: Option<&Path>) {
        dirs(root, &["a", "b", "c/d"]);
        files(root, &["a/file", "alone", "pair-1", "pair-2"]);
        for name in ["b/same", "c/d/same", "same"] {
            fs::hard_link(root.join("a/file"), root.join(name)).unwrap();
        }
        fs::hard_link(root.join("pair-1"), root.join("pair-1b")).unwrap();
        fs::hard_link(root.join("pair-2"), root.join("pair-2b")).unwrap();
        symlink("../a/file", root.join("b/soft")).unwrap();
        symlink("/no/where", root.join("dangling")).unwrap();
        symlink(OsStr::from_bytes(&[b't'; 4000]), root.join("long")).unwrap();
        symlink(OsStr::from_bytes(b"\xff\xfe\n"), root.join("raw")).unwrap();
        // Names of one inode that do not fit one item: extended references.
        dirs(root, &["many"]);
        files(root, &["many/0"]);
        for number in 1..300 {
            let name = format!("many/{number:->200}");
            fs::hard_link(root.join("many/0"), root.join(name)).unwrap();
        }
        make::fifo(&root.join("fifo")).unwrap();
        fs::hard_link(root.join("fifo"), root.join("a/fifo")).unwrap();
        fs::hard_link(root.join("dangling"), root.join("a/dangling")).unwrap();
        for name in ["long", "raw"] {
            make::times(&root.join(name), (5, 6), (1_234_567_890, 987_654_321)).unwrap();
            make::chown(&root.join(name), 7, 8).unwrap();
        }
    }
    fn after(root: &Path, _: Option<&Path>) {
        // Groups regroup; names move with their files; one group loses its first.
        fs::remove_file(root.join("a/file")).unwrap();
        fs::hard_link(root.join("alone"), root.join("a/file")).unwrap();
        swapped(root, "pair-1b", "pair-2b");
        fs::hard_link(root.join("b/same"), root.join("b/again")).unwrap();
        moved(root, "c/d", "d");
        fs::remove_dir(root.join("c")).unwrap();
        fs::hard_link(root.join("d/same"), root.join("c")).unwrap();
        for number in 100..250 {
            fs::remove_file(root.join(format!("many/{number:->200}"))).unwrap();
        }
        fs::remove_file(root.join("raw")).unwrap();
        symlink("elsewhere", root.join("raw")).unwrap();
        make::times(&root.join("dangling"), (9, 10), (11, 12)).unwrap();
        fs::write(root.join("same"), "by one of its names\n").unwrap();
    }
    fn last(root: &Path, _: Option<&Path>) {
        fs::remove_dir_all(root.join("many")).unwrap();
        moved(root, "pair-1", "many");
        for name in ["b/again", "b/same", "same"] {
            fs::remove_file(root.join(name)).unwrap();
        }
    }
    chain(
        "links",
        Setup::new(",compress=zstd"),
        &[before, after, last],
    );
}

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
fn special_files() {
    fn before(root: &Path, _: Option<&Path>) {
        make::fifo(&root.join("fifo")).unwrap();
        let node = |name: &str, kind, mode, device| {
            make::node(&root.join(name), kind, mode, device).unwrap();
        };
        node("socket", FileType::Socket, 0o755, (0, 0));
        node("null", FileType::CharacterDevice, 0o666, (1, 3));
        node("disk", FileType::BlockDevice, 0o660, (259, 1_048_575));
        node("big", FileType::CharacterDevice, 0o600, (4095, 256));
        for name in ["fifo", "socket", "null", "disk"] {
            let path = root.join(name);
            make::times(&path, (1, 2), (1_111_111_111, 222_222_222)).unwrap();
            make::chown(&path, 6, 7).unwrap();
            make::xattr(&path, b"trusted.kind", name.as_bytes()).unwrap();
        }
        make::acl(&root.join("null"), false, 8, 9).unwrap();
        files(root, &["file"]);
    }
    fn after(root: &Path, _: Option<&Path>) {
        // Each becomes another kind under the same name.
        for name in ["fifo", "socket", "null", "disk", "file"] {
            fs::remove_file(root.join(name)).unwrap();
        }
        dirs(root, &["fifo"]);
        files(root, &["socket"]);
        symlink("big", root.join("null")).unwrap();
        make::fifo(&root.join("disk")).unwrap();
        make::node(&root.join("file"), FileType::BlockDevice, 0o600, (8, 1)).unwrap();
        make::chmod(&root.join("big"), 0o444).unwrap();
    }
    chain("special files", Setup::new(""), &[before, after]);
}

fn long_name(letter: u8) -> PathBuf {
    OsStr::from_bytes(&[letter; 255]).into()
}

#[test]
fn names() {
    fn before(root: &Path, _: Option<&Path>) {
        dirs(root, &["sub"]);
        fs::write(root.join(long_name(b'n')), "longest").unwrap();
        let odd: [&[u8]; 8] = [
            b"\xff\xfe\x80",
            b" ",
            b"new\nline",
            b"-rf",
            b"...",
            b"*?[\\",
            b"\x01\x7f",
            "Ünïcödé 🦀".as_bytes(),
        ];
        for name in odd {
            fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
        }
        // A path of nearly PATH_MAX bytes.
        let mut deep = root.join("deep");
        for letter in b'a'..=b'o' {
            deep.push(long_name(letter));
        }
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("bottom"), "of it").unwrap();
        let shallow: PathBuf = (0..300).map(|_| "d").collect();
        fs::create_dir_all(root.join(&shallow)).unwrap();
        fs::write(root.join(&shallow).join("file"), "far down").unwrap();
        // Names that a stream gives to what has no name for a moment.
        for number in 256..290 {
            for generation in 6..12 {
                files(root, &[&format!("o{number}-{generation}-0")]);
            }
        }
    }
    fn after(root: &Path, _: Option<&Path>) {
        moved(root, "deep", "sub/deep");
        fs::rename(
            root.join(long_name(b'n')),
            root.join("sub").join(long_name(b'm')),
        )
        .unwrap();
        fs::remove_file(root.join(OsStr::from_bytes(b"\xff\xfe\x80"))).unwrap();
        moved(root, "new\nline", "*?[\\");
        // The very name the stream would choose for these, once they are in the way.
        dirs(root, &["way/x", "way/y"]);
        let inode = fs::metadata(root.join("sub")).unwrap().ino();
        let generation = extents::generation(root, inode).unwrap();
        for number in 0..3 {
            files(root, &[&format!("o{inode}-{generation}-{number}")]);
        }
        swapped(root, "sub", "d");
    }
    fn last(root: &Path, _: Option<&Path>) {
        for name in ["sub", "d", "way"] {
            let inode = fs::metadata(root.join(name)).unwrap().ino();
            let generation = extents::generation(root, inode).unwrap();
            let taken = root.join(format!("o{inode}-{generation}-0"));
            let _ = fs::remove_file(&taken);
            fs::create_dir(&taken).unwrap();
        }
        swapped(root, "sub", "d");
        moved(root, "way/x", "x");
        fs::remove_dir_all(root.join("way")).unwrap();
        moved(root, "x", "way");
    }
    chain("names", Setup::new(""), &[before, after, last]);
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
    // Where compressed extents can't be taken over as they are.
    let sources = [
        ",compress-force=lzo",
        ",compress-force=zlib",
        ",compress-force=zstd",
    ];
    for source in some(2, &sources) {
        let setup = Setup {
            target: ",nodatasum",
            ..Setup::new(source)
        };
        chain(
            &format!("data{source} onto nodatasum"),
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
    for source in some(1, &["", ",compress=zstd", ",compress-force=lzo"]) {
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
