//! For tests only: Btrfs file systems on loop devices, gone with the test that
//! made them.
//!
//! A fixture begins with [`private_dir`], which is none without root. In it lie
//! its disks: a [`Volume`] is a mounted file system, a [`Disk`] one that the
//! program under test mounts itself. As fields go in the order they are declared
//! in, both stand before the directory.
//!
//! Nothing here returns errors: where something can't be made, the test fails.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "helpers of tests fail by panicking"
)]

mod disk;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use tempfile::TempDir;

pub use disk::{Disk, Volume, image};

/// Whether a test that needs root can run; says so loudly if not.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root for mounts and loop devices");
    }
    root
}

/// A temporary directory in a mount namespace of this thread and what it starts:
/// nothing stays mounted, whatever ends the test. None without root, loudly.
///
/// Prefixes are short, because gpg's agent listens on a socket in some of these
/// directories, and the length of its path is bounded.
#[track_caller]
pub fn private_dir(prefix: &str) -> Option<TempDir> {
    if !is_root() {
        return None;
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    Some(tempfile::Builder::new().prefix(prefix).tempdir().unwrap())
}

/// Runs a command that must succeed, and returns what it printed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Likewise, by name and arguments.
#[track_caller]
pub fn sh(program: &str, args: &[&str]) -> String {
    run(Command::new(program).args(args))
}

/// Unmounts. For a moment a program another test is starting may hold a
/// descriptor of ours: until it closes what it inherited, the mount is busy.
#[track_caller]
pub fn unmount(path: &Path) {
    for _ in 0..200 {
        match nix::mount::umount(path) {
            Err(Errno::EBUSY) => std::thread::sleep(Duration::from_millis(10)),
            done => return done.unwrap(),
        }
    }
    panic!("{}: stays busy", path.display());
}
