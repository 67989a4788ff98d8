//! What a release must not hold, and commands that don't fit what is there.

use op_dbus_sendstream::wire::{Attr, Command};

use super::{Case, Expect, v1, v2};
use crate::build::{Stream, attrs};
use crate::say::Say as _;

const CHARACTER: u64 = 0o020_666;
const BLOCK: u64 = 0o060_660;
/// 1:3, /dev/null.
const NULL: u64 = 0x103;
/// `UTIME_NOW` and `UTIME_OMIT` of `utimensat(2)`.
const NOW: u32 = (1 << 30) - 1;
const OMIT: u32 = (1 << 30) - 2;

fn vet(rule: &str, stream: Stream, words: &'static str) -> Case {
    Case::new(rule, stream.end(), Expect::Vet(words))
}

fn apply(rule: &str, stream: Stream, words: &'static [&'static str]) -> Case {
    Case::new(rule, stream.end(), Expect::Apply(words))
}

fn privileges() -> Vec<Case> {
    let file = || v1().mkfile("f");
    let xattr = |name: &[u8]| file().set_xattr("f", name, b"y");
    vec![
        vet(
            "character device",
            v1().mknod("n", CHARACTER, NULL),
            "device node",
        ),
        vet("block device", v1().mknod("n", BLOCK, 0x700), "device node"),
        vet("whiteout", v1().mknod("n", 0o020_000, 0), "device node"),
        vet("whiteout", v1().mknod("n", 0o020_000, 0), "device node 0:0").allowing_everything(),
        // 2^32 is 0:0 once it is cut to the 32 bits a device number has.
        vet(
            "whiteout beyond 32 bits",
            v1().mknod("n", 0o020_000, 1 << 32),
            "device node",
        )
        .allowing_everything(),
        vet(
            "mknod of a regular file",
            v1().mknod("n", 0o100_644, 0),
            "no kind of node",
        ),
        vet(
            "mknod of a directory",
            v1().mknod("n", 0o040_755, 0),
            "no kind of node",
        ),
        vet(
            "mknod mode beyond 32 bits",
            v1().mknod("n", 1 << 40 | 0o010_644, 0),
            "mode",
        ),
        vet("mknod with setuid", v1().mknod("n", 0o014_755, 0), "mode"),
        vet("setuid", file().chmod("f", 0o4755), "setuid"),
        vet("setgid", file().chmod("f", 0o2755), "setgid"),
        vet(
            "setuid directory",
            v1().mkdir("d").chmod("d", 0o4755),
            "setuid",
        ),
        vet("setgid of the root", v1().chmod("", 0o2755), "setgid"),
        vet("mode with a type", file().chmod("f", 0o100_644), "mode"),
        vet(
            "mode beyond 32 bits",
            file().chmod("f", 1 << 32 | 0o644),
            "mode",
        ),
        vet("capability", xattr(b"security.capability"), "capabilities"),
        vet(
            "trusted.overlay",
            xattr(b"trusted.overlay.opaque"),
            "overlayfs",
        ),
        vet("user.overlay", xattr(b"user.overlay.redirect"), "overlayfs"),
        vet(
            "trusted.overlay",
            xattr(b"trusted.overlay.metacopy"),
            "overlayfs",
        )
        .allowing_everything(),
        vet("user.overlay", xattr(b"user.overlay.whiteout"), "overlayfs").allowing_everything(),
        vet(
            "removal of trusted.overlay",
            file().remove_xattr("f", b"trusted.overlay.opaque"),
            "overlayfs",
        ),
        vet("xattr without name", xattr(b""), "no attribute name"),
        vet(
            "xattr name with NUL",
            xattr(b"user.\0"),
            "no attribute name",
        ),
        vet(
            "xattr name of 256 bytes",
            xattr(&[b'x'; 256]),
            "no attribute name",
        ),
        apply(
            "xattr of no namespace",
            xattr(b"nonsense.x"),
            &["not supported"],
        ),
        apply(
            "removal of an xattr that is not there",
            file().remove_xattr("f", b"user.x"),
            &["No data"],
        ),
        apply(
            "xattr larger than the file system takes",
            file().set_xattr("f", b"user.x", &[0; 60_000]),
            &["space", "too long", "large"],
        ),
    ]
}

fn numbers() -> Vec<Case> {
    let file = || v1().mkfile("f");
    let limit = "beyond the limit";
    vec![
        vet(
            "truncate to a huge size",
            file().truncate("f", (16 << 30) + 1),
            limit,
        ),
        vet(
            "truncate to u64::MAX",
            file().truncate("f", u64::MAX),
            limit,
        ),
        vet(
            "truncate to u64::MAX",
            file().truncate("f", u64::MAX),
            limit,
        )
        .allowing_everything(),
        vet(
            "write at a huge offset",
            file().write("f", 16 << 30, b"x"),
            limit,
        ),
        vet(
            "write whose end overflows",
            file().write("f", u64::MAX, b"x"),
            limit,
        )
        .allowing_everything(),
        vet(
            "fallocate of a huge range",
            v2().mkfile("f").fallocate("f", 0, 0, 1 << 40),
            limit,
        ),
        vet(
            "fallocate whose end overflows",
            v2().mkfile("f").fallocate("f", 0, u64::MAX, 2),
            limit,
        )
        .allowing_everything(),
        vet(
            "fallocate beyond i64",
            v2().mkfile("f").fallocate("f", 0, 1 << 63, 1),
            limit,
        )
        .allowing_everything(),
        apply(
            "fallocate mode of no kernel",
            v2().mkfile("f").fallocate("f", 1 << 30, 0, 4096),
            &["mode", "not supported", "Invalid"],
        ),
        vet("uid beyond 32 bits", file().chown("f", 1 << 32, 0), "owner"),
        vet("gid beyond 32 bits", file().chown("f", 0, 1 << 32), "owner"),
        // -1 means "leave it" to chown(2); no file has that owner.
        vet("uid -1", file().chown("f", 0xffff_ffff, 0), "owner"),
        vet("gid -1", file().chown("f", 0, 0xffff_ffff), "owner"),
        vet(
            "time with too many nanoseconds",
            file().utimes("f", 1, 1_000_000_000),
            "nanoseconds",
        ),
        vet(
            "time that means now",
            file().utimes("f", 1, NOW),
            "nanoseconds",
        ),
        vet(
            "time that means none",
            file().utimes("f", 1, OMIT),
            "nanoseconds",
        ),
    ]
}

fn commands() -> Vec<Case> {
    let extent = attrs()
        .path("f")
        .u64(Attr::FileOffset, 0)
        .u64(Attr::Size, 4096);
    let verity = attrs().path("f");
    vec![
        vet(
            "no data (update extent)",
            v1().mkfile("f").command(Command::UpdateExtent, &extent),
            "--no-data",
        ),
        vet(
            "verity",
            Stream::full(3).mkfile("f").number(26, &verity),
            "erity",
        ),
    ]
}

/// Things in the way, things of another kind.
fn misfits() -> Vec<Case> {
    let exists = &["exists"][..];
    let full = || v1().mkdir("d").mkfile("d/x");
    let special = &[
        "regular file",
        "directory",
        "Invalid",
        "No such device",
        "not a",
    ][..];
    vec![
        apply(
            "mkfile over a file",
            v1().mkfile("f").write("f", 0, b"x").mkfile("f"),
            exists,
        ),
        apply("mkdir over a directory", v1().mkdir("d").mkdir("d"), exists),
        apply("mkdir over a file", v1().mkfile("d").mkdir("d"), exists),
        apply("mkfifo over a file", v1().mkfile("f").mkfifo("f"), exists),
        apply("mksock over a file", v1().mkfile("f").mksock("f"), exists),
        apply(
            "symlink over a file",
            v1().mkfile("f").symlink("f", "x"),
            exists,
        ),
        apply(
            "link over a file",
            v1().mkfile("f").mkfile("g").link("g", "f"),
            exists,
        ),
        apply(
            "rename over a full directory",
            full().mkdir("e").rename("e", "d"),
            &["not empty"],
        ),
        apply(
            "rename of a file over a directory",
            v1().mkdir("d").mkfile("f").rename("f", "d"),
            &["s a directory"],
        ),
        apply(
            "rename of a directory into itself",
            v1().mkdir("d").rename("d", "d/e"),
            &["Invalid"],
        ),
        apply(
            "link of a directory",
            v1().mkdir("d").link("e", "d"),
            &["not permitted"],
        ),
        apply(
            "unlink of a directory",
            v1().mkdir("d").unlink("d"),
            &["directory"],
        ),
        apply(
            "rmdir of a file",
            v1().mkfile("f").rmdir("f"),
            &["ot a directory"],
        ),
        apply(
            "rmdir of a full directory",
            full().rmdir("d"),
            &["not empty"],
        ),
        apply(
            "path below a file",
            v1().mkfile("f").mkfile("f/g"),
            &["ot a directory"],
        ),
        apply(
            "write to a directory",
            v1().mkdir("d").write("d", 0, b"x"),
            special,
        ),
        apply(
            "write to a FIFO",
            v1().mkfifo("p").write("p", 0, b"x"),
            special,
        ),
        apply(
            "write to a socket",
            v1().mksock("s").write("s", 0, b"x"),
            special,
        ),
        apply(
            "write to a device",
            v1().mknod("n", CHARACTER, NULL).write("n", 0, b"x"),
            special,
        )
        .allowing_everything(),
        apply(
            "write to a block device",
            v1().mknod("n", BLOCK, 0xff07).write("n", 0, b"x"),
            special,
        )
        .allowing_everything(),
        apply(
            "truncate of a directory",
            v1().mkdir("d").truncate("d", 0),
            special,
        ),
        apply(
            "truncate of a FIFO",
            v1().mkfifo("p").truncate("p", 0),
            special,
        ),
        apply(
            "truncate of a device",
            v1().mknod("n", CHARACTER, NULL).truncate("n", 0),
            special,
        )
        .allowing_everything(),
        apply(
            "fallocate of a FIFO",
            v2().mkfifo("p").fallocate("p", 0, 0, 1),
            special,
        ),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = privileges();
    cases.extend(numbers());
    cases.extend(commands());
    cases.extend(misfits());
    cases
}
