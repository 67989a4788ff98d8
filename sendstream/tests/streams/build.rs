//! Builds streams by hand, right and wrong ones.

use op_dbus_sendstream::wire::{Attr, Command, MAGIC, command_crc};

pub(crate) const UUID: [u8; 16] = [0xaa; 16];
pub(crate) const PARENT: [u8; 16] = [0xbb; 16];

/// A stream under construction.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) version: u32,
    pub(crate) bytes: Vec<u8>,
}

/// The attributes of one command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attrs(Vec<(u16, Vec<u8>)>);

pub(crate) fn attrs() -> Attrs {
    Attrs::default()
}

impl Attrs {
    pub(crate) fn raw(mut self, number: u16, value: &[u8]) -> Self {
        self.0.push((number, value.to_vec()));
        self
    }

    pub(crate) fn bytes(self, attr: Attr, value: &[u8]) -> Self {
        self.raw(attr.number(), value)
    }

    pub(crate) fn u64(self, attr: Attr, value: u64) -> Self {
        self.bytes(attr, &value.to_le_bytes())
    }

    pub(crate) fn path(self, path: &str) -> Self {
        self.bytes(Attr::Path, path.as_bytes())
    }
}

impl Stream {
    pub(crate) fn header(version: u32) -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(version.to_le_bytes());
        Self { version, bytes }
    }

    /// A stream that begins as it should.
    pub(crate) fn full(version: u32) -> Self {
        Self::header(version).command(Command::Subvol, &subvol("v1.0.0"))
    }

    /// One that builds on another subvolume.
    pub(crate) fn incremental() -> Self {
        let attrs = subvol("v1.1.0")
            .bytes(Attr::CloneUuid, &PARENT)
            .u64(Attr::CloneCtransid, 7);
        Self::header(1).command(Command::Snapshot, &attrs)
    }

    pub(crate) fn command(self, command: Command, attrs: &Attrs) -> Self {
        self.number(command.number(), attrs)
    }

    pub(crate) fn number(mut self, number: u16, attrs: &Attrs) -> Self {
        let mut body = Vec::new();
        for (attr, value) in &attrs.0 {
            body.extend(attr.to_le_bytes());
            if !(self.version >= 2 && *attr == Attr::Data.number()) {
                body.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
            }
            body.extend(value);
        }
        self.bytes.extend(framed(number, &body));
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    pub(crate) fn end(self) -> Self {
        self.command(Command::End, &attrs())
    }
}

pub(crate) fn subvol(name: &str) -> Attrs {
    attrs()
        .path(name)
        .bytes(Attr::Uuid, &UUID)
        .u64(Attr::Ctransid, 5)
}

/// A command with a right length and checksum.
pub(crate) fn framed(number: u16, body: &[u8]) -> Vec<u8> {
    let mut header = [0; 10];
    header[..4].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    header[4..6].copy_from_slice(&number.to_le_bytes());
    let crc = command_crc(header, body);
    header[6..].copy_from_slice(&crc.to_le_bytes());
    [&header[..], body].concat()
}

/// Commands of every kind that a release may hold.
pub(crate) fn rich(version: u32) -> Stream {
    let time = [0; 12];
    Stream::full(version)
        .command(
            Command::Chown,
            &attrs().path("").u64(Attr::Uid, 0).u64(Attr::Gid, 0),
        )
        .command(Command::Chmod, &attrs().path("").u64(Attr::Mode, 0o755))
        .command(
            Command::MkDir,
            &attrs().path("o257-7-0").u64(Attr::Ino, 257),
        )
        .command(
            Command::Rename,
            &attrs().path("o257-7-0").bytes(Attr::PathTo, b"bin"),
        )
        .command(Command::MkFile, &attrs().path("bin/a").u64(Attr::Ino, 258))
        .command(
            Command::Write,
            &attrs()
                .path("bin/a")
                .u64(Attr::FileOffset, 0)
                .bytes(Attr::Data, &[7; 40_000]),
        )
        .command(
            Command::Truncate,
            &attrs().path("bin/a").u64(Attr::Size, 39_000),
        )
        .command(
            Command::Chmod,
            &attrs().path("bin/a").u64(Attr::Mode, 0o1755),
        )
        .command(
            Command::Link,
            &attrs().path("bin/b").bytes(Attr::PathLink, b"bin/a"),
        )
        .command(
            Command::Symlink,
            &attrs()
                .path("bin/c")
                .bytes(Attr::PathLink, b"../../anywhere"),
        )
        .command(Command::MkFifo, &attrs().path("fifo"))
        .command(Command::MkSock, &attrs().path("sock"))
        .command(
            Command::SetXattr,
            &attrs()
                .path("bin/a")
                .bytes(Attr::XattrName, b"user.x")
                .bytes(Attr::XattrData, b""),
        )
        .command(
            Command::RemoveXattr,
            &attrs().path("bin/a").bytes(Attr::XattrName, b"user.x"),
        )
        .command(Command::Clone, &clone("bin/d", UUID))
        .command(Command::Unlink, &attrs().path("fifo"))
        .command(Command::RmDir, &attrs().path("empty"))
        .command(
            Command::Utimes,
            &attrs()
                .path("")
                .bytes(Attr::Atime, &time)
                .bytes(Attr::Mtime, &time)
                .bytes(Attr::Ctime, &time),
        )
        .end()
}

pub(crate) fn clone(path: &str, from: [u8; 16]) -> Attrs {
    attrs()
        .path(path)
        .u64(Attr::FileOffset, 0)
        .u64(Attr::CloneLen, 4096)
        .bytes(Attr::CloneUuid, &from)
        .u64(Attr::CloneCtransid, 5)
        .bytes(Attr::ClonePath, b"bin/a")
        .u64(Attr::CloneOffset, 0)
}
