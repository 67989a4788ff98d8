//! The operator's word, bad input, and the roles besides booting.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::os::fd::AsFd as _;

use nix::mount::MsFlags;
use op_dbus_activator::activation::{Outcome, Source};
use op_dbus_activator::mount::{Detached, MountPoint};
use op_dbus_bootstate::Slot;
use op_dbus_bootstate::quarantine::Cause;

mod common;
use common::{Device, is_root, mounts};

#[test]
fn off_touches_nothing() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    device.cmdline("quiet op-dbus=off");
    let before = mounts();
    let report = device.boot();
    assert_eq!(report.outcome, Outcome::Off);
    assert_eq!(mounts(), before);
}

#[test]
fn the_operators_choice_is_neither_counted_nor_refused() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    let record = device.read_record();
    let cases = [
        ("good", Some(Slot::Good), "v1.1.0"),
        ("fallback", Some(Slot::Fallback), "v1.0.0"),
        ("v1.2.0", Some(Slot::Named), "v1.2.0"),
        ("none", None, ""),
        // A typing mistake brings up the safest version.
        ("v9.9.9", Some(Slot::Good), "v1.1.0"),
    ];
    for (choice, slot, version) in cases {
        device.cmdline(&format!("op-dbus.select={choice}"));
        let report = device.boot();
        assert_eq!(report.slot, slot, "{choice}: {report:?}");
        assert_eq!(report.source, Source::CommandLine);
        assert!(!report.counted);
        match slot {
            Some(_) => device.assert_runs(version),
            None => assert_eq!(report.outcome, Outcome::Rescue),
        }
        device.down();
    }
    assert_eq!(device.read_record(), record);
}

#[test]
fn a_version_the_record_does_not_name_is_found_by_its_receipt() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    device.publish("v0.9.0");
    device.cmdline("op-dbus.select=v0.9.0");
    let report = device.boot();
    assert_eq!(report.slot, Some(Slot::Named), "{report:?}");
    device.assert_runs("v0.9.0");
}

#[test]
fn a_configuration_without_a_store_fails_in_one_line_and_the_boot_goes_on() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    let before = mounts();
    for (text, part) in [
        ("[store".to_owned(), "line 1"),
        (String::new(), "store"),
        ("[store]\ndevice = \"sda\"\n".to_owned(), "sda"),
        ("\u{0}".repeat(100_000), "deploy.toml"),
    ] {
        fs::write(device.layout.config(), text).unwrap();
        let report = device.boot();
        assert_eq!(report.outcome, Outcome::Failed);
        assert!(report.reason.contains(part), "{report:?}");
        assert!(!report.reason.contains('\n'));
    }
    fs::remove_file(device.layout.config()).unwrap();
    let report = device.boot();
    assert!(report.reason.contains("does not exist"), "{report:?}");
    assert_eq!(mounts(), before);
}

#[test]
fn a_mistake_elsewhere_in_the_configuration_runs_good_uncounted() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    let record = device.read_record();
    for mistake in [
        "typo = 1",
        "[limits]\ntries = 0",
        "[health]\nunits = [\"x\"",
    ] {
        device.configure(mistake);
        let report = device.boot();
        assert_eq!(report.slot, Some(Slot::Good), "{report:?}");
        assert!(!report.counted);
        assert!(
            report
                .degraded
                .contains(&"configuration-invalid".to_owned())
        );
        device.assert_runs("v1.1.0");
        device.down();
    }
    assert_eq!(device.read_record(), record);
}

#[test]
fn wrong_usage_is_exit_code_two() {
    if !is_root() {
        return;
    }
    let device = Device::new();
    assert_eq!(device.run(&["--typo"]).status.code(), Some(2));
    assert_eq!(device.run(&["--help"]).status.code(), Some(0));
    for role in ["store-rw", "links"] {
        assert_eq!(device.run(&[role]).status.code(), Some(0));
    }
}

#[test]
fn a_held_lock_costs_the_count_and_not_the_boot() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    device.mount_store();
    let lock =
        op_dbus_activator::lock::Lock::acquire(&device.layout, std::time::Duration::ZERO).unwrap();
    let report = device.boot();
    assert_eq!(report.slot, Some(Slot::Good), "{report:?}");
    assert!(!report.counted);
    assert!(report.degraded.contains(&"not-counted".to_owned()));
    drop(lock);
}

#[test]
fn a_dry_run_tells_the_next_boot_and_changes_nothing() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    device.boot();
    let before = (mounts(), fs::read(device.layout.activation()).unwrap());
    let output = device.run(&["--dry-run"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("would activate v1.2.0 (trial)"), "{text}");
    let output = device.run(&["--dry-run", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["dry_run"], true);
    assert_eq!(json["decision"]["version"], "v1.2.0");
    let after = (mounts(), fs::read(device.layout.activation()).unwrap());
    assert_eq!(after, before);
    device.down();
    assert_eq!(device.read_record().trial.unwrap().tries_left, 2);
    let output = device.run(&["--dry-run"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("the store is not mounted"), "{text}");
}

#[test]
fn what_is_attached_is_taken_back_when_the_rest_fails() {
    if !is_root() {
        return;
    }
    let (device, good) = Device::with_good();
    device.mount_store();
    let before = mounts();
    let dir = op_dbus_btrfs::open_dir(&device.layout.deployment(&good.version)).unwrap();
    let point = |path: &str| MountPoint::open(&device.layout.sysroot, path.as_ref()).unwrap();
    let (lower, overlay) = (point("/opt/op-dbus"), point("/usr/local/op-dbus"));
    let trees = [&dir, &dir].map(|dir| Detached::read_only_clone(dir.as_fd()).unwrap());
    // The second mount point goes away between looking and mounting.
    fs::remove_dir(device.layout.host("/usr/local/op-dbus")).unwrap();
    let [first, second] = trees;
    {
        let _attached = first.attach(&lower).unwrap();
        assert_ne!(mounts(), before);
        second.attach(&overlay).unwrap_err();
    }
    assert_eq!(mounts(), before);
    drop(dir);
    device.down();
}

#[test]
fn store_rw_undoes_what_ro_in_fstab_did() {
    if !is_root() {
        return;
    }
    let (device, _) = Device::with_good();
    let root = device.path("top");
    device.mount(&root, "subvolid=5", true);
    device.boot();
    let over = device.layout.host("/usr/local/op-dbus/new");
    // systemd-remount-fs applies `ro` to the root's mount.
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    nix::mount::mount(None::<&str>, &root, None::<&str>, flags, None::<&str>).unwrap();
    assert!(fs::write(&over, "x").is_err());
    device.run(&["store-rw"]);
    fs::write(&over, "x").unwrap();
    assert!(
        fs::write(root.join("x"), "x").is_err(),
        "the root stays read-only"
    );
    assert_eq!(device.report().degraded, Vec::<String>::new());
    device.down();
    common::unmount(&root);
}

#[test]
fn store_rw_puts_a_writable_overlay_in_place_of_a_degraded_one() {
    if !is_root() {
        return;
    }
    let (device, _) = Device::with_good();
    device.mount_store();
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let store = &device.layout.store;
    nix::mount::mount(None::<&str>, store, None::<&str>, flags, None::<&str>).unwrap();
    let report = device.boot();
    assert!(
        report.degraded.contains(&"overlay-missing".to_owned()),
        "{report:?}"
    );
    let count = mounts().len();
    device.run(&["store-rw"]);
    let report = device.report();
    assert_eq!(report.degraded, ["not-counted"], "{report:?}");
    assert_eq!(mounts().len(), count);
    device.assert_runs("v1.0.0");
    fs::write(device.layout.host("/usr/local/op-dbus/new"), "x").unwrap();
}

#[test]
fn links_lead_into_the_running_version() {
    if !is_root() {
        return;
    }
    let (device, _) = Device::with_good();
    device.configure("[[link]]\npath = \"/usr/local/hello\"\ntarget = \"bin/hello\"\n");
    device.boot();
    device.run(&["links"]);
    let link = device.layout.host("/usr/local/hello");
    let target = fs::read_link(&link).unwrap();
    assert_eq!(target.to_str(), Some("/usr/local/op-dbus/bin/hello"));
    device.configure("");
    device.run(&["links"]);
    assert!(link.symlink_metadata().is_err());
}

#[test]
fn a_quarantined_version_runs_only_at_the_operators_word() {
    if !is_root() {
        return;
    }
    let mut device = Device::with_all();
    for _ in 0..4 {
        device.reboot();
    }
    device.down();
    let record = device.read_record();
    assert_eq!(record.quarantine.entries()[0].cause, Cause::TriesExhausted);
    device.cmdline("op-dbus.select=v1.2.0");
    assert_eq!(device.reboot().slot, Some(Slot::Named));
    device.assert_runs("v1.2.0");
}
