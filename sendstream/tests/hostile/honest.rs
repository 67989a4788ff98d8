//! Streams that do what the hostile ones do and are right all the same: what
//! the receiver holds open must stand for the same file as its path does.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use op_dbus_sendstream::Policy;

use crate::build::{PARENT, Stream, UUID};
use crate::cases::{CANARY_DIR, CANARY_FILE, v1, v2};
use crate::say::{Range, Say as _};
use crate::world::{NAME, World, difference};

/// A stream, and what files come of it.
type Honest = (
    &'static str,
    Stream,
    &'static [(&'static str, &'static [u8])],
);

fn swaps() -> Vec<Honest> {
    let file = || v1().mkfile("f").write("f", 0, b"one");
    let deep = || {
        let stream = v1().mkdir("a").mkdir("a/b").mkfile("a/b/f");
        stream.write("a/b/f", 0, b"one").rename("a", "c")
    };
    vec![
        (
            "a file renamed over an open one",
            file()
                .mkfile("g")
                .write("g", 0, b"new")
                .rename("g", "f")
                .write("f", 3, b"er"),
            &[("f", b"newer")],
        ),
        (
            "an open file renamed away",
            file().rename("f", "g").mkfile("f").write("f", 0, b"two"),
            &[("f", b"two"), ("g", b"one")],
        ),
        (
            "an open file removed, its other name kept",
            file()
                .link("g", "f")
                .unlink("f")
                .mkfile("f")
                .write("f", 0, b"two"),
            &[("f", b"two"), ("g", b"one")],
        ),
        (
            "an open file under two names",
            file()
                .link("g", "f")
                .write("g", 1, b"X")
                .write("f", 3, b"!"),
            &[("f", b"oXe!"), ("g", b"oXe!")],
        ),
        (
            "a directory of an open file renamed",
            v1().mkdir("d")
                .mkfile("d/f")
                .write("d/f", 0, b"1")
                .rename("d", "e")
                .write("e/f", 1, b"2"),
            &[("e/f", b"12")],
        ),
        (
            "directories swapped",
            v1().mkdir("a")
                .mkfile("a/f")
                .write("a/f", 0, b"one")
                .mkdir("b")
                .mkfile("b/f")
                .write("b/f", 0, b"two")
                .rename("a", "t")
                .rename("b", "a")
                .rename("t", "b")
                .write("a/f", 3, b"A")
                .write("b/f", 3, b"B"),
            &[("a/f", b"twoA"), ("b/f", b"oneB")],
        ),
        (
            "a directory above renamed and made anew",
            deep()
                .mkdir("a")
                .mkdir("a/b")
                .mkfile("a/b/f")
                .write("a/b/f", 0, b"new"),
            &[("a/b/f", b"new"), ("c/b/f", b"one")],
        ),
        (
            "a directory removed and made anew",
            v1().mkdir("d")
                .mkfile("d/f")
                .unlink("d/f")
                .rmdir("d")
                .mkdir("d")
                .mkfile("d/f")
                .write("d/f", 0, b"x"),
            &[("d/f", b"x")],
        ),
        (
            "a directory renamed over an empty one",
            v1().mkdir("d")
                .mkdir("e")
                .mkfile("e/f")
                .rename("e", "d")
                .write("d/f", 0, b"x"),
            &[("d/f", b"x")],
        ),
        (
            "a new file renamed over an old one",
            file().mkfile("tmp").rename("tmp", "f"),
            &[("f", b"")],
        ),
        (
            "a new directory renamed over an empty one",
            v1().mkdir("d")
                .mkdir("tmp")
                .rename("tmp", "d")
                .mkfile("d/f"),
            &[("d/f", b"")],
        ),
        (
            "a link that gives way to a directory",
            v1().symlink("d", CANARY_DIR)
                .unlink("d")
                .mkdir("d")
                .mkfile("d/file")
                .write("d/file", 0, b"x"),
            &[("d/file", b"x")],
        ),
        (
            "a link renamed away from a directory's name",
            v1().symlink("d", CANARY_DIR)
                .rename("d", "l")
                .mkdir("d")
                .mkfile("d/file"),
            &[("d/file", b"")],
        ),
    ]
}

fn contents() -> Vec<Honest> {
    let file = || v1().mkfile("f").write("f", 0, b"abcdef");
    vec![
        (
            "writes that overlap",
            file().write("f", 2, b"XX").write("f", 1, b"Y"),
            &[("f", b"aYXXef")],
        ),
        (
            "writes behind one another",
            file().write("f", 6, b"gh").write("f", 0, b"A"),
            &[("f", b"Abcdefgh")],
        ),
        (
            "a hole",
            file().truncate("f", 3).write("f", 5, b"x"),
            &[("f", b"abc\0\0x")],
        ),
        (
            "a file cut and grown",
            file().truncate("f", 2).truncate("f", 4),
            &[("f", b"ab\0\0")],
        ),
        (
            "space allocated beyond the end",
            v2().mkfile("f")
                .write("f", 0, b"ab")
                .fallocate("f", 1, 0, 8192),
            &[("f", b"ab")],
        ),
        (
            "a hole punched",
            v2().mkfile("f")
                .write("f", 0, b"abcd")
                .fallocate("f", 3, 1, 2),
            &[("f", b"a\0\0d")],
        ),
        (
            "a clone of what was just written",
            v1().mkfile("a")
                .write("a", 0, &[b'x'; 4096])
                .mkfile("b")
                .clone_range(&Range {
                    to: "b",
                    to_offset: 0,
                    length: 4096,
                    uuid: UUID,
                    from: "a",
                    from_offset: 0,
                }),
            &[("b", &[b'x'; 4096])],
        ),
        (
            "a clone within one file",
            v1().mkfile("a")
                .write("a", 0, &[b'x'; 4096])
                .clone_range(&Range {
                    to: "a",
                    to_offset: 4096,
                    length: 4096,
                    uuid: UUID,
                    from: "a",
                    from_offset: 0,
                }),
            &[("a", &[b'x'; 8192])],
        ),
    ]
}

fn increments() -> Vec<Honest> {
    let start = Stream::incremental;
    vec![
        (
            "a write to the parent's file",
            start().write("file", 0, b"x").truncate("file", 2),
            &[("file", b"xc")],
        ),
        (
            "a link of the parent that gives way to a directory",
            start()
                .unlink("links/dir")
                .mkdir("links/dir")
                .mkfile("links/dir/file")
                .write("links/dir/file", 0, b"x"),
            &[("links/dir/file", b"x")],
        ),
        (
            "a clone from what the increment has removed",
            start().unlink("file").mkfile("g").clone_range(&Range {
                to: "g",
                to_offset: 0,
                length: 4096,
                uuid: PARENT,
                from: "file",
                from_offset: 0,
            }),
            &[("g", &[b'c'; 4096])],
        ),
        (
            "a clone from what the increment has replaced by a link",
            start()
                .unlink("file")
                .symlink("file", CANARY_FILE)
                .mkfile("g")
                .clone_range(&Range {
                    to: "g",
                    to_offset: 0,
                    length: 4096,
                    uuid: PARENT,
                    from: "file",
                    from_offset: 0,
                }),
            &[("g", &[b'c'; 4096])],
        ),
    ]
}

/// Receives a stream that must be accepted; returns its root.
#[track_caller]
fn received(world: &World, rule: &str, stream: &Stream, parent: bool) -> PathBuf {
    let policy = Policy::everything();
    let result = world.apply(stream.bytes.as_slice(), &policy, parent);
    let why = result.map_err(|why| why.to_string());
    assert!(why.is_ok(), "{rule}: {why:?}");
    world.area().join(NAME)
}

#[test]
fn streams_that_are_right_come_out_right() {
    let Some(world) = World::new() else { return };
    let before = world.listing();
    let full = swaps()
        .into_iter()
        .chain(contents())
        .map(|case| (case, false));
    for ((rule, stream, files), parent) in
        full.chain(increments().into_iter().map(|case| (case, true)))
    {
        let root = received(&world, rule, &stream.end(), parent);
        for (path, expected) in files {
            let found = fs::read(root.join(path)).unwrap();
            assert!(
                found == *expected,
                "{rule}: {path}: {}",
                found.escape_ascii()
            );
        }
        assert_eq!(difference(&before, &world.listing()), "", "{rule}");
        world.clean();
    }
}

/// Owner, times and attributes of a link are its own, never its target's.
#[test]
fn what_is_said_of_a_link_stays_with_the_link() {
    let Some(world) = World::new() else { return };
    let before = world.listing();
    let stream = v1()
        .symlink("l", CANARY_FILE)
        .chown("l", 7, 8)
        .set_xattr("l", b"trusted.x", b"y")
        .utimes("l", 5, 6)
        .link("m", "l")
        .rename("l", "n")
        .remove_xattr("n", b"trusted.x")
        .utimes("n", 5, 7)
        .symlink("o", CANARY_FILE)
        .unlink("o")
        .end();
    let root = received(&world, "a link", &stream, false);
    let meta = fs::symlink_metadata(root.join("m")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.nlink()), (7, 8, 2));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (5, 7));
    assert_eq!(difference(&before, &world.listing()), "");
}
