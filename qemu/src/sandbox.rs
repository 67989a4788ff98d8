//! Mounts that can't outlive this program.
//!
//! Everything is mounted in a mount namespace of this program's own, and loop
//! devices are set to detach by themselves (`mount -o loop`). However the
//! program ends, also by a signal, the kernel takes both away.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::error::{Context, Result};
use crate::tool::Tool;

/// Gives this program a mount namespace of its own. Call it first, before any
/// thread is started: threads keep the namespace they were born in.
pub fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)
        .context(|| "a mount namespace of our own (are you root?)".to_owned())?;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .context(|| "make the mounts private".to_owned())
}

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    target: PathBuf,
    _directory: Option<tempfile::TempDir>,
}

impl Mounted {
    /// Mounts the file system in the raw image `image` on a directory of its
    /// own. `options` are added to mount(8)'s `-o loop`.
    pub fn image(image: &Path, options: &str) -> Result<Self> {
        let directory = tempfile::tempdir().context(|| "make a mount point".to_owned())?;
        let target = directory.path().to_owned();
        let all = if options.is_empty() {
            "loop".to_owned()
        } else {
            format!("loop,{options}")
        };
        Tool::new("mount")
            .args(["-o", &all])
            .arg(image)
            .arg(&target)
            .run()?;
        Ok(Self {
            target,
            _directory: Some(directory),
        })
    }

    /// Gives a chroot at `root` the kernel's own file systems.
    pub fn kernel_views(root: &Path) -> Result<Vec<Self>> {
        let mut mounts = Vec::new();
        for (kind, name) in [
            ("proc", "proc"),
            ("sysfs", "sys"),
            ("devtmpfs", "dev"),
            ("tmpfs", "run"),
            ("tmpfs", "tmp"),
        ] {
            let target = root.join(name);
            fs::create_dir_all(&target).at("make", &target)?;
            mount(
                Some(kind),
                &target,
                Some(kind),
                MsFlags::empty(),
                None::<&str>,
            )
            .context(|| format!("mount {kind} on {}", target.display()))?;
            mounts.push(Self {
                target,
                _directory: None,
            });
        }
        Ok(mounts)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// The device it is mounted from.
    pub fn device(&self) -> Result<String> {
        let listed = Tool::new("findmnt")
            .args(["--noheadings", "--nofsroot", "--output", "SOURCE"])
            .arg(&self.target)
            .run()?;
        Ok(listed.trim().to_owned())
    }

    /// Unmounts now, so that a failure (a write that did not reach the image)
    /// is seen.
    pub fn close(mut self) -> Result<()> {
        let target = std::mem::take(&mut self.target);
        Tool::new("umount").arg("-R").arg(&target).run().map(drop)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.target.as_os_str().is_empty() {
            return;
        }
        // The namespace's end is the second net.
        let _ = Tool::new("umount").arg("-R").arg(&self.target).run();
    }
}
