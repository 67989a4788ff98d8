//! A Btrfs of one's own, on a loop device in a mount namespace of one's own.

use std::fs;
use std::path::{Path, PathBuf};

use op_dbus_loopback::Volume;
use rustix::fs::Advice;

/// A mounted file system, gone when dropped.
pub(crate) struct Disk {
    volume: Volume,
    _dir: tempfile::TempDir,
}

impl Disk {
    /// None without root, loudly.
    pub(crate) fn new(mib: u64) -> Option<Self> {
        let dir = op_dbus_loopback::private_dir("opr")?;
        let volume = Volume::new(&dir.path().join("top"), mib);
        Some(Self { volume, _dir: dir })
    }

    /// A path in the file system.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.volume.path(name)
    }

    /// The file that the file system is in.
    pub(crate) fn image(&self) -> PathBuf {
        self.volume.image()
    }

    /// Leaves nothing of it in memory.
    pub(crate) fn cool(&self) {
        self.volume.unmount();
        let image = fs::File::open(self.image()).unwrap();
        image.sync_all().unwrap();
        rustix::fs::fadvise(&image, 0, None, Advice::DontNeed).unwrap();
        self.volume.mount();
    }
}

/// Where some bytes are in a file; it is read in parts.
pub(crate) fn find(file: &Path, needle: &[u8]) -> Option<u64> {
    let bytes = fs::read(file).unwrap();
    let at = bytes
        .windows(needle.len())
        .position(|part| part == needle)?;
    u64::try_from(at).ok()
}
