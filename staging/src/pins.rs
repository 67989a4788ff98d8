//! Pins: versions that the operator wants to keep.
//!
//! A pin is a symlink `pins/<version>` to the version. A symlink has no content
//! that a power cut could tear off, can be made on a full disk (where a file's
//! content can't be written), and is seen by whoever lists the directory. Only
//! its name counts: whatever has a version's name there is a pin.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::Version;

/// Pins that are read; nobody sets so many.
const PINS_MAX: usize = 4096;

/// All pinned versions, and names among them that are none. What can't be read
/// is an error: nobody may take that for "nothing is pinned".
pub(crate) fn read(layout: &Layout) -> io::Result<(BTreeSet<Version>, Vec<String>)> {
    let (mut pinned, mut foreign) = (BTreeSet::new(), Vec::new());
    let entries = match fs::read_dir(layout.pins_dir()) {
        Ok(entries) => entries,
        // Made with the first pin.
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok((pinned, foreign)),
        Err(why) => return Err(why),
    };
    for (count, entry) in entries.enumerate() {
        if count >= PINS_MAX {
            return Err(io::Error::other(format!("more than {PINS_MAX} pins")));
        }
        let name = entry?.file_name();
        match name.to_str().and_then(|name| name.parse().ok()) {
            Some(version) => {
                pinned.insert(version);
            }
            None => foreign.push(name.to_string_lossy().into_owned()),
        }
    }
    Ok((pinned, foreign))
}

/// Pins a version. Durable when this returns; whether it was not pinned before.
pub(crate) fn add(layout: &Layout, version: &Version) -> io::Result<bool> {
    let dir = layout.pins_dir();
    match fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => return Err(why),
        _ => {}
    }
    let target = Path::new("../deploy").join(version.as_str());
    let is_new = match std::os::unix::fs::symlink(target, dir.join(version.as_str())) {
        Ok(()) => true,
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => false,
        Err(why) => return Err(why),
    };
    // One that is there may be of a run that was killed before its sync.
    op_dbus_btrfs::sync_filesystem(&layout.store).map_err(|why| why.source)?;
    Ok(is_new)
}

/// Takes a pin back. Durable when this returns; whether there was one.
pub(crate) fn remove(layout: &Layout, version: &Version) -> io::Result<bool> {
    let was_there = match fs::remove_file(layout.pins_dir().join(version.as_str())) {
        Ok(()) => true,
        Err(why) if why.kind() == io::ErrorKind::NotFound => false,
        Err(why) => return Err(why),
    };
    op_dbus_btrfs::sync_filesystem(&layout.store).map_err(|why| why.source)?;
    Ok(was_there)
}
