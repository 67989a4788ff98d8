//! Disks of a profile: the *fresh* one with our programs installed, and the
//! *prepared* one on which v1.0.0 has run and is blessed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{Cache, Entry};
use crate::debian::profile::{Initramfs, Layout, Profile};
use crate::debian::{root, setup};
use crate::error::{Context, Result};
use crate::hardware::{Disk, Format};
use crate::programs::Programs;
use crate::release::Releases;
use crate::sandbox::Mounted;
use crate::tool::Tool;

/// Raise it when the recipe changes in a way its inputs don't show.
const RECIPE: &str = "2";

/// Subvolume of the root, the one Debian's installer would choose.
const ROOT_SUBVOLUME: &str = "@rootfs";

/// The version a machine starts with.
pub const FIRST: &str = "v1.0.0";

const ROOT_BYTES: u64 = 3 << 30;
const STORE_BYTES: u64 = 1 << 30;

/// Images of a machine, and what to boot them with.
#[derive(Debug)]
pub struct Machine {
    profile: Profile,
    entry: Entry,
}

impl Machine {
    /// The fresh machine of `profile`: base root, our programs, `op-dbus-stage
    /// prepare` done, v1.0.0 received and staged for its first boot.
    pub fn fresh(
        cache: &Cache,
        profile: Profile,
        programs: &Programs,
        releases: &Releases,
    ) -> Result<Self> {
        let base = root::base(cache, profile.suite, profile.initramfs)?;
        let mut key = setup::recipe(programs.key()?.text(RECIPE), profile)
            .text(&base.path().to_string_lossy())
            .file(&releases.image())?;
        for certificate in releases.keys() {
            key = key.file(certificate)?;
        }
        let entry = cache.entry(&format!("disk-{profile}"), &key, |directory| {
            build(directory, profile, &base, programs, releases)
        })?;
        Ok(Self { profile, entry })
    }

    /// A machine of `profile` whose images and kernel are in `entry`.
    pub fn prepared(profile: Profile, entry: Entry) -> Self {
        Self { profile, entry }
    }

    /// The profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The cache's entry.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.entry.file("vmlinuz")
    }

    /// The initramfs.
    pub fn initrd(&self) -> PathBuf {
        self.entry.file("initrd")
    }

    /// The kernel command line.
    pub fn command_line(&self) -> String {
        command_line(self.profile)
    }
}

/// Kernel option with which a machine offers a root shell on its console.
pub fn shell_option() -> &'static str {
    setup::SHELL_OPTION
}

/// Names of the images of `layout`, root first.
pub fn images(layout: Layout) -> &'static [&'static str] {
    match layout {
        Layout::BtrfsRoot => &["root.img"],
        Layout::SeparateStore => &["root.img", "store.img"],
    }
}

/// Name of the image that holds the store.
pub fn store_image(layout: Layout) -> &'static str {
    match layout {
        Layout::BtrfsRoot => "root.img",
        Layout::SeparateStore => "store.img",
    }
}

/// Copy-on-write images over those in `base`, made in `directory`.
pub fn fork(layout: Layout, base: &Path, directory: &Path) -> Result<Vec<Disk>> {
    images(layout)
        .iter()
        .map(|name| {
            let path = directory.join(name).with_extension("qcow2");
            Tool::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                .arg(base.join(name))
                .arg(&path)
                .run()?;
            Ok(Disk {
                path,
                format: Format::Qcow2,
                read_only: false,
                log: None,
                faults: Vec::new(),
            })
        })
        .collect()
}

/// Writes the content of a fork as a raw image.
pub fn flatten(fork: &Path, raw: &Path) -> Result<()> {
    Tool::new("qemu-img")
        .args(["convert", "-f", "qcow2", "-O", "raw"])
        .args([fork, raw])
        .run()
        .map(drop)
}

fn command_line(profile: Profile) -> String {
    let flags = match profile.layout {
        Layout::BtrfsRoot => format!("rootflags=subvol={ROOT_SUBVOLUME} "),
        Layout::SeparateStore => String::new(),
    };
    format!(
        "root=UUID={} {flags}ro {}",
        setup::root_uuid(profile),
        setup::KERNEL_OPTIONS
    )
}

fn build(
    directory: &Path,
    profile: Profile,
    base: &Entry,
    programs: &Programs,
    releases: &Releases,
) -> Result<()> {
    for (name, bytes) in [("root.img", ROOT_BYTES), ("store.img", STORE_BYTES)] {
        if images(profile.layout).contains(&name) {
            let path = directory.join(name);
            let file = fs::File::create(&path).at("create", &path)?;
            file.set_len(bytes).at("size", &path)?;
        }
    }
    let root_image = directory.join("root.img");
    let store_image = directory.join("store.img");
    let mounted = match profile.layout {
        Layout::BtrfsRoot => {
            make_btrfs(&root_image, &setup::root_uuid(profile))?;
            let top = Mounted::image(&root_image, "")?;
            Tool::new("btrfs")
                .args(["-q", "subvolume", "create"])
                .arg(top.path().join(ROOT_SUBVOLUME))
                .run()?;
            top.close()?;
            Mounted::image(&root_image, &format!("subvol={ROOT_SUBVOLUME}"))?
        }
        Layout::SeparateStore => {
            make_btrfs(&store_image, &setup::store_uuid(profile))?;
            Tool::new("mke2fs")
                .args(["-q", "-t", "ext4", "-U", &setup::root_uuid(profile)])
                .arg(&root_image)
                .run()?;
            Mounted::image(&root_image, "")?
        }
    };
    let root = mounted.path();
    root::unpack(base, root)?;
    Tool::new("cp")
        .args(["-a", "--"])
        .arg(programs.tree().join("usr"))
        .arg(root)
        .run()?;
    setup::configure(root, profile, programs)?;
    let release = root::kernel_release(root)?;
    {
        let _views = Mounted::kernel_views(root)?;
        let store = match profile.layout {
            Layout::BtrfsRoot => None,
            Layout::SeparateStore => Some(Mounted::image(&store_image, "")?),
        };
        let device = store.as_ref().unwrap_or(&mounted).device()?;
        provision(root, &device, releases)?;
        Tool::new("umount")
            .arg(root.join("run/op-dbus/store"))
            .run()?;
        make_initramfs(root, profile, &release)?;
    }
    for (from, to) in [
        (format!("boot/vmlinuz-{release}"), "vmlinuz"),
        (format!("boot/initrd.img-{release}"), "initrd"),
    ] {
        let from = root.join(from);
        fs::copy(&from, directory.join(to)).at("copy", &from)?;
    }
    mounted.close()
}

fn make_btrfs(image: &Path, uuid: &str) -> Result<()> {
    Tool::new("mkfs.btrfs")
        .args(["--quiet", "--force", "--uuid", uuid])
        .arg(image)
        .run()
        .map(drop)
}

/// Does in the chroot what an image builder would: makes the store and puts the
/// first version into it, so that the machine's first boot is v1.0.0's trial.
/// From then on the machine trusts whoever holds the keys of `releases`.
fn provision(root: &Path, device: &str, releases: &Releases) -> Result<()> {
    let stage = |arguments: &[&str]| {
        Tool::new("chroot")
            .arg(root)
            .arg("op-dbus-stage")
            .args(arguments)
            .run()
            .map(drop)
    };
    let put = |from: &Path, name: &str| {
        fs::copy(from, root.join("tmp").join(name))
            .at("copy", from)
            .map(|_| format!("/tmp/{name}"))
    };
    let mut prepare = vec![
        "prepare".to_owned(),
        "--device".to_owned(),
        device.to_owned(),
    ];
    for (number, key) in releases.keys().iter().enumerate() {
        prepare.extend(["--key".to_owned(), put(key, &format!("{number}.asc"))?]);
    }
    let prepare: Vec<&str> = prepare.iter().map(String::as_str).collect();
    stage(&prepare)?;
    for kind in ["json", "json.asc", "btrfs.zst"] {
        let name = format!("{FIRST}.{kind}");
        put(&releases.directory().join(&name), &name)?;
    }
    stage(&["receive", &format!("/tmp/{FIRST}.json")])?;
    stage(&["stage", FIRST])
}

fn make_initramfs(root: &Path, profile: Profile, release: &str) -> Result<()> {
    let image = format!("/boot/initrd.img-{release}");
    let chroot = Tool::new("chroot").arg(root);
    match profile.initramfs {
        Initramfs::Dracut => chroot.args(["dracut", "--quiet", "--force", &image, release]),
        Initramfs::InitramfsTools => chroot.args(["update-initramfs", "-u", "-k", release]),
    }
    .run()
    .map(drop)
}
