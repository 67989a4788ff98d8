//! What can be wrong with a stream.

use std::fmt;
use std::io;

use crate::wire::{Attr, COMMAND_MAX_V1, COMMAND_MAX_V2, Command};

/// Why a stream is refused, and where.
#[derive(Debug, thiserror::Error)]
#[error("{problem} (at byte {offset}, command {command})")]
pub struct StreamError {
    /// Where the offending command, or the header, begins.
    pub offset: u64,
    /// Number of the command, from 1; 0 is the header.
    pub command: u64,
    /// What is wrong.
    pub problem: Problem,
}

impl StreamError {
    /// What the system said, if the stream could not be read, passed on, or
    /// applied. By itself that says nothing against the stream: `ENOSPC` and
    /// `EIO` are the machine's, `ENOENT` while applying is the stream's fault.
    pub fn as_io(&self) -> Option<&io::Error> {
        match &self.problem {
            Problem::Read(error) | Problem::Sink(error) | Problem::Apply { source: error, .. } => {
                Some(error)
            }
            _ => None,
        }
    }
}

/// A path, name or other text of a stream, made safe to print.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// Escapes what is not printable ASCII and keeps the beginning.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        const LONGEST: usize = 80;
        let mut text: String = bytes
            .iter()
            .take(LONGEST)
            .copied()
            .flat_map(std::ascii::escape_default)
            .map(char::from)
            .collect();
        if bytes.len() > LONGEST {
            text.push_str("...");
        }
        Self(text)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The source failed.
    #[error("reading the stream failed: {0}")]
    Read(io::Error),
    /// What the stream is passed on to failed.
    #[error("passing the stream on failed: {0}")]
    Sink(io::Error),
    /// Not a send stream at all.
    #[error("not a Btrfs send stream")]
    Magic,
    /// A version this crate does not know.
    #[error("stream version {0} is not supported (1 to 3 are); send it with: btrfs send --proto 1")]
    Version(u32),
    /// Ends in the middle of a command, or before END.
    #[error("the stream is cut off")]
    Truncated,
    /// A command longer than its version allows.
    #[error(
        "a command claims {0} bytes, more than the {COMMAND_MAX_V1} (version 1) or {COMMAND_MAX_V2} (version 2) the kernel writes"
    )]
    TooLong(u64),
    /// Damaged.
    #[error("checksum mismatch: the stream is damaged")]
    Crc,
    /// A command the version does not have.
    #[error("unknown command {0}")]
    UnknownCommand(u16),
    /// An attribute the version does not have.
    #[error("unknown attribute {0}")]
    UnknownAttribute(u16),
    /// The same attribute twice in one command.
    #[error("attribute {0} stands twice in one command")]
    RepeatedAttribute(u16),
    /// An attribute reaches beyond its command.
    #[error("an attribute reaches beyond the end of its command")]
    AttributeBounds,
    /// A command without what it needs.
    #[error("{command:?} without its {attr:?} attribute")]
    Missing {
        /// Which command.
        command: Command,
        /// What is missing.
        attr: Attr,
    },
    /// An attribute of the wrong size.
    #[error("attribute {attr:?} is {found} bytes long instead of {expected}")]
    AttributeSize {
        /// Which attribute.
        attr: Attr,
        /// Its size in the stream.
        found: usize,
        /// Its size by the format.
        expected: usize,
    },
    /// Does not begin with the subvolume it is about.
    #[error("the stream does not begin with a subvolume or snapshot")]
    NoSubvolume,
    /// More than one subvolume.
    #[error("the stream holds a second subvolume; send one subvolume per file")]
    SecondSubvolume,
    /// Something after END.
    #[error("data follows after the end of the stream")]
    Trailing,
    /// A path that could leave the subvolume, or is none.
    #[error("path {0} is not allowed: {1}")]
    Path(Shown, &'static str),
    /// The subvolume's name is not one path component of UTF-8.
    #[error("subvolume name {0} is not allowed: {1}")]
    Name(Shown, &'static str),
    /// A device node.
    #[error("{0} is a device node, which needs the release's permission")]
    Device(Shown),
    /// A character device 0:0.
    #[error("{0} is a device node 0:0, which overlayfs takes for a deletion")]
    Whiteout(Shown),
    /// A device number that is none.
    #[error("{0} is a device node of number {1:#x}, and device numbers have 32 bits")]
    DeviceNumber(Shown, u64),
    /// MKNOD of something that is no node.
    #[error("{0} is made with mode {1:o}, which is no kind of node")]
    NodeMode(Shown, u64),
    /// Setuid, setgid, or more than mode bits.
    #[error("mode {1:o} of {0} is not allowed: setuid and setgid need the release's permission")]
    Mode(Shown, u64),
    /// An extended attribute that means something to the kernel.
    #[error("extended attribute {1} of {0} is not allowed: {2}")]
    Xattr(Shown, Shown, &'static str),
    /// Cloned from a subvolume that is neither this one nor its parent.
    #[error("{0} is cloned from a foreign subvolume; send without -c")]
    CloneSource(Shown),
    /// A file larger than the policy allows.
    #[error("{0} would be {1} bytes large, beyond the limit")]
    FileSize(Shown, u64),
    /// No file data (`btrfs send --no-data`).
    #[error("the stream holds no file data; send it without --no-data")]
    NoData,
    /// A file protected by fs-verity.
    #[error("{0} is protected by fs-verity, which is not supported; send it with --proto 2")]
    Verity(Shown),
    /// A time that is none.
    #[error("{0:?} has a second or more of nanoseconds")]
    Time(Attr),
    /// An owner that is none.
    #[error("owner {1}:{2} of {0} does not exist")]
    Owner(Shown, u64, u64),
    /// A compressed extent beyond the format's limits.
    #[error("a compressed extent of {0} is not allowed: {1}")]
    Encoded(Shown, &'static str),
    /// A compressed extent that the kernel does not take, and that cannot be
    /// decompressed either.
    #[error("a compressed extent of {0} cannot be decompressed: {1}")]
    Decode(Shown, String),
    /// An incremental stream, and nothing to apply it to.
    #[error("the stream builds on another subvolume, which was not given")]
    NoParent,
    /// An incremental stream, and another parent than its own.
    #[error("the stream builds on another subvolume than the one that was given")]
    WrongParent,
    /// What the stream says could not be done.
    #[error("{path}: {operation}: {source}")]
    Apply {
        /// What was being done, for example "create file".
        operation: &'static str,
        /// To which path of the subvolume.
        path: Shown,
        /// What the kernel said.
        source: io::Error,
    },
}
