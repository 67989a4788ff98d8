//! A place to mount disks at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags};
use op_dbus_crash::{Image, Log, Mark, Recorder};
use op_dbus_loopback::{image, private_dir, sh, unmount};
use tempfile::TempDir;

/// A directory in a mount namespace of this thread, and an empty file system to
/// begin with.
pub(crate) struct Bench {
    dir: TempDir,
    attached: std::cell::RefCell<Vec<String>>,
}

impl Bench {
    /// None without root, loudly.
    pub(crate) fn new() -> Option<Self> {
        let bench = Self::without_base()?;
        image(&bench.dir.path().join("base"), 64, &["-m", "single"]);
        Some(bench)
    }

    pub(crate) fn without_base() -> Option<Self> {
        let dir = private_dir("opc")?;
        fs::create_dir(dir.path().join("top")).unwrap();
        let attached = std::cell::RefCell::default();
        Some(Self { dir, attached })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where things are mounted.
    pub(crate) fn top(&self) -> PathBuf {
        self.dir.path().join("top")
    }

    pub(crate) fn base(&self) -> Image {
        Image::read(&self.dir.path().join("base")).unwrap()
    }

    /// Records what a story does in a mounted file system.
    pub(crate) fn record(&self, story: impl FnOnce(&Path, &dyn Fn(Mark))) -> Log {
        let recorder = Recorder::new(self.base()).unwrap();
        mount(recorder.node(), &self.top()).unwrap();
        story(&self.top(), &|mark| recorder.mark(mark));
        unmount(&self.top());
        recorder.finish().unwrap()
    }

    /// A plain loop device on a file, gone with this.
    pub(crate) fn attach(&self, file: &Path) -> String {
        let file = file.to_str().unwrap();
        let node = sh("losetup", &["--find", "--show", file]);
        self.attached.borrow_mut().push(node.clone());
        node
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.top(), MntFlags::MNT_DETACH);
        for node in self.attached.borrow().iter() {
            let _ = Command::new("losetup").args(["--detach", node]).status();
        }
    }
}

pub(crate) fn mount(node: &Path, top: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOATIME;
    Ok(nix::mount::mount(
        Some(node),
        top,
        Some("btrfs"),
        flags,
        None::<&str>,
    )?)
}

/// Whether this kernel mounts clones of a file system side by side (since 6.7).
pub(crate) fn mounts_clones() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split('.')
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(7))
}
