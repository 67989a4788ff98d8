//! File systems to work on, gone with the test that made them.

use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags};
use op_dbus_loopback::Volume;

/// Where images lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backing {
    /// In memory: quick, for small trees.
    Memory,
    /// In the temporary directory.
    Disk,
}

/// A mount namespace of this thread's own: nothing stays mounted, whatever ends
/// the test.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// None without root, loudly.
    pub(crate) fn new(backing: Backing) -> Option<Self> {
        let dir = op_dbus_loopback::private_dir("opdiff")?;
        if backing == Backing::Memory {
            let tmpfs = Some("tmpfs");
            let options = Some("size=3g,mode=0700");
            nix::mount::mount(tmpfs, dir.path(), tmpfs, MsFlags::empty(), options).unwrap();
        }
        Some(Self { dir })
    }

    /// A file beside the volumes.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new Btrfs, mounted. Access times stay as they are set: looking at a
    /// tree must not change it.
    pub(crate) fn volume(&self, name: &str, mib: u64, options: &str) -> Volume {
        // Nothing here has to survive a power cut.
        let options = format!("noatime,nobarrier{options}");
        Volume::with_options(&self.path(name), mib, &["-m", "single"], &options)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Not mounted when images lie on disk.
        let _ = nix::mount::umount2(self.dir.path(), MntFlags::MNT_DETACH);
    }
}
