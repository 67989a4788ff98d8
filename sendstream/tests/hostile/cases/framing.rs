//! Header, command headers, attributes.

use op_dbus_sendstream::wire::{Attr, Command};

use super::{Case, Expect, v1, v2};
use crate::build::{Stream, attrs, framed};
use crate::say::Say as _;

fn case(rule: &str, stream: Stream, words: &'static str) -> Case {
    Case::new(rule, stream, Expect::Vet(words))
}

/// The header of a command that claims to be so long.
fn claim(length: u32) -> [u8; 10] {
    let mut header = [0; 10];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4] = 15;
    header
}

pub(super) fn cases() -> Vec<Case> {
    let bytes = |bytes: &[u8]| Stream {
        version: 1,
        bytes: bytes.to_vec(),
    };
    let whole = v1().mkfile("a").end().bytes;
    let mut damaged = whole.clone();
    if let Some(byte) = damaged.last_mut() {
        *byte ^= 1;
    }
    let body = |body: &[u8]| v1().raw(&framed(3, body)).end();
    let chmod = |mode: &[u8]| {
        let attrs = attrs().path("a").bytes(Attr::Mode, mode);
        v1().mkfile("a").command(Command::Chmod, &attrs).end()
    };
    vec![
        case("empty", bytes(b""), "not a Btrfs send stream"),
        case("magic", bytes(b"btrfs-strean\0\x01\0\0\0"), "not a Btrfs"),
        case("header cut", bytes(b"btrfs-stream\0\x01\0"), "cut off"),
        case("version 0", Stream::header(0).end(), "version 0"),
        case("version 4", Stream::header(4).end(), "version 4"),
        case(
            "version u32::MAX",
            Stream::header(u32::MAX).end(),
            "version 4294967295",
        ),
        case("command header cut", v1().raw(&[1, 0, 0]), "cut off"),
        case(
            "command body cut",
            bytes(&whole[..whole.len() - 12]),
            "cut off",
        ),
        case("end cut", bytes(&whole[..whole.len() - 1]), "cut off"),
        case(
            "length over the bound of version 1",
            v1().raw(&claim(65_527)),
            "65527 bytes",
        ),
        case(
            "length over the bound of version 2",
            v2().raw(&claim(196_599)),
            "196599 bytes",
        ),
        case(
            "length u32::MAX",
            v1().raw(&claim(u32::MAX)),
            "4294967295 bytes",
        ),
        case(
            "length u32::MAX, version 2",
            v2().raw(&claim(u32::MAX)),
            "4294967295 bytes",
        ),
        case("crc", bytes(&damaged), "checksum mismatch"),
        case(
            "crc of a claim that is kept",
            v1().raw(&claim(2)).raw(b"xx").end(),
            "checksum mismatch",
        ),
        case(
            "command 0",
            v1().number(0, &attrs()).end(),
            "unknown command 0",
        ),
        case(
            "command 200",
            v1().number(200, &attrs()).end(),
            "unknown command 200",
        ),
        case(
            "command u16::MAX",
            v1().number(u16::MAX, &attrs()).end(),
            "unknown command 65535",
        ),
        case(
            "command of version 2 in version 1",
            v1().number(23, &attrs().path("a")).end(),
            "unknown command 23",
        ),
        case(
            "command of version 3 in version 2",
            v2().number(26, &attrs().path("a")).end(),
            "unknown command 26",
        ),
        case(
            "attribute 0",
            v1().command(Command::MkFile, &attrs().path("a").raw(0, b""))
                .end(),
            "unknown attribute 0",
        ),
        case(
            "attribute of version 2 in version 1",
            v1().command(Command::MkFile, &attrs().path("a").raw(25, b""))
                .end(),
            "unknown attribute 25",
        ),
        case(
            "attribute of no version",
            v2().command(Command::MkFile, &attrs().path("a").raw(999, b""))
                .end(),
            "unknown attribute 999",
        ),
        case("attribute header cut", body(&[15, 0, 5]), "beyond the end"),
        case(
            "attribute over the end",
            body(&[15, 0, 200, 0, b'a']),
            "beyond the end",
        ),
        case(
            "attribute twice",
            v1().command(Command::MkFile, &attrs().path("a").path("b"))
                .end(),
            "twice",
        ),
        case(
            "no path",
            v1().command(Command::MkFile, &attrs()).end(),
            "without its Path",
        ),
        case(
            "no second path",
            v1().command(Command::Rename, &attrs().path("a")).end(),
            "without its PathTo",
        ),
        case(
            "no data",
            v1().command(Command::Write, &attrs().path("a").u64(Attr::FileOffset, 0))
                .end(),
            "without its Data",
        ),
        case(
            "number of 4 bytes",
            chmod(&[0; 4]),
            "4 bytes long instead of 8",
        ),
        case(
            "number of 9 bytes",
            chmod(&[0; 9]),
            "9 bytes long instead of 8",
        ),
        case("no number", chmod(&[]), "0 bytes long instead of 8"),
    ]
}
