//! A version's security epoch, as its tree has it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Where it stands in the tree: a number, and nothing else.
pub(crate) const PATH: &str = "share/op-dbus/epoch";

/// Reads it; 0 without the file. Neither links nor what they could lead to are followed.
pub(crate) fn read(tree: &Path) -> Result<u32, String> {
    let dir = op_dbus_btrfs::open_dir(tree).map_err(|why| why.to_string())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat2(&dir, PATH, flags, Mode::empty(), resolve) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(0),
        Err(why) => return Err(format!("{PATH}: {why}")),
    };
    let mut text = String::new();
    let read = file.take(32).read_to_string(&mut text);
    read.map_err(|why| format!("{PATH}: {why}"))?;
    text.trim().parse().map_err(|why| format!("{PATH}: {why}"))
}
