//! One subvolume, END, nothing more; and what the subvolume may be called.

use op_dbus_sendstream::wire::{Attr, Command};

use super::{Case, Expect, PARENT, Say as _, UUID, attrs, subvol, v1};
use crate::build::{Stream, rich};

fn case(rule: &str, stream: Stream, words: &'static str) -> Case {
    Case::new(rule, stream, Expect::Vet(words))
}

fn named(name: &[u8]) -> Stream {
    let attrs = attrs()
        .bytes(Attr::Path, name)
        .bytes(Attr::Uuid, &UUID)
        .u64(Attr::Ctransid, 5);
    Stream::header(1).command(Command::Subvol, &attrs).end()
}

pub(super) fn cases() -> Vec<Case> {
    let snapshot = subvol("b")
        .bytes(Attr::CloneUuid, &PARENT)
        .u64(Attr::CloneCtransid, 7);
    let nameless = attrs().bytes(Attr::Uuid, &UUID).u64(Attr::Ctransid, 5);
    let no_parent = Stream::header(1).command(Command::Snapshot, &subvol("b"));
    vec![
        case(
            "no subvolume first",
            Stream::header(1).mkfile("a").end(),
            "does not begin with",
        ),
        case(
            "nothing but END",
            Stream::header(1).end(),
            "does not begin with",
        ),
        case("header alone", Stream::header(1), "cut off"),
        case("no END", v1().mkfile("a"), "cut off"),
        case(
            "second subvolume",
            v1().command(Command::Subvol, &subvol("b")).end(),
            "second subvolume",
        ),
        case(
            "snapshot after the subvolume",
            v1().command(Command::Snapshot, &snapshot).end(),
            "second subvolume",
        ),
        case("a byte after END", v1().end().raw(b"\0"), "after the end"),
        case("a second END", v1().end().end(), "after the end"),
        case(
            "a command after END",
            v1().end().mkfile("a"),
            "after the end",
        ),
        case(
            "a second stream",
            v1().mkfile("a").end().raw(&rich(1).bytes),
            "after the end",
        ),
        case(
            "zeros after END",
            v1().end().raw(&[0; 4096]),
            "after the end",
        ),
        case(
            "subvolume without name",
            Stream::header(1).command(Command::Subvol, &nameless).end(),
            "without its Path",
        ),
        case(
            "subvolume without uuid",
            Stream::header(1)
                .command(Command::Subvol, &attrs().path("a"))
                .end(),
            "without its Uuid",
        ),
        case(
            "snapshot without parent",
            no_parent.end(),
            "without its CloneUuid",
        ),
        case("subvolume name ..", named(b".."), "contains . or .."),
        case("subvolume name .", named(b"."), "contains . or .."),
        case("subvolume name with /", named(b"a/b"), "more than one"),
        case("subvolume name empty", named(b""), "empty"),
        case("subvolume name absolute", named(b"/tmp"), "absolute"),
        case("subvolume name with NUL", named(b"a\0b"), "NUL"),
        case(
            "subvolume name of 256 bytes",
            named(&[b'a'; 256]),
            "too long",
        ),
        case("subvolume name not UTF-8", named(b"v\xe9"), "UTF-8"),
        Case::new(
            "an increment on another parent",
            Stream::header(1)
                .command(
                    Command::Snapshot,
                    &subvol("b")
                        .bytes(Attr::CloneUuid, &[0xcc; 16])
                        .u64(Attr::CloneCtransid, 7),
                )
                .end(),
            Expect::Apply(&["builds on another subvolume"]),
        )
        .on_parent(),
        Case::new(
            "an increment without its parent",
            Stream::incremental().end(),
            Expect::Apply(&["builds on another subvolume"]),
        ),
    ]
}
