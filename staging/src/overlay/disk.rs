//! The layers of an overlay as they are on disk.
//!
//! Directories are kept open, and every name is opened from its directory's
//! descriptor: nothing leads out of a layer, and no symlink is followed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use op_dbus_activator::overlay::{beneath, entry};
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::classify::{Entry, Kind, Owner, Trio, Upper};
use super::same::Compare;
use super::walk::{Layers, Look, Names, Seen};

/// Buffer for names, on their way from the kernel.
const NAMES: usize = 32 << 10;
/// How directories are opened.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOATIME);

/// A directory of the upper layer, and those beneath it.
#[derive(Debug)]
pub(crate) struct Dirs {
    upper: OwnedFd,
    /// What is beneath; none where the version has no directory.
    pub(crate) old: Option<OwnedFd>,
    new: Option<OwnedFd>,
}

/// The layers.
#[derive(Debug)]
pub(crate) struct Disk {
    /// The device number of the upper layer's subvolume.
    device: u64,
    compare: Compare,
}

impl Disk {
    /// Opens the layers; without a new one, only changes can be told.
    pub(crate) fn open(upper: &Path, old: &Path, new: Option<&Path>) -> io::Result<(Self, Dirs)> {
        let open = |path: &Path| -> io::Result<OwnedFd> {
            let fail = |why: io::Error| {
                let text = format!("{}: open: {why}", path.display());
                io::Error::new(why.kind(), text)
            };
            op_dbus_btrfs::open_dir(path).map_err(|why| fail(why.source))
        };
        let dirs = Dirs {
            upper: open(upper)?,
            old: Some(open(old)?),
            new: new.map(open).transpose()?,
        };
        let device = rustix::fs::fstat(&dirs.upper)?.st_dev;
        let compare = Compare::default();
        Ok((Self { device, compare }, dirs))
    }

    fn trio(
        &mut self,
        dirs: &Dirs,
        name: &[u8],
        upper: &Stat,
        old: Option<&Stat>,
        new: Option<&Stat>,
    ) -> io::Result<Trio> {
        let entry = |stat: &Stat, content| Entry {
            kind: kind(stat),
            content,
            owner: owner(stat),
        };
        let is_whiteout = entry::is_whiteout(upper);
        let is_opaque = !is_whiteout
            && kind(upper) == Kind::Directory
            && entry::is_opaque(open(&dirs.upper, name, DIRECTORY)?)?;
        let below = |dir| -> Option<(&OwnedFd, &Stat)> {
            match dir {
                0 => dirs.old.as_ref().zip(old),
                _ => dirs.new.as_ref().zip(new),
            }
        };
        // Of a directory that shows what is beneath, the content is not its own.
        let is_merged = !is_whiteout && !is_opaque && kind(upper) == Kind::Directory;
        let mut same = |one: Option<(&OwnedFd, &Stat)>, other: Option<(&OwnedFd, &Stat)>| match one
            .zip(other)
        {
            Some((one, other)) if kind(one.1) == kind(other.1) => {
                let is_directory = kind(one.1) == Kind::Directory;
                if is_merged && is_directory {
                    return Ok(true);
                }
                self.compare.are_same(one, other, name)
            }
            _ => Ok(false),
        };
        let (before, after) = (below(0), below(1));
        let new_is_old = same(before, after)?;
        let mine = if is_whiteout {
            Upper::Whiteout
        } else if is_opaque {
            Upper::Opaque(entry(upper, 2))
        } else {
            let mine = Some((&dirs.upper, upper));
            let content = if same(before, mine)? {
                0
            } else if !new_is_old && same(after, mine)? {
                1
            } else {
                2
            };
            Upper::Plain(entry(upper, content))
        };
        Ok(Trio {
            old: old.map(|old| entry(old, 0)),
            upper: mine,
            new: new.map(|new| entry(new, u8::from(!new_is_old))),
        })
    }
}

impl Layers for Disk {
    type Dir = Dirs;

    fn names(&mut self, dirs: &Dirs, most: u64, bytes: usize) -> io::Result<Names> {
        names(&dirs.upper, most, bytes)
    }

    fn look(&mut self, dirs: &Dirs, name: &[u8]) -> io::Result<Option<Seen>> {
        let Some(upper) = stat(&dirs.upper, name)? else {
            return Ok(None);
        };
        if upper.st_dev != self.device {
            return Err(io::Error::other(
                "belongs to another subvolume or file system; it was not looked at",
            ));
        }
        let below = |dir: &Option<OwnedFd>| match dir {
            Some(dir) => stat(dir, name),
            None => Ok(None),
        };
        let (old, new) = (below(&dirs.old)?, below(&dirs.new)?);
        let trio = match self.trio(dirs, name, &upper, old.as_ref(), new.as_ref()) {
            // It went, or became something else, between two looks.
            Err(why) if is_gone(&why) => return Ok(None),
            found => found?,
        };
        let looks = [old.as_ref(), Some(&upper), new.as_ref()];
        Ok(Some(Seen {
            trio,
            looks: looks.map(|stat| stat.map(look).unwrap_or_default()),
        }))
    }

    fn enter(&mut self, dirs: &Dirs, name: &[u8]) -> io::Result<Option<Dirs>> {
        let below = |dir: &Option<OwnedFd>| match dir.as_ref().map(|dir| open(dir, name, DIRECTORY))
        {
            Some(Err(why)) if is_gone(&why) => Ok(None),
            found => found.transpose(),
        };
        let upper = match open(&dirs.upper, name, DIRECTORY) {
            Err(why) if is_gone(&why) => return Ok(None),
            found => found?,
        };
        Ok(Some(Dirs {
            upper,
            old: below(&dirs.old)?,
            new: below(&dirs.new)?,
        }))
    }
}

/// Whether something is not there, or is no directory.
fn is_gone(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) || why.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// Opens a name of a directory, beneath it.
pub(crate) fn open(dir: impl AsFd, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    beneath::open(dir, name, flags)
}

/// Opens a file for reading, whatever has come into its place.
pub(crate) fn open_file(dir: impl AsFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(open(dir, name, flags | OFlags::NOATIME)?.into())
}

/// What is at a name.
pub(crate) fn stat(dir: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(why) => Err(why.into()),
    }
}

/// The names in a directory, sorted: at most so many, of at most so many bytes.
pub(crate) fn names(dir: impl AsFd, most: u64, mut bytes: usize) -> io::Result<Names> {
    let mut buffer = Vec::with_capacity(NAMES);
    let mut found = Names {
        names: Vec::new(),
        is_cut: false,
    };
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        if found.names.len() as u64 >= most || name.len() > bytes {
            found.is_cut = true;
            break;
        }
        bytes -= name.len();
        found.names.push(Box::from(name));
    }
    found.names.sort_unstable();
    Ok(found)
}

/// What kind of thing a stat is of.
pub(crate) fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Special,
    }
}

/// Whose it is.
pub(crate) fn owner(stat: &Stat) -> Owner {
    Owner {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode & 0o7777,
    }
}

fn look(stat: &Stat) -> Look {
    Look {
        kind: (!entry::is_whiteout(stat)).then(|| kind(stat)),
        owner: Some(owner(stat)),
        size: (kind(stat) == Kind::File).then(|| u64::try_from(stat.st_size).unwrap_or(0)),
        modified: stat.st_mtime,
    }
}
