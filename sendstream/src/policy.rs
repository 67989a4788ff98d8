//! What a release may contain, checked command by command.

use crate::attrs::Parsed;
use crate::error::{Problem, Shown};
use crate::wire::{Attr, Command};

/// Longest path, as the kernel's `PATH_MAX` without its NUL.
const PATH_MAX: usize = 4095;
/// Longest path component and extended-attribute name.
const NAME_MAX: usize = 255;
/// File type and permission bits of a mode (`inode(7)`).
const TYPE_MASK: u64 = 0o170_000;
const FIFO: u64 = 0o010_000;
const CHARACTER: u64 = 0o020_000;
const BLOCK: u64 = 0o060_000;
const SOCKET: u64 = 0o140_000;
const SET_ID: u64 = 0o6000;
const MODE_BITS: u64 = 0o7777;

/// Longest compressed extent, compressed or not (`BTRFS_MAX_COMPRESSED`,
/// `BTRFS_MAX_UNCOMPRESSED`).
pub(crate) const ENCODED_MAX: u64 = 128 * 1024;
/// Number after the last `BTRFS_ENCODED_IO_COMPRESSION_*`.
const ENCODED_COMPRESSIONS: u32 = 8;

/// What is allowed beyond plain files, directories, links, FIFOs and sockets.
/// Whole kinds only: a stream makes files under temporary names, so *which*
/// paths may be privileged is checked on the finished tree. What steers overlayfs
/// is never allowed in a version, which becomes an overlay's lower layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent permissions, not states"
)]
pub struct Policy {
    /// Character and block devices, but for whiteouts (0:0).
    pub devices: bool,
    /// The setuid and setgid bits.
    pub setuid: bool,
    /// File capabilities (`security.capability`).
    pub capabilities: bool,
    /// Streams without file data (`btrfs send --no-data`), whose files come
    /// out with holes instead of content.
    pub without_data: bool,
    /// What steers overlayfs: its attributes, and whiteouts (0:0). An upper layer
    /// is made of them.
    pub overlayfs: bool,
    /// Largest file, in bytes. A sparse file costs the sender nothing, but
    /// whoever reads the tree has to read it all.
    pub file_size: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            devices: false,
            setuid: false,
            capabilities: false,
            without_data: false,
            overlayfs: false,
            file_size: 16 << 30,
        }
    }
}

impl Policy {
    /// Allows what `btrfs receive` does, but for what steers overlayfs.
    pub fn everything() -> Self {
        Self {
            devices: true,
            setuid: true,
            capabilities: true,
            without_data: true,
            overlayfs: false,
            // Largest offset a file can have.
            file_size: i64::MAX.unsigned_abs(),
        }
    }

    /// Allows whatever an overlay's upper layer may hold.
    pub fn overlay() -> Self {
        Self {
            without_data: false,
            overlayfs: true,
            ..Self::everything()
        }
    }
}

/// The subvolumes a clone may read from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources {
    /// The one that is being received.
    pub(crate) own: [u8; 16],
    /// Its parent, in an incremental stream.
    pub(crate) parent: Option<[u8; 16]>,
}

/// Whether an empty path, the subvolume's own root, makes sense.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Root {
    Allowed,
    Refused,
}

/// Checks that a path stays within the subvolume whatever it is appended to.
fn path_rule(path: &[u8], root: Root) -> Result<(), &'static str> {
    if path.is_empty() {
        return if root == Root::Allowed {
            Ok(())
        } else {
            Err("it is empty")
        };
    }
    if path.len() > PATH_MAX {
        return Err("it is too long");
    }
    if path.starts_with(b"/") {
        return Err("it is absolute");
    }
    if path.contains(&0) {
        return Err("it contains a NUL byte");
    }
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" => return Err("it has an empty component"),
            b"." | b".." => return Err("it contains . or .."),
            long if long.len() > NAME_MAX => return Err("a component is too long"),
            _ => {}
        }
    }
    Ok(())
}

fn path<'a>(parsed: &Parsed<'a>, attr: Attr, root: Root) -> Result<&'a [u8], Problem> {
    let path = parsed.bytes(attr)?;
    path_rule(path, root).map_err(|why| Problem::Path(Shown::new(path), why))?;
    Ok(path)
}

/// The name of the subvolume itself: one component, UTF-8.
pub(crate) fn subvolume_name<'a>(parsed: &Parsed<'a>) -> Result<&'a str, Problem> {
    let name = parsed.bytes(Attr::Path)?;
    let refuse = |why| Problem::Name(Shown::new(name), why);
    path_rule(name, Root::Refused).map_err(refuse)?;
    if name.contains(&b'/') {
        return Err(refuse("it has more than one component"));
    }
    std::str::from_utf8(name).map_err(|_| refuse("it is not UTF-8"))
}

impl Policy {
    /// Checks one command between the first and END; returns the bytes of file
    /// content it brings.
    pub(crate) fn check(&self, parsed: &Parsed<'_>, sources: Sources) -> Result<u64, Problem> {
        match parsed.command {
            Command::Subvol | Command::Snapshot => return Err(Problem::SecondSubvolume),
            Command::MkFile
            | Command::MkDir
            | Command::MkFifo
            | Command::MkSock
            | Command::Unlink
            | Command::RmDir => {
                path(parsed, Attr::Path, Root::Refused)?;
            }
            Command::MkNod => self.node(parsed)?,
            Command::Symlink => symlink(parsed)?,
            Command::Rename => {
                path(parsed, Attr::Path, Root::Refused)?;
                path(parsed, Attr::PathTo, Root::Refused)?;
            }
            Command::Link => {
                path(parsed, Attr::Path, Root::Refused)?;
                path(parsed, Attr::PathLink, Root::Refused)?;
            }
            Command::SetXattr => {
                parsed.bytes(Attr::XattrData)?;
                self.xattr(parsed)?;
            }
            Command::RemoveXattr => self.xattr(parsed)?,
            Command::Write => {
                let length = parsed.bytes(Attr::Data)?.len() as u64;
                self.extent(parsed, parsed.u64(Attr::FileOffset)?, length)?;
                return Ok(length);
            }
            Command::EncodedWrite => return self.encoded(parsed),
            Command::Clone => self.clone_range(parsed, sources)?,
            Command::Truncate => self.extent(parsed, 0, parsed.u64(Attr::Size)?)?,
            Command::Fallocate => {
                parsed.u32(Attr::FallocateMode)?;
                self.extent(
                    parsed,
                    parsed.u64(Attr::FileOffset)?,
                    parsed.u64(Attr::Size)?,
                )?;
            }
            Command::Chmod => self.mode(parsed)?,
            Command::Chown => owner(parsed)?,
            Command::Utimes => {
                path(parsed, Attr::Path, Root::Allowed)?;
                for attr in [Attr::Atime, Attr::Mtime, Attr::Ctime] {
                    parsed.time(attr)?;
                }
            }
            Command::UpdateExtent => self.update_extent(parsed)?,
            // The applier, like btrfs receive, leaves it at that: what the flags
            // mean to a receiver is not settled in the format.
            Command::FileAttr => {
                path(parsed, Attr::Path, Root::Allowed)?;
                parsed.u64(Attr::FileAttr)?;
            }
            Command::EnableVerity => {
                let path = path(parsed, Attr::Path, Root::Refused)?;
                return Err(Problem::Verity(Shown::new(path)));
            }
            Command::End => {}
        }
        Ok(0)
    }

    fn node(&self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        let path = path(parsed, Attr::Path, Root::Refused)?;
        let mode = parsed.u64(Attr::Mode)?;
        let device = parsed.u64(Attr::Rdev)?;
        // The kernel cuts a device number to 32 bits, and 2^32 is 0:0 then.
        if device > u64::from(u32::MAX) {
            return Err(Problem::DeviceNumber(Shown::new(path), device));
        }
        if mode & !(TYPE_MASK | MODE_BITS) != 0 {
            return Err(Problem::NodeMode(Shown::new(path), mode));
        }
        if mode & SET_ID != 0 && !self.setuid {
            return Err(Problem::Mode(Shown::new(path), mode));
        }
        match mode & TYPE_MASK {
            FIFO | SOCKET => Ok(()),
            CHARACTER if device == 0 && self.overlayfs => Ok(()),
            CHARACTER if device == 0 => Err(Problem::Whiteout(Shown::new(path))),
            CHARACTER | BLOCK if self.devices => Ok(()),
            CHARACTER | BLOCK => Err(Problem::Device(Shown::new(path))),
            _ => Err(Problem::NodeMode(Shown::new(path), mode)),
        }
    }

    fn update_extent(&self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        if !self.without_data {
            return Err(Problem::NoData);
        }
        self.extent(
            parsed,
            parsed.u64(Attr::FileOffset)?,
            parsed.u64(Attr::Size)?,
        )
    }

    /// A range of a file must end within the largest file allowed.
    fn extent(&self, parsed: &Parsed<'_>, offset: u64, length: u64) -> Result<(), Problem> {
        let path = path(parsed, Attr::Path, Root::Refused)?;
        let end = offset.saturating_add(length);
        if end > self.file_size {
            return Err(Problem::FileSize(Shown::new(path), end));
        }
        Ok(())
    }

    /// The limits of `BTRFS_IOC_ENCODED_WRITE` (kernel `uapi/linux/btrfs.h`), so
    /// that they hold also where the applier decompresses.
    fn encoded(&self, parsed: &Parsed<'_>) -> Result<u64, Problem> {
        let path = path(parsed, Attr::Path, Root::Refused)?;
        let refuse = |why| Err(Problem::Encoded(Shown::new(path), why));
        let data = parsed.bytes(Attr::Data)?.len() as u64;
        let length = parsed.u64(Attr::UnencodedFileLen)?;
        let unencoded = parsed.u64(Attr::UnencodedLen)?;
        let end = parsed.u64(Attr::UnencodedOffset)?.saturating_add(length);
        if unencoded > ENCODED_MAX || data > ENCODED_MAX {
            return refuse("it is longer than 128 KiB");
        }
        if data == 0 || length == 0 {
            return refuse("it holds nothing");
        }
        if end > unencoded {
            return refuse("it does not hold what it should");
        }
        if !(1..ENCODED_COMPRESSIONS).contains(&parsed.u32(Attr::Compression)?) {
            return refuse("its compression is unknown");
        }
        if parsed.optional_u32(Attr::Encryption)?.unwrap_or(0) != 0 {
            return refuse("it is encrypted");
        }
        self.extent(parsed, parsed.u64(Attr::FileOffset)?, length)?;
        Ok(length)
    }

    fn clone_range(&self, parsed: &Parsed<'_>, sources: Sources) -> Result<(), Problem> {
        self.extent(
            parsed,
            parsed.u64(Attr::FileOffset)?,
            parsed.u64(Attr::CloneLen)?,
        )?;
        let from = path(parsed, Attr::ClonePath, Root::Refused)?;
        parsed.u64(Attr::CloneCtransid)?;
        parsed.u64(Attr::CloneOffset)?;
        let uuid = parsed.uuid(Attr::CloneUuid)?;
        if uuid != sources.own && Some(uuid) != sources.parent {
            return Err(Problem::CloneSource(Shown::new(from)));
        }
        Ok(())
    }

    fn mode(&self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        let path = path(parsed, Attr::Path, Root::Allowed)?;
        let mode = parsed.u64(Attr::Mode)?;
        if mode & !MODE_BITS != 0 || (mode & SET_ID != 0 && !self.setuid) {
            return Err(Problem::Mode(Shown::new(path), mode));
        }
        Ok(())
    }

    fn xattr(&self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        let path = path(parsed, Attr::Path, Root::Allowed)?;
        let name = parsed.bytes(Attr::XattrName)?;
        let refuse = |why| Err(Problem::Xattr(Shown::new(path), Shown::new(name), why));
        if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) {
            return refuse("it is no attribute name");
        }
        // The tree becomes an overlay's lower layer: there they would hide,
        // redirect or merge what the release does not hold.
        let steers = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
        if steers && !self.overlayfs {
            return refuse("it steers overlayfs");
        }
        if name == b"security.capability" && !self.capabilities {
            return refuse("file capabilities need the release's permission");
        }
        Ok(())
    }
}

/// The largest number of each kind means "leave it" to the kernel (`chown(2)`).
fn owner(parsed: &Parsed<'_>) -> Result<(), Problem> {
    let path = path(parsed, Attr::Path, Root::Allowed)?;
    let (uid, gid) = (parsed.u64(Attr::Uid)?, parsed.u64(Attr::Gid)?);
    if uid.max(gid) >= u64::from(u32::MAX) {
        return Err(Problem::Owner(Shown::new(path), uid, gid));
    }
    Ok(())
}

/// A link's target is content: it is resolved where the version is used, never
/// by the receiver, which is confined to the subvolume.
fn symlink(parsed: &Parsed<'_>) -> Result<(), Problem> {
    path(parsed, Attr::Path, Root::Refused)?;
    let target = parsed.bytes(Attr::PathLink)?;
    if target.is_empty() || target.len() > PATH_MAX || target.contains(&0) {
        return Err(Problem::Path(Shown::new(target), "it is no link target"));
    }
    Ok(())
}
