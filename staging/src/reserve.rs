//! Making the reserve that a full disk lives on: see [`op_dbus_activator::reserve`].
//!
//! It is metadata, because that is what was missing wherever something failed on a
//! full disk. No call preallocates it, so it is made of extended attributes, of a
//! size of which several fill a block.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use op_dbus_activator::layout::Layout;
use op_dbus_activator::reserve::{PARTS, Reserve, is_full};
use rustix::fs::XattrFlags;

use crate::commands::receive::headroom;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::settings::prune::Prune as Settings;

const MIB: u64 = 1 << 20;
/// The reserve by default: a part of the file system, within bounds. With parts of
/// 256 KiB a boot was not always counted; with parts of 1 MiB it was (measured).
const PART_OF: u64 = 64;
const LEAST: u64 = 4 * MIB;
const MOST: u64 = 16 * MIB;
/// Length of an attribute's value. Four fill a block of 16 KiB, one a block of
/// 4 KiB, which are the sizes a Btrfs has its metadata in.
const VALUE: usize = 3800;
/// What one takes of the blocks, which are never quite full (measured).
const TAKEN: u64 = 4864;
/// Name under which a part is made.
const NEW: &str = ".new";

/// What there is of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// Bytes it is meant to have; zero: none is wanted.
    pub(crate) bytes: u64,
    /// Parts that were made just now.
    pub(crate) made: u8,
    /// Parts for which there is no room.
    pub(crate) missing: u8,
}

/// Bytes of a reserve on a file system of this size.
pub(crate) fn size(filesystem: u64, configured_mib: Option<u32>) -> u64 {
    match configured_mib {
        Some(mib) => u64::from(mib) * MIB,
        None => (filesystem / PART_OF).clamp(LEAST, MOST),
    }
}

/// [`settle`]s that of the store at its place, and leaves free what receives do.
pub(crate) fn settle_in(context: &Context, settings: &Settings) -> Result<State> {
    let layout = &context.layout;
    let filesystem = rustix::fs::statvfs(&layout.store)
        .map_or(0, |found| found.f_blocks.saturating_mul(found.f_frsize));
    // Who can't read what receives leave free has to correct that first; this is
    // not the place to say so.
    let configured = crate::settings::Settings::load(context).unwrap_or_default();
    let free = headroom(filesystem, configured.headroom_mib);
    settle(layout, size(filesystem, settings.reserve_mib), free)
}

/// Makes the parts that are missing, as far as this leaves so many bytes free;
/// takes away what is of another size, or not wanted any more. Durable when this
/// returns.
pub(crate) fn settle(layout: &Layout, bytes: u64, free: u64) -> Result<State> {
    let reserve = Reserve::new(layout);
    let fail = |path: &Path, what: &str, why: io::Error| {
        Failure::io(format_args!("{}: {what}", path.display()), why)
    };
    let mut state = State {
        bytes,
        made: 0,
        missing: 0,
    };
    let part = bytes / u64::from(PARTS);
    let new = reserve.dir().join(NEW);
    remove(&new).map_err(|why| fail(&new, "remove", why))?;
    for number in 0..PARTS {
        let path = reserve.part(number);
        match path.symlink_metadata() {
            Ok(found) if bytes > 0 && found.is_file() && found.len() == part => continue,
            Ok(_) => remove(&path).map_err(|why| fail(&path, "remove", why))?,
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(fail(&path, "look at", why)),
        }
        if bytes == 0 {
            continue;
        }
        // Twice, as metadata is by default.
        if available(layout) < free.saturating_add(part.saturating_mul(2)) {
            state.missing += 1;
            continue;
        }
        match make(layout, part, &new).and_then(|()| fs::rename(&new, &path)) {
            Ok(()) => state.made += 1,
            Err(why) if is_full(&why) => {
                remove(&new).map_err(|why| fail(&new, "remove", why))?;
                state.missing += 1;
            }
            Err(why) => return Err(fail(&path, "make", why)),
        }
    }
    op_dbus_btrfs::sync_filesystem(&layout.store)?;
    Ok(state)
}

/// Space for new data, in bytes; zero where that can't be told, and where it is
/// metadata that there is no more of.
fn available(layout: &Layout) -> u64 {
    rustix::fs::statvfs(&layout.store)
        .map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// Makes a part under another name, durably: half of one is nobody's help.
fn make(layout: &Layout, part: u64, new: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(layout.reserve_dir()) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => return Err(why),
        _ => {}
    }
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)?;
    let value = [0; VALUE];
    for number in 0..part / TAKEN {
        let name = CString::new(format!("trusted.op-dbus.{number}"))?;
        rustix::fs::fsetxattr(&file, name.as_c_str(), &value, XattrFlags::CREATE)?;
    }
    // A length without content says how large a part was meant to be.
    file.set_len(part)?;
    op_dbus_btrfs::sync_filesystem_fd(&file)
}

impl State {
    /// For reports.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "bytes": self.bytes,
            "made": self.made,
            "missing": self.missing,
        })
    }

    /// What to tell of it, if anything: bytes are told as MiB.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.missing > 0).then(|| {
            format!(
                "there is no room for {} of the {PARTS} parts of the reserve ({} MiB); the next prune makes them when there is",
                self.missing,
                self.bytes.div_ceil(MIB)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_grows_with_the_disk_within_bounds() {
        assert_eq!(size(128 * MIB, None), 4 * MIB);
        assert_eq!(size(512 * MIB, None), 8 * MIB);
        assert_eq!(size(1 << 40, None), 16 * MIB);
        assert_eq!(size(256 * MIB, Some(0)), 0);
        assert_eq!(size(0, Some(7)), 7 * MIB);
    }
}
