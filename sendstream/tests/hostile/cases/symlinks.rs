//! Links that the stream plants itself, or its parent holds; and directories
//! and files that are no longer where the receiver last saw them.

use super::{CANARY_DIR, CANARY_FILE, Case, Expect, LINK, MISSING, UUID, v1, v2};
use crate::build::{PARENT, Stream};
use crate::say::{Encoded, Range, Say as _};

fn own(to: &'static str, from: &'static str) -> Range<'static> {
    Range {
        to,
        to_offset: 0,
        length: 4096,
        uuid: UUID,
        from,
        from_offset: 0,
    }
}

/// Every command that takes a path, given one through `out`, a link to a
/// directory outside that holds `file` and `dir`.
fn below(start: impl Fn() -> Stream) -> Vec<(&'static str, Stream)> {
    let data = [7; 4096];
    vec![
        ("mkfile", start().mkfile("out/new")),
        ("mkdir", start().mkdir("out/new")),
        ("mkfifo", start().mkfifo("out/new")),
        ("mksock", start().mksock("out/new")),
        ("mknod", start().mknod("out/new", 0o010_644, 0)),
        ("symlink", start().symlink("out/new", "x")),
        ("rename into", start().rename("f", "out/new")),
        ("rename over", start().rename("f", "out/file")),
        ("rename out of", start().rename("out/file", "stolen")),
        ("link into", start().link("out/new", "f")),
        ("link of what is", start().link("stolen", "out/file")),
        ("unlink", start().unlink("out/file")),
        ("rmdir", start().rmdir("out/dir")),
        ("set xattr", start().set_xattr("out/file", b"user.x", b"y")),
        (
            "remove xattr",
            start().remove_xattr("out/file", b"user.canary"),
        ),
        ("write", start().write("out/file", 0, b"harm")),
        ("truncate", start().truncate("out/file", 0)),
        ("chmod", start().chmod("out/file", 0o777)),
        ("chown", start().chown("out/file", 1, 1)),
        ("utimes", start().utimes("out/file", 1, 1)),
        ("clone into", start().clone_range(&own("out/file", "f"))),
        ("clone from", start().clone_range(&own("f", "out/file"))),
        ("fallocate", start().fallocate("out/file", 0, 0, 8192)),
        (
            "encoded write",
            start().encoded(
                "out/file",
                &Encoded {
                    offset: 0,
                    file_length: 4096,
                    length: 4096,
                    skip: 0,
                    compression: 2,
                    encryption: 0,
                    data: &data,
                },
            ),
        ),
    ]
}

/// Commands that follow a link in the last component unless told not to.
fn at(start: impl Fn() -> Stream) -> Vec<(&'static str, Stream)> {
    vec![
        ("write", start().write("link", 0, b"harm")),
        ("truncate", start().truncate("link", 0)),
        ("chmod", start().chmod("link", 0o777)),
        ("clone into", start().clone_range(&own("link", "f"))),
        ("clone from", start().clone_range(&own("f", "link"))),
        ("fallocate", start().fallocate("link", 0, 0, 8192)),
        ("mkfile over", start().mkfile("link")),
        ("mkdir over", start().mkdir("link")),
    ]
}

pub(super) fn cases(outside: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let file = |stream: Stream| stream.mkfile("f").write("f", 0, &[1; 4096]);
    let refused = Expect::Apply(&[
        "symbolic link",
        "not a regular file",
        "exists",
        "not supported",
    ]);
    for (kind, target) in [
        ("relative", CANARY_DIR),
        ("absolute", outside),
        // A way out that ends where it began: still not taken.
        ("back", "../received/d"),
        ("inside", "d"),
    ] {
        let start = || {
            file(v2())
                .mkdir("d")
                .mkfile("d/file")
                .mkdir("d/dir")
                .symlink("out", target)
        };
        for (what, stream) in below(start) {
            cases.push(Case::new(
                format!("{what} below a link ({kind})"),
                stream.end(),
                LINK,
            ));
        }
    }
    for (kind, target) in [
        ("relative", CANARY_FILE.to_owned()),
        ("absolute", format!("{outside}/file")),
    ] {
        let start = || file(v2()).symlink("link", &target);
        for (what, stream) in at(start) {
            cases.push(Case::new(
                format!("{what} at a link ({kind})"),
                stream.end(),
                refused,
            ));
        }
    }
    let nested = v1()
        .mkdir("a")
        .mkdir("a/b")
        .symlink("a/b/c", "../../../../secret");
    cases.push(Case::new(
        "a link deep within a path",
        nested.mkfile("a/b/c/new").end(),
        LINK,
    ));
    cases.push(Case::new(
        "a link to itself",
        v1().symlink("a", "a").mkfile("a/b").end(),
        LINK,
    ));
    cases.push(Case::new(
        "a link to .",
        v1().symlink("a", ".").mkfile("a/b").end(),
        LINK,
    ));
    cases.push(Case::new(
        "a link to /proc",
        v1().symlink("a", "/proc/self/root").mkfile("a/new").end(),
        LINK,
    ));
    let planted = Stream::incremental()
        .write("links/dir/file", 0, b"harm")
        .end();
    cases.push(Case::new("a link to a directory, from the parent", planted, LINK).on_parent());
    let planted = Stream::incremental().write("links/file", 0, b"harm").end();
    cases.push(Case::new("a link to a file, from the parent", planted, LINK).on_parent());
    let planted = Stream::incremental().mkfile("f").clone_range(&Range {
        uuid: PARENT,
        ..own("f", "links/dir/file")
    });
    cases.push(Case::new("clone through a link of the parent", planted.end(), LINK).on_parent());
    cases.extend(swapped());
    cases.extend(gone());
    cases
}

/// A link where a directory or file was that the receiver may still hold open.
fn swapped() -> Vec<Case> {
    let case = |rule: &str, stream: Stream| Case::new(rule, stream.end(), LINK);
    let dir = || {
        v1().mkdir("d")
            .mkfile("d/file")
            .write("d/file", 0, &[1; 4096])
    };
    let file = || v1().mkfile("f").write("f", 0, &[1; 4096]);
    let deep = || {
        let stream = v1().mkdir("a").mkdir("a/b").mkfile("a/b/file");
        stream
            .write("a/b/file", 0, b"x")
            .rename("a", "z")
            .mkdir("a")
    };
    vec![
        case(
            "renamed directory swapped for a link: mkfile",
            dir()
                .rename("d", "e")
                .symlink("d", CANARY_DIR)
                .mkfile("d/new"),
        ),
        case(
            "renamed directory swapped for a link: write",
            dir()
                .rename("d", "e")
                .symlink("d", CANARY_DIR)
                .write("d/file", 0, b"harm"),
        ),
        case(
            "renamed directory swapped for a link: unlink",
            dir()
                .rename("d", "e")
                .symlink("d", CANARY_DIR)
                .unlink("d/file"),
        ),
        case(
            "renamed directory swapped for a link: clone from",
            dir()
                .rename("d", "e")
                .symlink("d", CANARY_DIR)
                .mkfile("f")
                .clone_range(&own("f", "d/file")),
        ),
        case(
            "removed directory swapped for a link",
            dir()
                .unlink("d/file")
                .rmdir("d")
                .symlink("d", CANARY_DIR)
                .mkfile("d/new"),
        ),
        case(
            "directory overwritten by a renamed link's directory",
            v1().mkdir("d")
                .mkfile("d/x")
                .unlink("d/x")
                .mkdir("e")
                .symlink("e/l", CANARY_DIR)
                .rename("e", "d")
                .mkfile("d/l/new"),
        ),
        case(
            "link renamed to where a directory was",
            dir()
                .symlink("l", CANARY_DIR)
                .rename("d", "e")
                .rename("l", "d")
                .mkfile("d/new"),
        ),
        case(
            "renamed file swapped for a link",
            file()
                .rename("f", "g")
                .symlink("f", CANARY_FILE)
                .write("f", 0, b"harm"),
        ),
        case(
            "removed file swapped for a link",
            file()
                .unlink("f")
                .symlink("f", CANARY_FILE)
                .write("f", 0, b"harm"),
        ),
        case(
            "file overwritten by a renamed link",
            file()
                .symlink("l", CANARY_FILE)
                .rename("l", "f")
                .write("f", 0, b"harm"),
        ),
        case(
            "removed file swapped for a link: truncate",
            file()
                .unlink("f")
                .symlink("f", CANARY_FILE)
                .truncate("f", 0),
        ),
        case(
            "removed file swapped for a link: clone from",
            file()
                .mkfile("g")
                .clone_range(&own("g", "f"))
                .unlink("f")
                .symlink("f", CANARY_FILE)
                .clone_range(&own("g", "f")),
        ),
        case(
            "directory two levels up swapped for a link",
            deep()
                .rmdir("a")
                .symlink("a", CANARY_DIR)
                .write("a/b/file", 0, b"harm"),
        ),
        case(
            "directory one level up swapped for a link",
            deep()
                .symlink("a/b", "../../../secret")
                .write("a/b/file", 0, b"harm"),
        ),
    ]
}

/// Nothing where something was: what the receiver still holds must not take it.
fn gone() -> Vec<Case> {
    let case = |rule: &str, stream: Stream| Case::new(rule, stream.end(), MISSING);
    let dir = || v1().mkdir("d").mkfile("d/file").write("d/file", 0, b"x");
    let file = || v1().mkfile("f").write("f", 0, b"x");
    vec![
        case(
            "directory renamed away: mkfile",
            dir().rename("d", "e").mkfile("d/new"),
        ),
        case(
            "directory renamed away: write",
            dir().rename("d", "e").write("d/file", 0, b"y"),
        ),
        case(
            "directory renamed away: chmod",
            dir().rename("d", "e").chmod("d/file", 0o600),
        ),
        case(
            "directory renamed away: rename",
            dir().rename("d", "e").rename("d/file", "g"),
        ),
        case(
            "directory removed: mkfile",
            dir().unlink("d/file").rmdir("d").mkfile("d/new"),
        ),
        case(
            "directory above renamed away",
            v1().mkdir("a")
                .mkdir("a/d")
                .mkfile("a/d/file")
                .write("a/d/file", 0, b"x")
                .rename("a", "b")
                .write("a/d/file", 1, b"y"),
        ),
        case(
            "file renamed away",
            file().rename("f", "g").write("f", 1, b"y"),
        ),
        case("file removed", file().unlink("f").write("f", 1, b"y")),
        case("file removed: utimes", file().unlink("f").utimes("f", 1, 1)),
        case("file that never was", v1().write("f", 0, b"x")),
        case("chown of nothing", v1().chown("f", 1, 1)),
        case("unlink of nothing", v1().unlink("f")),
        case("rename of nothing", v1().rename("f", "g")),
    ]
}
