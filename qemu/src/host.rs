//! What the host must have.

use std::path::Path;

use crate::error::{Error, Result};

/// Programs, and the Debian package each is in.
const NEEDED: &[(&str, &str)] = &[
    ("btrfs", "btrfs-progs"),
    ("chroot", "coreutils"),
    ("btrfs-map-logical", "btrfs-progs"),
    ("filefrag", "e2fsprogs"),
    ("findmnt", "util-linux"),
    ("gpg", "gpg"),
    ("gpg-agent", "gpg-agent"),
    ("gpgconf", "gpgconf"),
    ("make", "make"),
    ("mke2fs", "e2fsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mmdebstrap", "mmdebstrap"),
    ("mount", "mount"),
    ("qemu-img", "qemu-utils"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// Packages of the programs that are not on PATH, each once.
pub fn missing() -> Vec<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<_> = std::env::split_paths(&path).collect();
    // sudo and cron leave these out at times, the programs are there all the same.
    directories.extend(["/usr/sbin", "/sbin"].map(Into::into));
    let mut packages: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| !directories.iter().any(|dir| dir.join(program).exists()))
        .map(|(_, package)| *package)
        .collect();
    if !Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists() {
        packages.push("debian-archive-keyring");
    }
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// An error that names the packages and the command that installs them.
pub fn lacking(packages: &[&str]) -> Error {
    Error::Host(format!(
        "this host lacks {}; install: apt-get install --no-install-recommends {}",
        packages.join(", "),
        packages.join(" ")
    ))
}

/// An error unless everything is there and we are root.
pub fn require() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Host("mounting needs root; run with sudo".into()));
    }
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    Err(lacking(&packages))
}
