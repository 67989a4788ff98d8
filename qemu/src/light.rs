//! The light guest: a Debian kernel, our init, the shipped programs, and a
//! small Btrfs disk. About five seconds a boot.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{Cache, Entry, Key};
use crate::debian::profile::{Initramfs as Builder, Suite};
use crate::debian::root;
use crate::devices::Devices;
use crate::error::{Context, Result};
use crate::hardware::{Accelerator, Disk, Format, Hardware, Memory};
use crate::initramfs::Initramfs;
use crate::modules;
use crate::programs::Programs;
use crate::tool::Tool;

/// Raise it when the recipe below changes in a way its inputs don't show.
const RECIPE: &str = "2";

/// Size of the store's disk: small, so that it can be filled, and above what
/// Btrfs wants (109 MiB).
const DISK_BYTES: u64 = 320 << 20;

/// UUID of the store's file system, the same in every light guest.
pub const STORE_UUID: &str = "0bdb0000-1164-4000-8000-000000000001";

/// Kernel options of the light guest.
pub const KERNEL_OPTIONS: &str = "console=ttyS0 panic=-1 mitigations=off init_on_alloc=0 nokaslr \
    cryptomgr.notests 8250.nr_uarts=1 random.trust_cpu=on no_timer_check";

/// What the light guest's kernel needs beyond what it has built in.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "crc32c_intel",
    "btrfs",
    "ext4",
    "overlay",
    // For the crash explorer.
    "fuse",
    "loop",
];

/// Configuration of the light guest. No D-Bus and no units there, so no health
/// checks either.
const DEPLOY_TOML: &str = r#"[store]
device = "UUID=0bdb0000-1164-4000-8000-000000000001"
wait_seconds = 2

[[link]]
path = "/usr/local/bin/op-dbus-demo"
target = "bin/op-dbus-demo"
"#;

/// A kernel and the initramfs of the light guest.
#[derive(Debug)]
pub struct Light {
    base: Entry,
    image: Entry,
}

impl Light {
    /// Builds it for the kernel of `suite` from `programs`, or takes it from
    /// the cache. It trusts whoever holds one of `keys`.
    pub fn build(
        cache: &Cache,
        suite: Suite,
        programs: &Programs,
        keys: &[PathBuf],
    ) -> Result<Self> {
        let base = parts(cache, suite)?;
        let mut key = programs
            .key()?
            .text(RECIPE)
            .text(DEPLOY_TOML)
            .text(&base.path().to_string_lossy());
        for certificate in keys {
            key = key.file(certificate)?;
        }
        let kind = format!("light-{}", suite.name());
        let image = cache.entry(&kind, &key, |directory| {
            let path = directory.join("initrd");
            let archive = initramfs(&base, programs, keys)?;
            fs::write(&path, archive).at("write", &path)
        })?;
        Ok(Self { base, image })
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.base.file("vmlinuz")
    }

    /// A machine with a store's disk and one of releases.
    pub fn hardware(&self, store: &Path, releases: &Path, accelerator: Accelerator) -> Hardware {
        hardware(self.kernel(), self.initrd(), store, releases, accelerator)
    }

    /// The initramfs.
    pub fn initrd(&self) -> PathBuf {
        self.image.file("initrd")
    }
}

/// A light machine of these files.
pub fn hardware(
    kernel: PathBuf,
    initrd: PathBuf,
    store: &Path,
    releases: &Path,
    accelerator: Accelerator,
) -> Hardware {
    let disk = |path: &Path, read_only| Disk {
        path: path.to_owned(),
        format: Format::Raw,
        read_only,
        log: None,
        faults: Vec::new(),
    };
    Hardware {
        accelerator,
        processors: 1,
        memory_mib: 320,
        memory: Memory::Own,
        kernel,
        initrd,
        command_line: format!("{KERNEL_OPTIONS} vm.releases=/dev/vdb"),
        // Nobody writes to the first one either: what runs are copies.
        disks: vec![disk(store, false), disk(releases, true)],
        devices: Devices::default(),
    }
}

/// Makes an empty store disk at `path`.
pub fn empty_disk(path: &Path) -> Result<()> {
    let file = fs::File::create(path).at("create", path)?;
    file.set_len(DISK_BYTES).at("size", path)?;
    Tool::new("mkfs.btrfs")
        .args([
            "--quiet",
            "--force",
            "--metadata",
            "single",
            "--uuid",
            STORE_UUID,
        ])
        .arg(path)
        .run()
        .map(drop)
}

/// Kernel, and modules in load order, taken out of the suite's base root.
fn parts(cache: &Cache, suite: Suite) -> Result<Entry> {
    let base = root::base(cache, suite, Builder::Dracut)?;
    let key = Key::default()
        .text(RECIPE)
        .text(&MODULES.join(","))
        .text(&base.path().to_string_lossy());
    cache.entry(&format!("parts-{}", suite.name()), &key, |directory| {
        let unpacked =
            tempfile::tempdir_in(cache.root()).context(|| "make a temporary directory".into())?;
        let root = unpacked.path();
        root::unpack(&base, root)?;
        let release = root::kernel_release(root)?;
        let kernel = root.join(format!("boot/vmlinuz-{release}"));
        fs::copy(&kernel, directory.join("vmlinuz")).at("copy", &kernel)?;
        let tree = directory.join("tree");
        let modules = root.join("usr/lib/modules").join(&release);
        let mut list = String::new();
        for path in modules::load_order(&modules, MODULES)? {
            let content = modules::content(&modules.join(&path))?;
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let target = format!("usr/lib/modules/{}", name.trim_end_matches(".xz"));
            let file = tree.join(&target);
            fs::create_dir_all(tree.join("usr/lib/modules")).at("make", &tree)?;
            fs::write(&file, content).at("write", &file)?;
            list.extend(["/", &target, "\n"]);
        }
        let list_path = tree.join(op_dbus_vm_guest::init::MODULE_LIST.trim_start_matches('/'));
        fs::create_dir_all(list_path.parent().unwrap_or(&tree)).at("make", &tree)?;
        fs::write(&list_path, list).at("write", &list_path)?;
        Ok(())
    })
}

fn initramfs(base: &Entry, programs: &Programs, keys: &[PathBuf]) -> Result<Vec<u8>> {
    let mut archive = Initramfs::new();
    for name in ["bin", "sbin", "lib", "lib64"] {
        archive.symlink(Path::new(name), &format!("usr/{name}"));
    }
    add_tree(&mut archive, &base.file("tree"), Path::new(""))?;
    archive.copy(programs.guest(), Path::new("init"))?;
    for path in [
        "usr/bin/op-dbus-stage",
        "usr/libexec/op-dbus/op-dbus-activate",
    ] {
        archive.copy(&programs.tree().join(path), Path::new(path))?;
    }
    archive.file(
        Path::new("etc/op-dbus/deploy.toml"),
        0o644,
        DEPLOY_TOML.as_bytes(),
    );
    for (number, certificate) in keys.iter().enumerate() {
        let path = format!("etc/op-dbus/keys.d/{number}.asc");
        archive.copy(certificate, Path::new(&path))?;
    }
    for path in [
        "opt/op-dbus",
        "usr/local/op-dbus",
        "usr/local/bin",
        "media/releases",
    ] {
        archive.directory(Path::new(path));
    }
    Ok(archive.finish())
}

fn add_tree(archive: &mut Initramfs, from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).at("list", from)? {
        let entry = entry.at("list", from)?;
        let target = to.join(entry.file_name());
        if entry.file_type().at("look at", &entry.path())?.is_dir() {
            add_tree(archive, &entry.path(), &target)?;
        } else {
            archive.copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_configuration_names_the_disk() {
        assert!(super::DEPLOY_TOML.contains(super::STORE_UUID));
    }
}
