//! Paths that are no paths within the subvolume.

use op_dbus_sendstream::wire::{Attr, Command};

use super::{Case, Expect, UUID, v1};
use crate::build::attrs;
use crate::say::{Range, Say as _};

pub(super) fn cases() -> Vec<Case> {
    let long = "a/".repeat(2048) + "a";
    let component = "a".repeat(256);
    let bad = [
        ("..", "..", "contains . or .."),
        ("leading ..", "../canary", "contains . or .."),
        ("inner ..", "a/../../canary", "contains . or .."),
        ("trailing ..", "a/..", "contains . or .."),
        ("leading .", "./a", "contains . or .."),
        ("absolute", "/etc/op-dbus-canary", "absolute"),
        ("absolute //", "//a", "absolute"),
        ("empty", "", "empty"),
        ("NUL", "a\0b", "NUL"),
        ("//", "a//b", "empty component"),
        ("trailing /", "a/", "empty component"),
        ("component of 256 bytes", &component, "too long"),
        ("PATH_MAX", &long, "too long"),
        (
            "the area's sibling",
            "../../area-sibling/file",
            "contains . or ..",
        ),
        ("back into itself", "../received/a", "contains . or .."),
    ];
    let mut cases = Vec::new();
    for (rule, path, words) in bad {
        let refused = Expect::Vet(words);
        let mut add = |what: &str, stream: crate::build::Stream| {
            cases.push(Case::new(
                format!("path {rule}: {what}"),
                stream.end(),
                refused,
            ));
        };
        let start = || v1().mkdir("d").mkfile("f");
        add("mkfile", start().mkfile(path));
        add("mkdir", start().mkdir(path));
        add("symlink", start().symlink(path, "f"));
        add("rename from", start().rename(path, "g"));
        add("rename to", start().rename("f", path));
        add("link to", start().link(path, "f"));
        add("link from", start().link("g", path));
        add("write", start().write(path, 0, b"harm"));
        add("unlink", start().unlink(path));
        add("rmdir", start().rmdir(path));
        add(
            "clone from",
            start().clone_range(&Range {
                to: "f",
                to_offset: 0,
                length: 4096,
                uuid: UUID,
                from: path,
                from_offset: 0,
            }),
        );
        // The empty path is the root of the subvolume: its mode may be set.
        if !path.is_empty() {
            add("chmod", start().chmod(path, 0o777));
            add("chown", start().chown(path, 1, 1));
            add("utimes", start().utimes(path, 1, 1));
            add("setxattr", start().set_xattr(path, b"user.x", b"y"));
        }
    }
    let target = |bytes: &[u8]| {
        let attrs = attrs().path("l").bytes(Attr::PathLink, bytes);
        v1().command(Command::Symlink, &attrs).end()
    };
    for (rule, bytes) in [
        ("link target empty", &b""[..]),
        ("link target with NUL", b"a\0b"),
        ("link target over PATH_MAX", &[b'a'; 4096]),
    ] {
        cases.push(Case::new(
            rule,
            target(bytes),
            Expect::Vet("no link target"),
        ));
    }
    cases
}
