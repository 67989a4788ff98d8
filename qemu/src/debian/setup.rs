//! What turns an unpacked base root into a test machine: configuration only,
//! all of it in files a user could write as well.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::cache::Key;
use crate::debian::profile::{Initramfs, Layout, Profile, Suite};
use crate::error::{Context, Result};
use crate::expect::{metrics, told};
use crate::programs::Programs;
use crate::release::LABEL;

/// Kernel options of every Debian guest. `panic=-1` and `rd.emergency=reboot`
/// are part of the product's contract: without them an early failure stays
/// where it is. The rest keeps an emulated boot short.
pub(super) const KERNEL_OPTIONS: &str = "console=ttyS0 panic=-1 rd.emergency=reboot \
    rd.shell=0 mitigations=off init_on_alloc=0 apparmor=0 selinux=0 audit=0 nokaslr \
    cryptomgr.notests 8250.nr_uarts=1 random.trust_cpu=on no_timer_check \
    systemd.show_status=1 modprobe.blacklist=kvm_amd,kvm,psmouse,serio_raw,evdev,button,\
    ahci,i2c_i801,lpc_ich,powernow_k8,acpi_cpufreq,aesni_intel,ghash_clmulni_intel,\
    crct10dif_pclmul,sha512_ssse3,sha1_ssse3";

/// Units that do nothing for a test but cost emulated seconds, or that want a
/// writable /var, which a read-only root does not have.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "getty@tty1.service",
    "modprobe@configfs.service",
    "modprobe@dm_mod.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "modprobe@loop.service",
    "proc-sys-fs-binfmt_misc.automount",
    "remote-fs.target",
    "serial-getty@ttyS0.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-journal-flush.service",
    "systemd-logind.service",
    "systemd-random-seed.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
];

/// Moves what the kernel kept of a crash to /var/lib/systemd/pstore: not where the
/// root is read-only.
const ARCHIVER: &str = "systemd-pstore.service";

/// Of the network card that some boots have; only they start networkd.
const NETWORK: &str = "\
[Match]
Driver=virtio_net

[Network]
Address=10.0.2.15/24
LinkLocalAddressing=no
IPv6AcceptRA=no
";

const GUEST_UNIT: &str = "\
[Unit]
Description=Command channel of op-dbus-vm
# nofail leaves the disk with releases out of local-fs.target; who answers has it.
After=media-releases.mount

[Service]
ExecStart=/usr/libexec/op-dbus-vm-guest serve --port /dev/virtio-ports/op-dbus-vm
";

/// A root shell on the console, for `op-dbus-vm boot` alone: no boot wants it
/// unless [`SHELL_OPTION`] is on the kernel command line.
const SHELL_UNIT: &str = "\
[Unit]
Description=Root shell on the console

[Service]
ExecStart=/bin/bash -l
Environment=TERM=vt220 HOME=/root
WorkingDirectory=/root
StandardInput=tty-force
TTYPath=/dev/ttyS0
Restart=always
";

/// Kernel option that starts the shell.
pub(super) const SHELL_OPTION: &str = "systemd.wants=op-dbus-vm-shell.service";

/// Emulated machines on a busy host are slow: what would be a fault at a desk is
/// only patience here. What is under test has limits of its own.
const MANAGER: &str = "[Manager]\nDefaultTimeoutStartSec=600s\nDefaultDeviceTimeoutSec=600s\n";

const JOURNALD: &str = "[Journal]\nStorage=volatile\nRuntimeMaxUse=8M\n";

/// Only what the machine has: an image for every machine takes emulated
/// seconds to unpack and to probe.
const DRACUT: &str = "\
hostonly=no
compress=cat
dracutmodules+=\" bash systemd systemd-initrd dracut-systemd udev-rules rootfs-block kernel-modules btrfs base fs-lib shutdown op-dbus \"
drivers+=\" virtio_blk virtio_pci virtio_console btrfs ext4 overlay \"
";

const HEALTH: &str = r#"
[mounts]
lower = "/opt/op-dbus"
overlay = "/usr/local/op-dbus"

[[link]]
path = "/usr/local/bin/op-dbus-demo"
target = "bin/op-dbus-demo"

[health]
units = ["op-dbus-demo.service"]
bus_names = ["org.opdbus.Demo"]
settle_seconds = 5
timeout_seconds = 90
deadline_seconds = 900
"#;

/// UUID of the root's file system: another for each profile, because kernels
/// before 6.8 refuse to mount two file systems of one UUID at a time.
pub(super) fn root_uuid(profile: Profile) -> String {
    let suite = u8::from(profile.suite == Suite::Trixie);
    let initramfs = u8::from(profile.initramfs == Initramfs::InitramfsTools);
    let layout = u8::from(profile.layout == Layout::SeparateStore);
    format!("0bdb0000-1164-4000-8000-00000a{suite:02}{initramfs:02}{layout:02}")
}

/// UUID of the file system with the store.
pub(super) fn store_uuid(profile: Profile) -> String {
    let root = root_uuid(profile);
    match profile.layout {
        Layout::BtrfsRoot => root,
        Layout::SeparateStore => root.replace("-00000a", "-00000b"),
    }
}

/// Adds everything this module writes to a key.
pub(super) fn recipe(key: Key, profile: Profile) -> Key {
    [
        KERNEL_OPTIONS,
        &MASKED.join(","),
        GUEST_UNIT,
        JOURNALD,
        MANAGER,
        NETWORK,
        ARCHIVER,
        SHELL_UNIT,
        DRACUT,
        &deploy_toml(profile),
        &fstab(profile),
        &told::hook(),
    ]
    .into_iter()
    .fold(key, Key::text)
}

/// Writes the configuration below `root`.
pub(super) fn configure(root: &Path, profile: Profile, programs: &Programs) -> Result<()> {
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(root)).at("make", &path)?;
        fs::write(&path, text).at("write", &path)
    };
    put("etc/fstab", &fstab(profile))?;
    put("etc/hostname", "device\n")?;
    put("etc/op-dbus/deploy.toml", &deploy_toml(profile))?;
    put("etc/systemd/journald.conf.d/50-vm.conf", JOURNALD)?;
    put("etc/systemd/system.conf.d/50-vm.conf", MANAGER)?;
    put("etc/systemd/network/50-vm.network", NETWORK)?;
    put("etc/systemd/system/op-dbus-vm-shell.service", SHELL_UNIT)?;
    put("etc/systemd/system/op-dbus-vm-guest.service", GUEST_UNIT)?;
    if profile.initramfs == Initramfs::Dracut {
        put("etc/dracut.conf.d/50-vm.conf", DRACUT)?;
    }
    let units = root.join("etc/systemd/system");
    let archiver = (profile.layout == Layout::BtrfsRoot).then_some(&ARCHIVER);
    for name in MASKED.iter().chain(archiver) {
        link("/dev/null", &units.join(name))?;
    }
    link(
        "../op-dbus-vm-guest.service",
        &units.join("multi-user.target.wants/op-dbus-vm-guest.service"),
    )?;
    put(told::PATH, &told::hook())?;
    let hook = root.join(told::PATH);
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).at("make executable", &hook)?;
    let releases = root.join(op_dbus_vm_guest::init::RELEASES.trim_start_matches('/'));
    fs::create_dir_all(&releases).at("make", &releases)?;
    let guest = root.join("usr/libexec/op-dbus-vm-guest");
    fs::copy(programs.guest(), &guest)
        .at("copy", &guest)
        .map(drop)
}

fn link(target: &str, path: &Path) -> Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path)).at("make", path)?;
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path).at("remove", path)?;
    }
    symlink(target, path).at("link", path)
}

/// `ro` for the Btrfs root: the harder case, because remounting it turns the
/// shared superblock, and with it the store, read-only.
fn fstab(profile: Profile) -> String {
    let releases = op_dbus_vm_guest::init::RELEASES;
    let uuid = root_uuid(profile);
    let root = match profile.layout {
        Layout::BtrfsRoot => format!("UUID={uuid} / btrfs ro,subvol=@rootfs 0 0"),
        Layout::SeparateStore => format!("UUID={uuid} / ext4 errors=remount-ro 0 0"),
    };
    format!("{root}\nLABEL={LABEL} {releases} ext4 ro,nofail 0 0\n")
}

fn deploy_toml(profile: Profile) -> String {
    let uuid = store_uuid(profile);
    let way = match profile.initramfs {
        Initramfs::Dracut => "initrd",
        Initramfs::InitramfsTools => "generator",
    };
    format!(
        "[store]\ndevice = \"UUID={uuid}\"\nsubvolume = \"@op-dbus\"\nwait_seconds = 20\n\n\
         [activation]\nway = \"{way}\"\n{HEALTH}\n\
         [metrics]\ntextfile = \"{}\"\n",
        metrics::FILE
    )
}
