//! Numbers of the wire format (kernel `fs/btrfs/send.h`).

/// The stream begins with it, terminating NUL included.
pub const MAGIC: [u8; 13] = *b"btrfs-stream\0";
/// Magic and version.
pub const STREAM_HEADER: usize = MAGIC.len() + 4;
/// Length, command and CRC.
pub const COMMAND_HEADER: usize = 10;
/// Longest command of version 1, header included (`BTRFS_SEND_BUF_SIZE_V1`).
pub const COMMAND_MAX_V1: usize = 64 * 1024;
/// Longest command of version 2, header included: `BTRFS_SEND_BUF_SIZE_V2` is
/// 16 KiB and one compressed extent of 128 KiB, rounded up to a page of the
/// *sender*, of which 64 KiB are the largest in use.
pub const COMMAND_MAX_V2: usize = 192 * 1024;
/// Versions this crate reads. Version 3 only adds `ENABLE_VERITY`.
pub const VERSIONS: [u32; 3] = [1, 2, 3];

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the kernel's names say what they are")]
pub enum Command {
    Subvol,
    Snapshot,
    MkFile,
    MkDir,
    MkNod,
    MkFifo,
    MkSock,
    Symlink,
    Rename,
    Link,
    Unlink,
    RmDir,
    SetXattr,
    RemoveXattr,
    Write,
    Clone,
    Truncate,
    Chmod,
    Chown,
    Utimes,
    End,
    UpdateExtent,
    Fallocate,
    FileAttr,
    EncodedWrite,
    EnableVerity,
}

/// Commands in the order of their numbers, from 1.
const COMMANDS: [Command; 26] = [
    Command::Subvol,
    Command::Snapshot,
    Command::MkFile,
    Command::MkDir,
    Command::MkNod,
    Command::MkFifo,
    Command::MkSock,
    Command::Symlink,
    Command::Rename,
    Command::Link,
    Command::Unlink,
    Command::RmDir,
    Command::SetXattr,
    Command::RemoveXattr,
    Command::Write,
    Command::Clone,
    Command::Truncate,
    Command::Chmod,
    Command::Chown,
    Command::Utimes,
    Command::End,
    Command::UpdateExtent,
    Command::Fallocate,
    Command::FileAttr,
    Command::EncodedWrite,
    Command::EnableVerity,
];
/// Highest command number of version 1.
const COMMANDS_V1: usize = 22;
/// Highest command number of version 2.
const COMMANDS_V2: usize = 25;

impl Command {
    /// The command of a number, if the stream's version has it.
    pub fn from_number(number: u16, version: u32) -> Option<Self> {
        let index = usize::from(number).checked_sub(1)?;
        let known = match version {
            0 | 1 => COMMANDS_V1,
            2 => COMMANDS_V2,
            _ => COMMANDS.len(),
        };
        COMMANDS.get(index).copied().filter(|_| index < known)
    }

    /// Its number on the wire.
    pub fn number(self) -> u16 {
        let index = COMMANDS.iter().position(|&command| command == self);
        u16::try_from(index.unwrap_or(0)).unwrap_or(0) + 1
    }
}

/// An attribute of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the kernel's names say what they are")]
#[repr(u16)]
pub enum Attr {
    Uuid = 1,
    Ctransid = 2,
    Ino = 3,
    Size = 4,
    Mode = 5,
    Uid = 6,
    Gid = 7,
    Rdev = 8,
    Ctime = 9,
    Mtime = 10,
    Atime = 11,
    Otime = 12,
    XattrName = 13,
    XattrData = 14,
    Path = 15,
    PathTo = 16,
    PathLink = 17,
    FileOffset = 18,
    Data = 19,
    CloneUuid = 20,
    CloneCtransid = 21,
    ClonePath = 22,
    CloneOffset = 23,
    CloneLen = 24,
    FallocateMode = 25,
    FileAttr = 26,
    UnencodedFileLen = 27,
    UnencodedLen = 28,
    UnencodedOffset = 29,
    Compression = 30,
    Encryption = 31,
    VerityAlgorithm = 32,
    VerityBlockSize = 33,
    VeritySaltData = 34,
    VeritySigData = 35,
}

/// Highest attribute number of version 1.
pub const ATTRS_V1: u16 = 24;
/// Highest attribute number of version 2.
pub const ATTRS_V2: u16 = 31;
/// Highest attribute number of version 3.
pub const ATTRS_V3: u16 = 35;

impl Attr {
    /// Its number on the wire.
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// CRC-32C as send streams use it: seed 0 and no final inversion, unlike the
/// usual CRC-32C, over the command with its CRC field zeroed.
pub fn command_crc(header: [u8; COMMAND_HEADER], body: &[u8]) -> u32 {
    let mut header = header;
    if let Some(field) = header.last_chunk_mut::<4>() {
        *field = [0; 4];
    }
    // The library inverts before and after; both are undone here.
    !crc32c::crc32c_append(crc32c::crc32c_append(u32::MAX, &header), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_end_where_the_version_ends() {
        for number in 1..=26 {
            let command = Command::from_number(number, 3).unwrap();
            assert_eq!(command.number(), number);
            assert_eq!(Command::from_number(number, 1).is_some(), number <= 22);
            assert_eq!(Command::from_number(number, 2).is_some(), number <= 25);
        }
        assert_eq!(Command::from_number(0, 3), None);
        assert_eq!(Command::from_number(27, 3), None);
        assert_eq!(Command::End.number(), 21);
        assert_eq!(Attr::Encryption.number(), ATTRS_V2);
        assert_eq!(Attr::VeritySigData.number(), ATTRS_V3);
        assert_eq!(Attr::CloneLen.number(), ATTRS_V1);
    }

    /// The END command of every real stream.
    #[test]
    fn crc_is_that_of_a_real_stream() {
        let end = [0, 0, 0, 0, 21, 0, 0, 0, 0, 0];
        assert_eq!(command_crc(end, &[]), 0x9dc9_6c50);
    }
}
