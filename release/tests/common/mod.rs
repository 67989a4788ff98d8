//! A Btrfs of one's own, on a loop device in a mount namespace of one's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use rustix::fs::Advice;

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn sh(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A mounted file system, gone when dropped.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
    device: String,
}

impl Disk {
    /// None without root, loudly.
    pub(crate) fn new(mib: u64) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root for mounts and loop devices; run: make test-root");
            return None;
        }
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let dir = tempfile::Builder::new().prefix("opr").tempdir().unwrap();
        let image = dir.path().join("image");
        fs::File::create(&image)
            .unwrap()
            .set_len(mib << 20)
            .unwrap();
        let image = image.to_str().unwrap();
        sh("mkfs.btrfs", &["-q", image]);
        let device = sh("losetup", &["--find", "--show", image]);
        fs::create_dir(dir.path().join("top")).unwrap();
        let disk = Self { dir, device };
        disk.mount();
        Some(disk)
    }

    /// A path in the file system.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.top().join(name)
    }

    /// The file that the file system is in.
    pub(crate) fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn top(&self) -> PathBuf {
        self.dir.path().join("top")
    }

    fn mount(&self) {
        let (device, top) = (Some(self.device.as_str()), self.top());
        nix::mount::mount(device, &top, Some("btrfs"), MsFlags::empty(), None::<&str>).unwrap();
    }

    /// Leaves nothing of it in memory.
    pub(crate) fn cool(&self) {
        nix::mount::umount(&self.top()).unwrap();
        let image = fs::File::open(self.image()).unwrap();
        image.sync_all().unwrap();
        rustix::fs::fadvise(&image, 0, None, Advice::DontNeed).unwrap();
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.top(), MntFlags::MNT_DETACH);
        // The kernel detaches it once the last user is gone.
        let _ = Command::new("losetup")
            .args(["--detach", &self.device])
            .status();
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
