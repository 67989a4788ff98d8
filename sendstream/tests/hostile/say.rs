//! Commands of a stream in one word each.

use op_dbus_sendstream::wire::{Attr, Command};

use crate::build::{Attrs, Stream, attrs};

/// Adds commands to a stream. Numbers a command carries without meaning for a
/// receiver (inode numbers) are left out, as they are optional to us.
pub(crate) trait Say: Sized {
    fn say(self, command: Command, attrs: &Attrs) -> Self;

    fn mkfile(self, path: &str) -> Self {
        self.say(Command::MkFile, &attrs().path(path))
    }

    fn mkdir(self, path: &str) -> Self {
        self.say(Command::MkDir, &attrs().path(path))
    }

    fn mkfifo(self, path: &str) -> Self {
        self.say(Command::MkFifo, &attrs().path(path))
    }

    fn mksock(self, path: &str) -> Self {
        self.say(Command::MkSock, &attrs().path(path))
    }

    fn mknod(self, path: &str, mode: u64, device: u64) -> Self {
        let attrs = attrs()
            .path(path)
            .u64(Attr::Mode, mode)
            .u64(Attr::Rdev, device);
        self.say(Command::MkNod, &attrs)
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        let attrs = attrs().path(path).bytes(Attr::PathLink, target.as_bytes());
        self.say(Command::Symlink, &attrs)
    }

    fn rename(self, from: &str, to: &str) -> Self {
        let attrs = attrs().path(from).bytes(Attr::PathTo, to.as_bytes());
        self.say(Command::Rename, &attrs)
    }

    fn link(self, new: &str, old: &str) -> Self {
        let attrs = attrs().path(new).bytes(Attr::PathLink, old.as_bytes());
        self.say(Command::Link, &attrs)
    }

    fn unlink(self, path: &str) -> Self {
        self.say(Command::Unlink, &attrs().path(path))
    }

    fn rmdir(self, path: &str) -> Self {
        self.say(Command::RmDir, &attrs().path(path))
    }

    fn set_xattr(self, path: &str, name: &[u8], value: &[u8]) -> Self {
        let attrs = attrs()
            .path(path)
            .bytes(Attr::XattrName, name)
            .bytes(Attr::XattrData, value);
        self.say(Command::SetXattr, &attrs)
    }

    fn remove_xattr(self, path: &str, name: &[u8]) -> Self {
        let attrs = attrs().path(path).bytes(Attr::XattrName, name);
        self.say(Command::RemoveXattr, &attrs)
    }

    fn write(self, path: &str, offset: u64, data: &[u8]) -> Self {
        let attrs = attrs()
            .path(path)
            .u64(Attr::FileOffset, offset)
            .bytes(Attr::Data, data);
        self.say(Command::Write, &attrs)
    }

    fn truncate(self, path: &str, size: u64) -> Self {
        self.say(Command::Truncate, &attrs().path(path).u64(Attr::Size, size))
    }

    fn chmod(self, path: &str, mode: u64) -> Self {
        self.say(Command::Chmod, &attrs().path(path).u64(Attr::Mode, mode))
    }

    fn chown(self, path: &str, uid: u64, gid: u64) -> Self {
        let attrs = attrs().path(path).u64(Attr::Uid, uid).u64(Attr::Gid, gid);
        self.say(Command::Chown, &attrs)
    }

    /// All three times the same.
    fn utimes(self, path: &str, seconds: u64, nanoseconds: u32) -> Self {
        let time = [&seconds.to_le_bytes()[..], &nanoseconds.to_le_bytes()].concat();
        let attrs = attrs()
            .path(path)
            .bytes(Attr::Atime, &time)
            .bytes(Attr::Mtime, &time)
            .bytes(Attr::Ctime, &time);
        self.say(Command::Utimes, &attrs)
    }

    fn fallocate(self, path: &str, mode: u32, offset: u64, length: u64) -> Self {
        let attrs = attrs()
            .path(path)
            .bytes(Attr::FallocateMode, &mode.to_le_bytes())
            .u64(Attr::FileOffset, offset)
            .u64(Attr::Size, length);
        self.say(Command::Fallocate, &attrs)
    }

    fn clone_range(self, range: &Range<'_>) -> Self {
        let attrs = attrs()
            .path(range.to)
            .u64(Attr::FileOffset, range.to_offset)
            .u64(Attr::CloneLen, range.length)
            .bytes(Attr::CloneUuid, &range.uuid)
            .u64(Attr::CloneCtransid, 5)
            .bytes(Attr::ClonePath, range.from.as_bytes())
            .u64(Attr::CloneOffset, range.from_offset);
        self.say(Command::Clone, &attrs)
    }

    fn encoded(self, path: &str, write: &Encoded<'_>) -> Self {
        let attrs = attrs()
            .path(path)
            .u64(Attr::FileOffset, write.offset)
            .u64(Attr::UnencodedFileLen, write.file_length)
            .u64(Attr::UnencodedLen, write.length)
            .u64(Attr::UnencodedOffset, write.skip)
            .bytes(Attr::Compression, &write.compression.to_le_bytes())
            .bytes(Attr::Encryption, &write.encryption.to_le_bytes())
            .bytes(Attr::Data, write.data);
        self.say(Command::EncodedWrite, &attrs)
    }
}

impl Say for Stream {
    fn say(self, command: Command, attrs: &Attrs) -> Self {
        self.command(command, attrs)
    }
}

/// What a CLONE command copies.
pub(crate) struct Range<'a> {
    pub(crate) to: &'a str,
    pub(crate) to_offset: u64,
    pub(crate) length: u64,
    pub(crate) uuid: [u8; 16],
    pub(crate) from: &'a str,
    pub(crate) from_offset: u64,
}

/// What an `ENCODED_WRITE` command brings.
pub(crate) struct Encoded<'a> {
    pub(crate) offset: u64,
    pub(crate) file_length: u64,
    pub(crate) length: u64,
    pub(crate) skip: u64,
    pub(crate) compression: u32,
    pub(crate) encryption: u32,
    pub(crate) data: &'a [u8],
}
