//! The base root of a suite: packages only, nothing of ours.

use std::fs;
use std::path::Path;

use crate::cache::{Cache, Entry, Key};
use crate::debian::profile::{Initramfs, Suite};
use crate::error::{Context, Error, Result};
use crate::tool::Tool;

/// Raise it when the recipe below changes in a way its inputs don't show.
const RECIPE: &str = "1";

/// What every guest needs; the initramfs builder comes on top.
const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "btrfs-progs",
    "linux-image-cloud-amd64",
    "zstd",
];

/// Never read in a guest, and a third of the size.
const LEFT_OUT: &[&str] = &[
    "man",
    "doc",
    "locale",
    "info",
    "lintian",
    "bash-completion",
    "zsh",
];

/// Name of the archive in the cache entry.
pub const ARCHIVE: &str = "root.tar.zst";

/// The base root of `suite` with `initramfs`, as a cache entry that holds
/// [`ARCHIVE`]. Downloads from the archive that mmdebstrap takes for the suite.
pub fn base(cache: &Cache, suite: Suite, initramfs: Initramfs) -> Result<Entry> {
    let packages = format!("{},{}", PACKAGES.join(","), initramfs.name());
    let key = Key::default()
        .text(RECIPE)
        .text(suite.name())
        .text(&packages)
        .text(&LEFT_OUT.join(","));
    let kind = format!("root-{}-{}", suite.name(), initramfs.name());
    cache.entry(&kind, &key, |directory| {
        let mut tool = Tool::new("mmdebstrap").args([
            "--variant=minbase",
            "--quiet",
            "--aptopt=APT::Install-Recommends \"false\"",
        ]);
        for name in LEFT_OUT {
            tool = tool.arg(format!("--dpkgopt=path-exclude=/usr/share/{name}/*"));
        }
        tool.arg(format!("--include={packages}"))
            .arg(suite.name())
            .arg(directory.join(ARCHIVE))
            .run()
            .map(drop)
    })
}

/// Unpacks a base root into the empty directory `target`.
pub fn unpack(base: &Entry, target: &Path) -> Result<()> {
    Tool::new("tar")
        .args(["--zstd", "--numeric-owner", "--xattrs", "-xf"])
        .arg(base.file(ARCHIVE))
        .arg("-C")
        .arg(target)
        .run()
        .map(drop)
}

/// Release of the one kernel that is installed in `root`.
pub fn kernel_release(root: &Path) -> Result<String> {
    let path = root.join("usr/lib/modules");
    fs::read_dir(&path)
        .at("list", &path)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| root.join(format!("boot/vmlinuz-{name}")).exists())
        .ok_or_else(|| Error::Host(format!("{}: no kernel in it", path.display())))
}
