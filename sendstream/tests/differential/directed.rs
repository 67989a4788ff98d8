//! Trees written by hand: names, links and moves that are hard to send.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::chain::{Chain, Setup, some};
use crate::extents;
use crate::make::{self, Rng};

/// A chain whose versions are made by these functions, one after the other.
fn versions(title: &str, setup: Setup, makers: &[fn(&Path, Option<&Path>)]) -> Option<Chain> {
    let mut chain = Chain::new(title, setup)?;
    for make in makers {
        make(&chain.work(), chain.last());
        chain.version();
    }
    Some(chain)
}

/// Runs such a chain.
pub(crate) fn chain(title: &str, setup: Setup, makers: &[fn(&Path, Option<&Path>)]) {
    if let Some(chain) = versions(title, setup, makers) {
        chain.verify();
    }
}

pub(crate) fn dirs(root: &Path, paths: &[&str]) {
    for path in paths {
        fs::create_dir_all(root.join(path)).unwrap();
    }
}

pub(crate) fn files(root: &Path, paths: &[&str]) {
    for path in paths {
        fs::write(root.join(path), format!("content of {path}\n")).unwrap();
    }
}

pub(crate) fn moved(root: &Path, from: &str, to: &str) {
    fs::rename(root.join(from), root.join(to)).unwrap();
}

pub(crate) fn swapped(root: &Path, one: &str, two: &str) {
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

/// A path that leads to one file while one command is done, and to another soon
/// after: whoever keeps files open by their paths has to notice. `btrfs receive`
/// (6.2 and 6.14) does not, and writes the second file's content into the first.
/// A stream goes by inode numbers, that is by the order in which things are made
/// here.
#[test]
fn paths_that_change_meaning() {
    fn before(root: &Path, _: Option<&Path>) {
        // Written, moved away by its directory, and its path written again.
        dirs(root, &["t"]);
        files(root, &["t/1"]);
        dirs(root, &["d", "e"]);
        files(root, &["t/2"]);
        moved(root, "t/1", "d/s");
        moved(root, "t/2", "e/s");
        // Likewise, for two that are cloned from.
        for name in ["t/c1", "t/c2", "x"] {
            make::file(&root.join(name), b"").unwrap();
        }
        dirs(root, &["f", "g"]);
        make::file(&root.join("z"), b"").unwrap();
        moved(root, "t/c1", "f/c");
        moved(root, "t/c2", "g/c");
        // Two directories deep in two others, all of which change places.
        dirs(root, &["h/in", "i/in"]);
        files(root, &["h/in/a", "i/in/b"]);
    }
    fn after(root: &Path, _: Option<&Path>) {
        let mut rng = Rng::new(41);
        make::write(&root.join("d/s"), 0, &rng.bytes(60_000)).unwrap();
        make::write(&root.join("e/s"), 0, &rng.bytes(70_000)).unwrap();
        swapped(root, "d", "e");
        make::write(&root.join("f/c"), 0, &rng.bytes(200_000)).unwrap();
        make::write(&root.join("g/c"), 0, &rng.bytes(200_000)).unwrap();
        make::share(&root.join("f/c"), 0, 131_072, &root.join("x"), 0).unwrap();
        make::share(&root.join("g/c"), 0, 131_072, &root.join("z"), 0).unwrap();
        swapped(root, "f", "g");
        make::write(&root.join("h/in/a"), 0, b"A").unwrap();
        swapped(root, "h/in", "i/in");
        swapped(root, "h", "i");
        files(root, &["h/in/new", "i/in/new"]);
    }
    for source in some(1, &[",compress-force=zstd", ""]) {
        let title = format!("paths that change meaning{source}");
        if let Some(chain) = versions(&title, Setup::new(source), &[before, after]) {
            chain.verify_ours();
        }
    }
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
