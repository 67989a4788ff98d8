//! File systems to work on, gone with the test that made them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;

/// Runs a command that must succeed, and returns what it printed.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

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
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: the differential test mounts file systems, so it needs root");
            return None;
        }
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let dir = tempfile::Builder::new().prefix("opdiff").tempdir().unwrap();
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
        let (image, top) = (self.path(&format!("{name}.img")), self.path(name));
        File::create(&image).unwrap().set_len(mib << 20).unwrap();
        fs::create_dir(&top).unwrap();
        run(Command::new("mkfs.btrfs")
            .args(["-q", "-m", "single"])
            .arg(&image));
        // Detached when the mount goes. Nothing here has to survive a power cut.
        let options = format!("loop,noatime,nobarrier{options}");
        run(Command::new("mount")
            .args(["-t", "btrfs", "-o", &options])
            .args([&image, &top]));
        Volume { top }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Not mounted when images lie on disk.
        let _ = nix::mount::umount2(self.dir.path(), MntFlags::MNT_DETACH);
    }
}

/// A mounted Btrfs.
pub(crate) struct Volume {
    top: PathBuf,
}

impl Volume {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    pub(crate) fn top(&self) -> &Path {
        &self.top
    }

    /// Writes everything out: what is still to be written has no place on disk yet.
    pub(crate) fn sync(&self) {
        op_dbus_btrfs::sync_filesystem(&self.top).unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.top, MntFlags::MNT_DETACH);
    }
}
