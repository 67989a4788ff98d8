//! Images, and what holds them: a loop device, a mount.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::MntFlags;

use crate::{run, unmount};

/// Makes a file with a Btrfs in it; `mkfs` are more options of `mkfs.btrfs`.
#[track_caller]
pub fn image(path: &Path, mib: u64, mkfs: &[&str]) {
    File::create(path).unwrap().set_len(mib << 20).unwrap();
    run(Command::new("mkfs.btrfs").arg("-q").args(mkfs).arg(path));
}

/// A Btrfs on a loop device, not mounted. The device goes when this is dropped,
/// or once its last user is gone.
#[derive(Debug)]
pub struct Disk {
    node: String,
}

impl Disk {
    /// A new one, in this file.
    #[track_caller]
    pub fn new(path: &Path, mib: u64) -> Self {
        Self::with_options(path, mib, &[])
    }

    /// Likewise with more options of `mkfs.btrfs`.
    #[track_caller]
    pub fn with_options(path: &Path, mib: u64, mkfs: &[&str]) -> Self {
        image(path, mib, mkfs);
        let node = run(Command::new("losetup").args(["--find", "--show"]).arg(path));
        Self { node }
    }

    /// The loop device.
    pub fn node(&self) -> &str {
        &self.node
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .args(["--detach", &self.node])
            .status();
    }
}

/// A mounted Btrfs. Its loop device goes with the mount, whatever ends the test.
#[derive(Debug)]
pub struct Volume {
    top: PathBuf,
    options: String,
}

impl Volume {
    /// A new one with the usual options, in a file beside where it is mounted.
    #[track_caller]
    pub fn new(top: &Path, mib: u64) -> Self {
        Self::with_options(top, mib, &[], "")
    }

    /// Likewise with more options of `mkfs.btrfs`, and of the mount.
    #[track_caller]
    pub fn with_options(top: &Path, mib: u64, mkfs: &[&str], mount: &str) -> Self {
        let separator = if mount.is_empty() { "" } else { "," };
        let volume = Self {
            top: top.to_owned(),
            options: format!("loop{separator}{mount}"),
        };
        image(&volume.image(), mib, mkfs);
        fs::create_dir(top).unwrap();
        volume.mount();
        volume
    }

    /// Where it is mounted.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    /// The file that it is in.
    pub fn image(&self) -> PathBuf {
        // Names may have dots in them.
        let mut name = self.top.clone().into_os_string();
        name.push(".img");
        name.into()
    }

    /// Writes everything out: what is still to be written has no place on disk yet.
    #[track_caller]
    pub fn sync(&self) {
        nix::unistd::syncfs(File::open(&self.top).unwrap()).unwrap();
    }

    /// Mounts it again.
    #[track_caller]
    pub fn mount(&self) {
        run(Command::new("mount")
            .args(["-t", "btrfs", "-o", &self.options])
            .args([&self.image(), &self.top]));
    }

    /// Unmounts it for a while: nothing of it stays in use.
    #[track_caller]
    pub fn unmount(&self) {
        unmount(&self.top);
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.top, MntFlags::MNT_DETACH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a loop device holds the file. What another program still has
    /// open as it starts goes a moment later.
    fn is_held(image: &Path) -> bool {
        let attached = || run(Command::new("losetup").arg("--associated").arg(image));
        for _ in 0..200 {
            if attached().is_empty() {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        true
    }

    #[test]
    fn a_volume_keeps_its_content_and_leaves_nothing() {
        let Some(dir) = crate::private_dir("opl") else {
            return;
        };
        let top = dir.path().join("top");
        let volume = Volume::with_options(&top, 128, &["--metadata", "single"], "noatime");
        let image = volume.image();
        fs::write(volume.path("file"), "content").unwrap();
        volume.sync();
        for _ in 0..5 {
            volume.unmount();
            assert!(!volume.path("file").exists());
            assert!(!is_held(&image), "{}", image.display());
            volume.mount();
            assert_eq!(fs::read(volume.path("file")).unwrap(), b"content");
        }
        drop(volume);
        assert!(!top.join("file").exists());
        assert!(!is_held(&image), "{}", image.display());
    }

    #[test]
    fn a_disk_is_attached_until_it_is_dropped() {
        let Some(dir) = crate::private_dir("opl") else {
            return;
        };
        let image = dir.path().join("disk");
        let disk = Disk::new(&image, 128);
        let backing = run(Command::new("losetup").args(["-n", "-O", "BACK-FILE", disk.node()]));
        assert_eq!(Path::new(&backing), image);
        drop(disk);
        assert!(!is_held(&image), "{}", image.display());
    }
}
