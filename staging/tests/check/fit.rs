//! A device that is fit, and what a check says of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::Device;

/// The kernel that is installed.
pub(crate) const KERNEL: &str = "6.1.0-9-amd64";
/// Its image.
pub(crate) const INITRD: &str = "boot/initrd.img-6.1.0-9-amd64";

/// What a check found.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) code: i32,
    pub(crate) json: Value,
    pub(crate) findings: Vec<Value>,
}

/// Runs a check; it never takes long.
#[track_caller]
pub(crate) fn check(device: &Device, args: &[&str]) -> Checked {
    let began = Instant::now();
    let ended = device.run(&[&["check"], args, &["--json"]].concat());
    assert!(began.elapsed() < Duration::from_secs(60), "{args:?}");
    let json: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    let mut findings = Vec::new();
    for list in [&json["findings"]].into_iter().chain(
        json["checked"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| &one["findings"]),
    ) {
        findings.extend(list.as_array().into_iter().flatten().cloned());
    }
    for one in &findings {
        let is_bad = one["severity"] == "warning" || one["severity"] == "error";
        assert_eq!(one["remedy"].is_string(), is_bad, "{one}");
    }
    Checked {
        code: ended.code,
        json,
        findings,
    }
}

impl Checked {
    /// Those to do something about.
    pub(crate) fn bad(&self) -> Vec<&Value> {
        let is_bad = |one: &&Value| one["severity"] == "warning" || one["severity"] == "error";
        self.findings.iter().filter(is_bad).collect()
    }

    /// All is well.
    #[track_caller]
    pub(crate) fn healthy(&self) {
        assert_eq!(self.bad(), Vec::<&Value>::new());
        assert_eq!(self.code, 0);
    }

    /// One thing is wrong, with this exit code (0: a warning), subject and words.
    #[track_caller]
    pub(crate) fn only(&self, code: i32, subject: &str, words: &str) {
        let bad = self.bad();
        assert_eq!(bad.len(), 1, "{bad:#?}");
        let severity = if code == 0 { "warning" } else { "error" };
        assert_eq!(bad[0]["severity"], severity, "{bad:?}");
        assert_eq!(bad[0]["subject"], subject, "{bad:?}");
        assert!(bad[0]["found"].as_str().unwrap().contains(words), "{bad:?}");
        assert_eq!(self.code, code, "{bad:?}");
    }
}

pub(crate) fn put(root: &Path, path: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// Installs everything a device has around its store.
pub(crate) fn install(device: &Device) {
    let root = &device.layout.sysroot;
    let config = fs::read_to_string(device.layout.config()).unwrap();
    let text = format!("{config}\n[health]\nunits = [\"app.service\"]\n");
    fs::write(device.layout.config(), text).unwrap();
    for program in [
        "usr/libexec/op-dbus/op-dbus-activate",
        "usr/libexec/op-dbus/op-dbus-agent",
        "usr/bin/op-dbus-stage",
        "usr/lib/systemd/system-generators/op-dbus-generator",
    ] {
        put(root, program, program, 0o755);
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let units = repository.join("systemd-generator/units");
    for unit in fs::read_dir(units)
        .unwrap()
        .map(|unit| unit.unwrap().path())
    {
        let name = unit.file_name().unwrap().to_str().unwrap();
        put(
            root,
            &format!("usr/lib/systemd/system/{name}"),
            fs::read(&unit).unwrap(),
            0o644,
        );
    }
    for (from, to) in [
        (
            "agent/dbus-1/op-dbus.conf",
            "usr/share/dbus-1/system.d/op-dbus.conf",
        ),
        (
            "dracut/50op-dbus/module-setup.sh",
            "usr/lib/dracut/modules.d/50op-dbus/module-setup.sh",
        ),
        (
            "dracut/dracut.conf.d/50-op-dbus.conf",
            "etc/dracut.conf.d/50-op-dbus.conf",
        ),
    ] {
        put(root, to, fs::read(repository.join(from)).unwrap(), 0o644);
    }
    let modules = "kernel/fs/btrfs/btrfs.ko:\nkernel/fs/overlayfs/overlay.ko:\n";
    put(
        root,
        &format!("usr/lib/modules/{KERNEL}/modules.dep"),
        modules,
        0o644,
    );
    std::os::unix::fs::symlink("usr/lib", root.join("lib")).unwrap();
    put(
        root,
        "boot/grub/grub.cfg",
        "linux /vmlinuz ro panic=10 rd.emergency=reboot\n",
        0o644,
    );
    rebuild(device);
}

/// What dracut does: an image of what is installed.
pub(crate) fn rebuild(device: &Device) {
    let root = &device.layout.sysroot;
    let read = |path: &str| fs::read(root.join(path)).unwrap();
    let mut archive = Vec::new();
    for path in [
        "usr/libexec/op-dbus/op-dbus-activate",
        "etc/op-dbus/deploy.toml",
    ] {
        archive.extend(entry(path, &read(path)));
    }
    for path in [
        "usr/lib/systemd/system/op-dbus-initrd.service",
        "etc/systemd/system/initrd.target.wants/op-dbus-initrd.service",
        "usr/lib/modules/6/kernel/fs/btrfs/btrfs.ko",
        "usr/lib/modules/6/kernel/fs/overlayfs/overlay.ko.zst",
    ] {
        archive.extend(entry(path, b"x"));
    }
    archive.extend(entry("TRAILER!!!", b""));
    let packed = zstd::encode_all(archive.as_slice(), 1).unwrap();
    let mut early = [
        entry("kernel/x86/microcode/x.bin", &[7; 999]),
        entry("TRAILER!!!", b""),
    ]
    .concat();
    early.resize(early.len().next_multiple_of(512), 0);
    put(root, INITRD, [early, packed].concat(), 0o600);
}

/// An entry of a newc archive.
fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}",
        1,
        0o100_644,
        0,
        0,
        1,
        0,
        content.len(),
        0,
        0,
        0,
        0,
        name.len() + 1,
        0
    )
    .into_bytes();
    bytes.extend(name.bytes().chain([0]));
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
