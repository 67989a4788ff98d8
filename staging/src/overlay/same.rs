//! Whether two layers have the same at a path.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, OwnedFd};

use op_dbus_release::tree::attributes::{Attribute, Attributes};
use rustix::fs::{FileType, OFlags, Stat};

use super::classify::Kind;
use super::disk::{kind, names, open, open_file, owner, stat};
use super::walk::{DEPTH_MAX, ENTRIES_MAX, NAMES_MAX};

/// Read buffer of each side, in bytes.
const BUFFER: usize = 64 << 10;

/// Means to compare with.
#[derive(Debug)]
pub(super) struct Compare {
    attributes: Attributes,
    buffers: [Vec<u8>; 2],
    /// Entries of directories that may still be compared, in one run.
    left: u64,
}

impl Default for Compare {
    fn default() -> Self {
        Self {
            attributes: Attributes::new(),
            buffers: [vec![0; BUFFER], vec![0; BUFFER]],
            left: ENTRIES_MAX,
        }
    }
}

/// Where a layer has something: the directory, and what was seen in it.
type Place<'p> = (&'p OwnedFd, &'p Stat);

impl Compare {
    /// Whether two entries of one kind have the same content: a file's bytes and
    /// attributes, a link's target, a device's number, all that is in a directory.
    pub(super) fn are_same(
        &mut self,
        one: Place<'_>,
        other: Place<'_>,
        name: &[u8],
    ) -> io::Result<bool> {
        self.at_depth(one, other, name, 0)
    }

    fn at_depth(
        &mut self,
        (one, one_stat): Place<'_>,
        (other, other_stat): Place<'_>,
        name: &[u8],
        depth: usize,
    ) -> io::Result<bool> {
        match kind(one_stat) {
            Kind::File => {
                if one_stat.st_size != other_stat.st_size {
                    return Ok(false);
                }
                let (one, other) = (open_file(one, name)?, open_file(other, name)?);
                Ok(self.have_same_attributes(&one, &other)? && self.have_same_bytes(one, other)?)
            }
            Kind::Link => {
                let target = |dir| rustix::fs::readlinkat(dir, name, Vec::new());
                Ok(target(one)? == target(other)?)
            }
            Kind::Special => {
                let file_type = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
                Ok(file_type(one_stat) == file_type(other_stat)
                    && one_stat.st_rdev == other_stat.st_rdev)
            }
            Kind::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME;
                let (one, other) = (open(one, name, flags)?, open(other, name, flags)?);
                self.directories(&one, &other, depth + 1)
            }
        }
    }

    fn directories(&mut self, one: &OwnedFd, other: &OwnedFd, depth: usize) -> io::Result<bool> {
        let most = self.left;
        let mine = names(one, most, NAMES_MAX)?;
        let theirs = names(other, most, NAMES_MAX)?;
        if depth > DEPTH_MAX || mine.is_cut || theirs.is_cut {
            return Err(io::Error::other("holds too much to be compared"));
        }
        self.left = self.left.saturating_sub(mine.names.len() as u64);
        if mine.names != theirs.names {
            return Ok(false);
        }
        for name in &mine.names {
            let (Some(seen), Some(also)) = (stat(one, name)?, stat(other, name)?) else {
                return Ok(false);
            };
            let is_same = kind(&seen) == kind(&also)
                && owner(&seen) == owner(&also)
                && self.at_depth((one, &seen), (other, &also), name, depth)?;
            if !is_same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn have_same_attributes(&mut self, one: &File, other: &File) -> io::Result<bool> {
        let one = self.attributes.of(one.as_fd())?;
        let other = self.attributes.of(other.as_fd())?;
        Ok(content(&one).eq(content(&other)))
    }

    fn have_same_bytes(&mut self, mut one: File, mut other: File) -> io::Result<bool> {
        let [mine, theirs] = &mut self.buffers;
        loop {
            let (mine, theirs) = (fill(&mut one, mine)?, fill(&mut other, theirs)?);
            if mine != theirs {
                return Ok(false);
            }
            if mine.is_empty() {
                return Ok(true);
            }
        }
    }
}

/// Without what the kernel notes of a layer, and the activator of what it put
/// beside: none of that is the user's.
pub(super) fn content(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    let is_note = |name: &[u8]| {
        name.starts_with(b"trusted.overlay.") || name.starts_with(b"trusted.op-dbus.")
    };
    let all = attributes.iter();
    all.filter(move |attribute| !is_note(attribute.0.to_bytes()))
}

/// Reads until the buffer is full or the file at its end.
fn fill<'b>(file: &mut File, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(buffer.get(..length).unwrap_or_default())
}
