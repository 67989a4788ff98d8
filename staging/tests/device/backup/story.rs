//! A device whose store is lost, made anew: releases by the build commands, boots
//! by the shipped activator.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::MntFlags;
use op_dbus_activator::activation::Activation;
use op_dbus_activator::boot::{self, Options};
use op_dbus_activator::device::Devices;
use op_dbus_loopback::{Volume, sh};

use super::trees::{blocks, describe, everything};
use crate::common::{Ended, PROGRAM};
use crate::fixture::{Device, names};
use crate::keys::keys;

/// A build system, used as a person uses it.
pub(super) struct Build {
    volume: Volume,
    dir: tempfile::TempDir,
}

impl Build {
    pub(super) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("opb").tempdir().unwrap();
        let volume = Volume::new(&dir.path().join("top"), 256);
        op_dbus_btrfs::create_subvolume(&volume.path("golden")).unwrap();
        for sub in [
            "bin",
            "etc",
            "share/doc",
            "share/op-dbus",
            "lib/systemd/system",
        ] {
            fs::create_dir_all(volume.path("golden").join(sub)).unwrap();
        }
        let program = volume.path("golden/bin/app");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(volume.path("golden/share/op-dbus/epoch"), "3\n").unwrap();
        fs::write(
            volume.path("golden/lib/systemd/system/app.service"),
            "[Service]\nExecStart=/opt/op-dbus/bin/app\n",
        )
        .unwrap();
        fs::write(volume.path("golden/etc/app.conf"), "colour = grey\n").unwrap();
        fs::write(volume.path("golden/share/doc/a"), "a").unwrap();
        fs::write(volume.path("golden/share/gone"), "hidden by a whiteout").unwrap();
        Self { volume, dir }
    }

    pub(super) fn releases(&self) -> PathBuf {
        self.dir.path().join("releases")
    }

    fn run(args: &[&str]) {
        let mut command = Command::new(PROGRAM);
        command.args(args).env("GNUPGHOME", keys().home());
        Ended::from(command.output().unwrap()).done();
    }

    /// Makes and signs a release: whole, or on top of others.
    pub(super) fn release(&self, version: &str, streams: &[&str]) -> String {
        fs::write(self.volume.path("golden/bin/version"), version).unwrap();
        let (build, to) = (self.volume.path(""), self.releases());
        let (build, to) = (build.to_str().unwrap(), to.to_str().unwrap());
        Self::run(&["snapshot", version, "--build", build]);
        let send = ["send", version, "--build", build, "--output", to];
        Self::run(&[&send, streams].concat());
        let manifest = self.releases().join(format!("{version}.json"));
        let manifest = manifest.to_str().unwrap().to_owned();
        Self::run(&["sign", &manifest, "--key", "release"]);
        manifest
    }
}

/// A boot by the shipped activator's own code, mounts and all.
#[track_caller]
pub(super) fn activate(device: &mut Device) -> Activation {
    down(device);
    device.next_boot();
    fs::write(device.path("cmdline"), "ro\n").unwrap();
    let report = boot::run(&Options {
        layout: device.layout.clone(),
        config: device.layout.config(),
        cmdline: device.path("cmdline"),
        boot_id: Some(device.path("boot_id")),
        devices: Devices::default(),
        dry_run: false,
    });
    report.write(&device.layout).unwrap();
    report
}

/// Takes down what a boot mounted, but for the store.
pub(super) fn down(device: &Device) {
    for place in ["/usr/local/op-dbus", "/opt/op-dbus"] {
        let _ = nix::mount::umount2(&device.layout.host(place), MntFlags::MNT_DETACH);
    }
}

pub(super) fn user(device: &Device, path: &str) -> PathBuf {
    device.layout.host("/usr/local/op-dbus").join(path)
}

/// Makes a backup, and returns its digest.
#[track_caller]
pub(super) fn backup(device: &Device, file: &Path) -> String {
    let made = device.result(&["backup", "create", file.to_str().unwrap()], "created");
    made["digest"].as_str().unwrap().to_owned()
}

#[expect(clippy::too_many_lines, reason = "one story")]
#[test]
fn a_device_that_lost_its_store_is_made_anew() {
    let Some(mut device) = Device::new() else {
        return;
    };
    let build = Build::new();
    let first = build.release("v1.0.0", &["--full"]);
    device.result(&["receive", &first], "received");
    device.result(&["stage", "v1.0.0"], "on-trial");
    assert_eq!(activate(&mut device).version.unwrap().as_str(), "v1.0.0");
    fs::write(user(&device, "etc/app.conf"), "colour = red\n").unwrap();
    device.result(&["bless"], "trial");

    let second = build.release("v1.1.0", &["--parent", "v1.0.0"]);
    device.result(&["receive", &second], "received");
    device.result(&["stage", "v1.1.0"], "on-trial");
    activate(&mut device);
    device.result(&["bless"], "trial");
    // What its user does, in the running version and right below it.
    fs::write(user(&device, "etc/app.conf"), "colour = blue\n").unwrap();
    fs::remove_file(user(&device, "share/gone")).unwrap();
    fs::remove_dir_all(user(&device, "share/doc")).unwrap();
    fs::create_dir(user(&device, "share/doc")).unwrap();
    fs::write(user(&device, "share/doc/mine"), "mine").unwrap();
    let everywhere = device.store("overlays/v1.1.0/upper/everything");
    fs::create_dir(&everywhere).unwrap();
    everything(&everywhere);

    // A third one that proved bad, and a pin.
    let third = build.release("v1.2.0", &["--parent", "v1.1.0"]);
    device.result(&["receive", &third], "received");
    device.result(&["stage", "v1.2.0"], "on-trial");
    activate(&mut device);
    device.result(&["condemn", "--reason", "smoke"], "condemned");
    activate(&mut device);
    device.result(&["pin", "v1.0.0"], "pinned");
    fs::create_dir_all(device.store("shared")).unwrap();
    let shared = device.store("shared/var-lib\\x2ddb");
    op_dbus_btrfs::create_subvolume(&shared).unwrap();
    everything(&shared);
    let record = device.record();
    let upper = describe(&device.store("overlays/v1.1.0/upper"));
    let fallback = describe(&device.store("overlays/v1.0.0/upper"));
    let shared = describe(&shared);

    let file = device.path("gate.backup");
    let digest = backup(&device, &file);
    assert_eq!(names(&device.store("incoming")), Vec::<String>::new());
    by_hand(&file);

    // The store is gone; the machine is another one.
    let mut other = Device::new().unwrap();
    let restored = other.result(
        &[
            "restore",
            file.to_str().unwrap(),
            "--releases",
            build.releases().to_str().unwrap(),
            "--digest",
            &digest,
        ],
        "restored",
    );
    assert_eq!(
        restored["versions"],
        serde_json::json!(["v1.0.0", "v1.1.0"])
    );
    assert_eq!(
        restored["left_in_backup"],
        serde_json::json!(["overlays/v1.2.0"])
    );
    assert_eq!(describe(&other.store("overlays/v1.1.0/upper")), upper);
    assert_eq!(describe(&other.store("overlays/v1.0.0/upper")), fallback);
    assert_eq!(describe(&other.store("shared/var-lib\\x2ddb")), shared);
    let sparse = other.store("overlays/v1.1.0/upper/everything/sparse");
    assert!(blocks(&sparse) < 1000, "{}", blocks(&sparse));
    let now = other.record();
    for (then, now) in [(&record.good, &now.good), (&record.fallback, &now.fallback)] {
        let (then, now) = (then.as_ref().unwrap(), now.as_ref().unwrap());
        assert_eq!((&then.version, then.digest), (&now.version, now.digest));
        assert_ne!(then.identity, now.identity);
    }
    assert_eq!(now.quarantine, record.quarantine);
    assert_eq!(now.epoch_floor, record.epoch_floor);
    assert_eq!(now.last_boot, record.last_boot);
    assert_eq!(names(&other.store("pins")), ["v1.0.0"]);
    other.result(&["audit", "verify"], "sound");
    other.result(&["verify", "--deep"], "sound");
    assert_eq!(names(&other.store("incoming")), Vec::<String>::new());

    // And it boots.
    let report = activate(&mut other);
    assert_eq!(report.version.unwrap().as_str(), "v1.1.0");
    assert_eq!(report.degraded, Vec::<String>::new());
    let read = |path| fs::read_to_string(user(&other, path)).ok();
    assert_eq!(read("etc/app.conf").unwrap(), "colour = blue\n");
    assert_eq!(read("share/gone"), None);
    assert_eq!(read("share/doc/a"), None, "an opaque directory");
    assert_eq!(read("share/doc/mine").unwrap(), "mine");
    assert_eq!(read("bin/version").unwrap(), "v1.1.0");
    let fifo = user(&other, "everything/fifo").symlink_metadata().unwrap();
    assert!(fifo.file_type().is_fifo());
    other.result(&["bless"], "good");
    other.run(&["stage", "v1.2.0"]).failed(7, "v1.2.0");
    let third = build.releases().join("v1.2.0.json");
    let third = third.to_str().unwrap();
    other.run(&["receive", third]).failed(8, "is quarantined");
    other.result(&["rollback"], "on-trial");
    activate(&mut other);
    let text = fs::read_to_string(user(&other, "etc/app.conf")).unwrap();
    assert_eq!(text, "colour = red\n", "the fallback's own");
    down(&other);
    down(&device);
}

/// At three in the morning, without this program: tar, zstd, sha256sum, btrfs.
#[track_caller]
fn by_hand(file: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let script = "cd \"$1\" && zstd -dcq \"$2\" | tar -xf - && sha256sum --quiet -c SHA256SUMS && \
        cat overlays/v1.1.0/* | btrfs receive --dump > dump && grep -q app.conf dump && \
        test \"$(head -c -32 \"$2\" | sha256sum | cut -c-64)\" = \"$(tail -c 32 \"$2\" | od -An -tx1 | tr -d ' \\n')\"";
    sh("sh", &["-c", script, "sh", dir, file.to_str().unwrap()]);
    assert_eq!(
        names(Path::new(dir)),
        [
            "BACKUP.json",
            "SHA256SUMS",
            "device",
            "dump",
            "overlays",
            "shared"
        ]
    );
}
