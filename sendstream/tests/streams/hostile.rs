//! Streams made to do harm, and what is said of them.

use crate::build::{PARENT, Stream, UUID, attrs, clone, framed, rich, subvol};
use op_dbus_sendstream::wire::{Attr, Command};
use op_dbus_sendstream::{Policy, StreamError, Summary, vet, vet_into};

fn check(stream: &Stream) -> Result<Summary, StreamError> {
    vet(stream.bytes.as_slice(), &Policy::default())
}

/// Asserts that a stream is refused, with these words.
fn refused(stream: &Stream, words: &str) {
    match check(stream) {
        Ok(summary) => panic!("accepted, expected {words:?}: {summary:?}"),
        Err(why) => assert!(
            why.to_string().contains(words),
            "{why} instead of {words:?}"
        ),
    }
}

/// Asserts that one command in an otherwise good stream is refused.
fn refused_command(command: Command, attributes: &crate::build::Attrs, words: &str) {
    refused(&Stream::full(1).command(command, attributes).end(), words);
}

#[test]
fn good_streams_pass_and_are_summed_up() {
    for version in [1, 2] {
        let stream = rich(version);
        let summary = check(&stream).unwrap();
        assert_eq!(summary.version, version);
        assert_eq!(summary.name, "v1.0.0");
        assert_eq!((summary.uuid, summary.ctransid), (UUID, 5));
        assert_eq!(summary.parent, None);
        assert_eq!(summary.commands, 20);
        assert_eq!(summary.bytes, stream.bytes.len() as u64);
        assert_eq!(summary.content, 40_000);
    }
    let parent = check(
        &Stream::incremental()
            .command(Command::Clone, &clone("x", PARENT))
            .end(),
    )
    .unwrap()
    .parent
    .unwrap();
    assert_eq!((parent.uuid, parent.ctransid), (PARENT, 7));
}

#[test]
fn what_is_handed_on_is_the_stream_itself() {
    let stream = rich(1);
    let mut copy = Vec::new();
    vet_into(stream.bytes.as_slice(), &Policy::default(), |part| {
        copy.extend_from_slice(part);
        Ok(())
    })
    .unwrap();
    assert_eq!(copy, stream.bytes);
}

#[test]
fn nothing_is_handed_on_from_the_first_fault_on() {
    let good = Stream::full(1);
    let stream = good
        .clone()
        .command(Command::Chmod, &attrs().path("x").u64(Attr::Mode, 0o4755))
        .end();
    let mut copy = Vec::new();
    let result = vet_into(stream.bytes.as_slice(), &Policy::default(), |part| {
        copy.extend_from_slice(part);
        Ok(())
    });
    assert!(result.is_err());
    assert_eq!(copy, good.bytes);
}

#[test]
fn end_is_withheld_when_something_follows_it() {
    let stream = rich(1).raw(b"x");
    let mut copy = Vec::new();
    let result = vet_into(stream.bytes.as_slice(), &Policy::default(), |part| {
        copy.extend_from_slice(part);
        Ok(())
    });
    assert!(result.is_err());
    assert_eq!(copy.len() + framed(21, &[]).len(), rich(1).bytes.len());
}

#[test]
fn headers() {
    let with = |bytes: &[u8]| Stream {
        version: 1,
        bytes: bytes.to_vec(),
    };
    refused(&with(b""), "not a Btrfs send stream");
    refused(
        &with(b"PK\x03\x04 something else altogether"),
        "not a Btrfs send stream",
    );
    refused(&with(b"btrfs-stream\0\x01"), "cut off");
    refused(&Stream::header(0).end(), "version 0");
    refused(&Stream::header(4).end(), "version 4");
    refused(&Stream::header(1), "cut off");
    refused(&Stream::header(1).end(), "does not begin with a subvolume");
}

#[test]
fn lengths_are_bounded_before_anything_is_read() {
    let huge = |version| Stream::full(version).raw(&[0xff, 0xff, 0xff, 0xff, 15, 0, 0, 0, 0, 0]);
    refused(&huge(1), "4294967295 bytes");
    refused(&huge(2), "4294967295 bytes");
    // The longest command of version 1, and one byte more.
    let padding = |version, length: usize| {
        let data = vec![0; length];
        let body = [
            &[
                15, 0, 1, 0, b'f', 18, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 19, 0,
            ][..],
            &data,
        ]
        .concat();
        Stream::full(version).raw(&framed(15, &body)).end()
    };
    assert!(check(&padding(2, 64 * 1024)).is_ok());
    assert!(check(&padding(2, 192 * 1024 - 10 - 19)).is_ok());
    refused(&padding(2, 192 * 1024 - 10 - 18), "196599 bytes");
    refused(&padding(1, 64 * 1024 - 10 - 18), "65527 bytes");
}

#[test]
fn shape() {
    refused(&Stream::full(1), "cut off");
    refused(&Stream::full(1).end().raw(b"\0"), "after the end");
    refused(&Stream::full(1).end().end(), "after the end");
    refused(
        &Stream::full(1).command(Command::Subvol, &subvol("b")).end(),
        "second subvolume",
    );
    let full_then_header = rich(1).raw(&rich(1).bytes);
    refused(&full_then_header, "after the end");
    refused(
        &Stream::header(1)
            .command(Command::MkFile, &attrs().path("a"))
            .end(),
        "does not begin with a subvolume",
    );
    refused(
        &Stream::full(1).number(23, &attrs().path("a")).end(),
        "unknown command 23",
    );
    refused(
        &Stream::full(2).number(26, &attrs().path("a")).end(),
        "unknown command 26",
    );
    refused(
        &Stream::full(1).number(0, &attrs()).end(),
        "unknown command 0",
    );
}

#[test]
fn attributes() {
    refused_command(Command::MkFile, &attrs(), "without its Path");
    refused_command(Command::MkFile, &attrs().path("a").path("b"), "twice");
    refused_command(
        Command::MkFile,
        &attrs().path("a").raw(0, b""),
        "unknown attribute 0",
    );
    refused_command(
        Command::MkFile,
        &attrs().path("a").raw(25, b""),
        "unknown attribute 25",
    );
    refused_command(
        Command::Chmod,
        &attrs().path("a").bytes(Attr::Mode, &[0; 4]),
        "4 bytes long instead of 8",
    );
    refused_command(Command::Utimes, &attrs().path("a"), "without its Atime");
    for body in [&[15][..], &[15, 0], &[15, 0, 5, 0, b'a'], &[15, 0, 1]] {
        refused(
            &Stream::full(1).raw(&framed(3, body)).end(),
            "beyond the end",
        );
    }
}

#[test]
fn names_of_subvolumes() {
    for (name, words) in [
        ("", "empty"),
        ("/x", "absolute"),
        ("a/b", "more than one"),
        ("..", "contains . or .."),
        (".", "contains . or .."),
        ("a\0", "NUL"),
    ] {
        let stream = Stream::header(1)
            .command(Command::Subvol, &subvol(name))
            .end();
        refused(&stream, words);
    }
    let latin = attrs()
        .bytes(Attr::Path, b"v\xe9")
        .bytes(Attr::Uuid, &UUID)
        .u64(Attr::Ctransid, 5);
    refused(
        &Stream::header(1).command(Command::Subvol, &latin).end(),
        "UTF-8",
    );
}

#[test]
fn paths_that_lead_out_are_refused_in_every_command_that_has_one() {
    let long = "a/".repeat(2048) + "a";
    let component = "a".repeat(256);
    let bad = [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "a\0b",
        &long,
        &component,
    ];
    let with = |command: Command, path: &str| {
        let mut given = attrs().path(path);
        given = match command {
            Command::Rename => given.bytes(Attr::PathTo, b"x"),
            Command::Link | Command::Symlink => given.bytes(Attr::PathLink, b"x"),
            Command::MkNod => given.u64(Attr::Mode, 0o010_644).u64(Attr::Rdev, 0),
            Command::SetXattr => given
                .bytes(Attr::XattrName, b"user.x")
                .bytes(Attr::XattrData, b""),
            Command::RemoveXattr => given.bytes(Attr::XattrName, b"user.x"),
            Command::Write => given.u64(Attr::FileOffset, 0).bytes(Attr::Data, b"x"),
            Command::Clone => return clone(path, UUID),
            Command::Truncate => given.u64(Attr::Size, 0),
            Command::Chmod => given.u64(Attr::Mode, 0o644),
            Command::Chown => given.u64(Attr::Uid, 0).u64(Attr::Gid, 0),
            Command::Utimes => given
                .bytes(Attr::Atime, &[0; 12])
                .bytes(Attr::Mtime, &[0; 12])
                .bytes(Attr::Ctime, &[0; 12]),
            _ => given,
        };
        given
    };
    for number in (3..=20).map(|number| Command::from_number(number, 1).unwrap()) {
        assert!(
            check(&Stream::full(1).command(number, &with(number, "a/b")).end()).is_ok(),
            "{number:?}"
        );
        for path in bad {
            refused_command(number, &with(number, path), "not allowed");
        }
        let at_root = matches!(
            number,
            Command::SetXattr
                | Command::RemoveXattr
                | Command::Chmod
                | Command::Chown
                | Command::Utimes
        );
        let result = check(&Stream::full(1).command(number, &with(number, "")).end());
        assert_eq!(result.is_ok(), at_root, "{number:?} of the root");
    }
    refused_command(
        Command::Rename,
        &attrs().path("a").bytes(Attr::PathTo, b"../b"),
        "not allowed",
    );
    refused_command(
        Command::Link,
        &attrs().path("a").bytes(Attr::PathLink, b"/etc/shadow"),
        "not allowed",
    );
    let outside = attrs()
        .path("a")
        .u64(Attr::FileOffset, 0)
        .u64(Attr::CloneLen, 1)
        .bytes(Attr::ClonePath, b"../x");
    refused_command(Command::Clone, &outside, "not allowed");
}

#[test]
fn what_gives_privilege_or_steers_the_kernel() {
    let node = |mode| {
        attrs()
            .path("dev")
            .u64(Attr::Mode, mode)
            .u64(Attr::Rdev, 0x0103)
    };
    refused_command(Command::MkNod, &node(0o020_666), "device node");
    refused_command(Command::MkNod, &node(0o060_660), "device node");
    refused_command(Command::MkNod, &node(0o100_644), "no kind of node");
    assert!(
        check(
            &Stream::full(1)
                .command(Command::MkNod, &node(0o010_644))
                .end()
        )
        .is_ok()
    );
    // A whiteout, as overlayfs would take it.
    let whiteout = attrs()
        .path("w")
        .u64(Attr::Mode, 0o020_000)
        .u64(Attr::Rdev, 0);
    refused_command(Command::MkNod, &whiteout, "device node");

    for mode in [0o4755, 0o2755, 0o6755, 0o10_755, 0o100_644] {
        refused_command(
            Command::Chmod,
            &attrs().path("a").u64(Attr::Mode, mode),
            "not allowed",
        );
    }
    let xattr = |name: &[u8]| {
        attrs()
            .path("a")
            .bytes(Attr::XattrName, name)
            .bytes(Attr::XattrData, b"y")
    };
    for name in [
        &b"trusted.overlay.opaque"[..],
        b"user.overlay.redirect",
        b"security.capability",
        b"",
        b"user.\0",
        &[b'x'; 256],
    ] {
        refused_command(Command::SetXattr, &xattr(name), "extended attribute");
    }
    for name in [
        &b"user.overlayfs"[..],
        b"security.selinux",
        b"system.posix_acl_access",
    ] {
        assert!(
            check(
                &Stream::full(1)
                    .command(Command::SetXattr, &xattr(name))
                    .end()
            )
            .is_ok()
        );
    }
    refused_command(Command::Clone, &clone("a", PARENT), "foreign subvolume");
    refused_command(
        Command::Truncate,
        &attrs().path("a").u64(Attr::Size, u64::MAX),
        "beyond the limit",
    );
    let far = attrs()
        .path("a")
        .u64(Attr::FileOffset, u64::MAX)
        .bytes(Attr::Data, b"x");
    refused_command(Command::Write, &far, "beyond the limit");
    refused_command(Command::UpdateExtent, &attrs().path("a"), "--no-data");
    refused_command(
        Command::Symlink,
        &attrs().path("a").bytes(Attr::PathLink, b""),
        "no link target",
    );
}

#[test]
fn a_release_with_permission_may_hold_setuid_programs() {
    let policy = Policy {
        setuid: true,
        capabilities: true,
        ..Policy::default()
    };
    let stream = Stream::full(1)
        .command(Command::Chmod, &attrs().path("a").u64(Attr::Mode, 0o4755))
        .command(
            Command::SetXattr,
            &attrs()
                .path("a")
                .bytes(Attr::XattrName, b"security.capability")
                .bytes(Attr::XattrData, b"x"),
        )
        .end();
    assert!(vet(stream.bytes.as_slice(), &policy).is_ok());
}

#[test]
fn commands_of_version_two() {
    let encoded = |attributes: crate::build::Attrs| {
        attributes
            .path("a")
            .u64(Attr::FileOffset, 0)
            .u64(Attr::UnencodedFileLen, 131_072)
            .u64(Attr::UnencodedLen, 131_072)
            .u64(Attr::UnencodedOffset, 0)
            .bytes(Attr::Compression, &2_u32.to_le_bytes())
            .bytes(Attr::Data, &[1; 5000])
    };
    let good = Stream::full(2)
        .command(Command::EncodedWrite, &encoded(attrs()))
        .end();
    assert_eq!(check(&good).unwrap().content, 131_072);
    refused(
        &Stream::full(2)
            .command(Command::FileAttr, &attrs().path("a"))
            .end(),
        "without its FileAttr",
    );
    let allocate = attrs()
        .path("a")
        .bytes(Attr::FallocateMode, &1_u32.to_le_bytes())
        .u64(Attr::FileOffset, 1 << 60)
        .u64(Attr::Size, 1);
    refused(
        &Stream::full(2).command(Command::Fallocate, &allocate).end(),
        "beyond the limit",
    );
}

#[test]
fn messages_say_where_and_stay_printable() {
    let why = check(
        &Stream::full(1)
            .command(Command::MkFile, &attrs().path("/\x1b[2J\n"))
            .end(),
    )
    .unwrap_err();
    let text = why.to_string();
    assert!(text.contains("command 2"), "{text}");
    assert!(text.chars().all(|c| !c.is_control()), "{text}");
}

/// A version's own tree must not; what a device's users changed over it does.
#[test]
fn what_steers_overlayfs_is_for_upper_layers() {
    let whiteout = attrs()
        .path("w")
        .u64(Attr::Mode, 0o020_000)
        .u64(Attr::Rdev, 0);
    let opaque = attrs()
        .path("a")
        .bytes(Attr::XattrName, b"trusted.overlay.opaque")
        .bytes(Attr::XattrData, b"y");
    let stream = Stream::full(1)
        .command(Command::MkNod, &whiteout)
        .command(Command::SetXattr, &opaque)
        .end();
    assert!(vet(&stream.bytes[..], &Policy::overlay()).is_ok());
    assert!(vet(&stream.bytes[..], &Policy::everything()).is_err());
    let bytes = Stream::full(1)
        .command(Command::UpdateExtent, &attrs().path("a"))
        .end();
    assert!(vet(&bytes.bytes[..], &Policy::overlay()).is_err());
}
