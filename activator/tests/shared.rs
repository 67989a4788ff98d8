//! Paths that are the same for every version.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use op_dbus_activator::activation::Outcome;
use op_dbus_bootstate::Slot;

mod common;
use common::{Device, is_root, mounts};

const SHARED: &str = "[overlay]\nshared_paths = [\"var/lib/my db\", \"state\"]\n";

fn over(device: &Device, path: &str) -> PathBuf {
    device.layout.host("/usr/local/op-dbus").join(path)
}

fn read(device: &Device, path: &str) -> Option<String> {
    fs::read_to_string(over(device, path)).ok()
}

/// v1.1.0 is good, v1.2.0 on trial, and both shared paths have their subvolumes.
fn device() -> Device {
    let device = Device::with_all();
    device.configure(SHARED);
    device.offline(|layout| {
        fs::create_dir(layout.shared_dir()).unwrap();
        for path in ["var/lib/my db", "state"] {
            op_dbus_btrfs::create_subvolume(&layout.shared(path)).unwrap();
            fs::write(layout.shared(path).join("file"), "first").unwrap();
        }
        assert!(layout.shared_dir().join(r"var-lib-my\x20db/file").exists());
    });
    device
}

#[test]
fn a_shared_path_outlives_a_rollback() {
    if !is_root() {
        return;
    }
    let mut device = device();
    let before = mounts();
    let report = device.boot();
    assert_eq!(report.slot, Some(Slot::Trial));
    assert_eq!(report.degraded, Vec::<String>::new());
    fs::write(over(&device, "setting"), "of trial").unwrap();
    for path in ["state/file", "var/lib/my db/file"] {
        assert_eq!(read(&device, path).as_deref(), Some("first"));
        fs::write(over(&device, path), "of trial").unwrap();
    }
    // A boot that asks again changes nothing.
    let mounted = mounts();
    device.boot();
    assert_eq!(mounts(), mounted);
    device.down();
    assert_eq!(mounts(), before);
    device.record(|record| record.trial = None);
    let report = device.reboot();
    assert_eq!(report.slot, Some(Slot::Good));
    device.assert_runs("v1.1.0");
    assert_eq!(read(&device, "setting"), None);
    for path in ["state/file", "var/lib/my db/file"] {
        assert_eq!(read(&device, path).as_deref(), Some("of trial"));
    }
    // Read-only is read-only: the version itself has none of it.
    assert!(!device.layout.host("/opt/op-dbus/state").exists());
    device.down();
    // Nor have the overlays.
    device.offline(|layout| {
        for version in ["v1.1.0", "v1.2.0"] {
            let upper = layout.upper(&version.parse().unwrap());
            assert_eq!(fs::read_dir(upper.join("state")).unwrap().count(), 0);
        }
    });
}

/// Something done to the store, and to the overlay of good, while the device is down.
type Damage<'a> = &'a dyn Fn(&Path, &Path);

#[test]
fn what_cannot_be_mounted_is_degraded_and_nothing_else() {
    if !is_root() {
        return;
    }
    let damages: [(&str, Damage<'_>); 6] = [
        ("missing", &|state, _| {
            op_dbus_btrfs::delete_subvolume(state).unwrap();
        }),
        ("no subvolume", &|state, _| {
            op_dbus_btrfs::delete_subvolume(state).unwrap();
            fs::create_dir(state).unwrap();
        }),
        ("a symlink in the store", &|state, _| {
            op_dbus_btrfs::delete_subvolume(state).unwrap();
            std::os::unix::fs::symlink("/", state).unwrap();
        }),
        ("a file where it is to be", &|_, upper| {
            fs::write(upper.join("state"), "x").unwrap();
        }),
        ("a symlink where it is to be", &|_, upper| {
            std::os::unix::fs::symlink("/", upper.join("state")).unwrap();
        }),
        ("a relative one", &|_, upper| {
            fs::create_dir(upper.join("real")).unwrap();
            std::os::unix::fs::symlink("real", upper.join("state")).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let device = device();
        device.record(|record| record.trial = None);
        device.offline(|layout| {
            let good = "v1.1.0".parse().unwrap();
            op_dbus_btrfs::create_subvolume(&layout.overlay(&good)).unwrap();
            fs::create_dir(layout.upper(&good)).unwrap();
            damage(&layout.shared("state"), &layout.upper(&good));
        });
        let report = device.boot();
        assert_eq!(report.outcome, Outcome::Activated, "{what}: {report:?}");
        assert_eq!(report.degraded, ["shared-path-missing"], "{what}");
        assert_eq!(report.failures, [], "{what}");
        assert!(report.counted);
        device.assert_runs("v1.1.0");
        // The other one is there.
        let other = read(&device, "var/lib/my db/file");
        assert_eq!(other.as_deref(), Some("first"), "{what}");
        assert_ne!(
            read(&device, "state/file").as_deref(),
            Some("first"),
            "{what}"
        );
    }
}

#[test]
fn a_mistake_elsewhere_does_not_hide_what_is_shared() {
    if !is_root() {
        return;
    }
    let device = device();
    device.configure(&format!("{SHARED}[limits]\ntries = 0\n"));
    let report = device.boot();
    assert_eq!(report.degraded, ["configuration-invalid", "not-counted"]);
    assert_eq!(read(&device, "state/file").as_deref(), Some("first"));
}

#[test]
fn a_store_without_writes_shows_what_is_shared_where_it_has_a_place() {
    if !is_root() {
        return;
    }
    let mut device = device();
    device.record(|record| record.trial = None);
    device.boot();
    device.down();
    device.detach();
    device.attach(&["--read-only"]);
    let report = device.reboot();
    assert_eq!(report.outcome, Outcome::Activated, "{report:?}");
    let words = ["store-read-only", "overlay-read-only", "not-counted"];
    for word in words {
        assert!(report.degraded.contains(&word.to_owned()), "{report:?}");
    }
    assert_eq!(report.degraded.len(), words.len(), "{report:?}");
    assert_eq!(read(&device, "state/file").as_deref(), Some("first"));
    assert!(fs::write(over(&device, "state/file"), "x").is_err());
}

#[test]
fn a_store_that_becomes_writable_gets_what_was_missing() {
    if !is_root() {
        return;
    }
    let mut device = device();
    device.record(|record| record.trial = None);
    // No overlay yet, so no place for what is shared.
    device.detach();
    device.attach(&["--read-only"]);
    let report = device.boot();
    let missing = "shared-path-missing".to_owned();
    assert!(report.degraded.contains(&missing), "{report:?}");
    device.down();
    device.detach();
    device.attach(&[]);
    // As after `ro` in fstab: mounted read-only, and writable a moment later.
    device.next_boot();
    fs::create_dir_all(&device.layout.store).unwrap();
    device.mount(&device.layout.store, "subvol=/@op-dbus", true);
    let report = device.boot();
    assert!(report.degraded.contains(&missing), "{report:?}");
    let output = device.run(&["store-rw"]);
    assert!(output.status.success(), "{output:?}");
    let report = device.report();
    assert_eq!(report.degraded, ["not-counted"], "{output:?}");
    for path in ["state/file", "var/lib/my db/file"] {
        assert_eq!(read(&device, path).as_deref(), Some("first"));
        fs::write(over(&device, path), "later").unwrap();
    }
    let mounted = mounts();
    device.run(&["store-rw"]);
    assert_eq!(mounts(), mounted);
}
