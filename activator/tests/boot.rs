//! The boot role on a real store: which version comes up, and what is left when
//! one does not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;

use op_dbus_activator::activation::{Outcome, RecordState, Source};
use op_dbus_bootstate::quarantine::Cause;
use op_dbus_bootstate::record::Origin;
use op_dbus_bootstate::{Record, Slot};

mod common;
use common::{Device, is_root, mounts, on_trial};

#[test]
fn good_comes_up_with_a_writable_overlay() {
    if !is_root() {
        return;
    }
    let (device, good) = Device::with_good();
    let report = device.boot();
    assert_eq!(report.outcome, Outcome::Activated, "{report:?}");
    assert_eq!(report.slot, Some(Slot::Good));
    assert_eq!(report.digest, Some(good.digest));
    assert_eq!(report.degraded, Vec::<String>::new());
    assert_eq!(report.record.state, RecordState::Intact);
    assert_eq!(report.source, Source::Record);
    assert!(report.counted);
    device.assert_runs("v1.0.0");
    fs::write(device.layout.host("/usr/local/op-dbus/new"), "x").unwrap();
    assert!(fs::write(device.layout.host("/opt/op-dbus/new"), "x").is_err());
    for (point, options) in [
        ("/opt/op-dbus", "ro,nosuid,nodev"),
        ("/usr/local/op-dbus", "rw,nosuid,nodev"),
    ] {
        let point = device.layout.host(point);
        let point = point.to_str().unwrap();
        let line = mounts().into_iter().find(|line| line.contains(point));
        let line = line.unwrap();
        assert!(line.contains(options) && !line.contains("noexec"), "{line}");
    }
}

#[test]
fn an_empty_store_is_rescue_and_no_error() {
    if !is_root() {
        return;
    }
    let device = Device::new();
    device.record(|_| {});
    let report = device.boot();
    assert_eq!(report.outcome, Outcome::Rescue);
    assert_eq!(report.reason, "no version is installed yet");
    assert_eq!(device.hello(), (None, None));
}

#[test]
fn a_trial_gets_its_tries_then_good_is_back_in_the_same_boot() {
    if !is_root() {
        return;
    }
    let mut device = Device::with_all();
    let mut report = device.boot();
    for left in [2, 1, 0] {
        assert_eq!(report.slot, Some(Slot::Trial), "{report:?}");
        device.assert_runs("v1.2.0");
        device.down();
        assert_eq!(device.read_record().trial.unwrap().tries_left, left);
        report = device.reboot();
    }
    assert_eq!(report.slot, Some(Slot::Good));
    device.assert_runs("v1.1.0");
    device.down();
    let record = device.read_record();
    assert_eq!(record.trial, None);
    assert_eq!(record.quarantine.entries()[0].cause, Cause::TriesExhausted);
}

#[test]
fn good_unblessed_five_times_gives_way_to_fallback_then_rescue_then_good() {
    if !is_root() {
        return;
    }
    let mut device = Device::with_all();
    device.record(|record| record.trial = None);
    let mut slots = Vec::new();
    for _ in 0..12 {
        slots.push(device.reboot().slot);
    }
    let (good, fallback) = (Some(Slot::Good), Some(Slot::Fallback));
    let mut expected = vec![good; 5];
    expected.extend(vec![fallback; 5]);
    expected.extend([None, good]);
    assert_eq!(slots, expected);
}

#[test]
fn an_altered_trial_is_not_activated_and_leaves_no_mount() {
    if !is_root() {
        return;
    }
    let mut device = Device::with_all();
    device.offline(|layout| {
        let path = layout.deployment(&"v1.2.0".parse().unwrap());
        op_dbus_btrfs::set_read_only(&path, false).unwrap();
        fs::write(path.join("bin/hello"), "evil").unwrap();
        op_dbus_btrfs::set_read_only(&path, true).unwrap();
    });
    let report = device.boot();
    assert_eq!(report.slot, Some(Slot::Good), "{report:?}");
    assert_eq!(report.failures.len(), 1);
    assert!(
        report.failures[0].reason.contains("changed since"),
        "{report:?}"
    );
    device.assert_runs("v1.1.0");
    let with_failure = mounts().len();
    let after = device.reboot();
    assert_eq!(after.failures, []);
    assert_eq!(mounts().len(), with_failure);
    device.down();
    assert_eq!(device.read_record().trial, None);
}

/// Something done to a published version while the device is down.
type Damage = fn(&std::path::Path);

#[test]
fn whatever_differs_from_what_was_published_is_not_activated() {
    if !is_root() {
        return;
    }
    let damages: [(&str, Damage); 4] = [
        ("does not exist", |path| {
            op_dbus_btrfs::delete_subvolume(path).unwrap();
        }),
        ("no longer read-only", |path| {
            op_dbus_btrfs::set_read_only(path, false).unwrap();
        }),
        ("not a subvolume", |path| {
            op_dbus_btrfs::delete_subvolume(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("UUID", |path| {
            let copy = path.with_file_name("copy");
            op_dbus_btrfs::snapshot(path, &copy, false).unwrap();
            op_dbus_btrfs::delete_subvolume(path).unwrap();
            fs::rename(&copy, path).unwrap();
            op_dbus_btrfs::set_read_only(path, true).unwrap();
        }),
    ];
    for (reason, damage) in damages {
        let device = Device::with_all();
        device.offline(|layout| damage(&layout.deployment(&"v1.2.0".parse().unwrap())));
        let report = device.boot();
        assert_eq!(report.slot, Some(Slot::Good), "{reason}: {report:?}");
        assert!(report.failures[0].reason.contains(reason), "{report:?}");
        device.assert_runs("v1.1.0");
    }
}

#[test]
fn all_damaged_ends_in_rescue_with_the_host_as_it_was() {
    if !is_root() {
        return;
    }
    let mut device = Device::with_all();
    device.offline(|layout| {
        for version in ["v1.0.0", "v1.1.0", "v1.2.0"] {
            op_dbus_btrfs::delete_subvolume(&layout.deployment(&version.parse().unwrap())).unwrap();
        }
    });
    let before = mounts();
    let report = device.boot();
    assert_eq!(report.outcome, Outcome::Rescue);
    assert_eq!(report.failures.len(), 3);
    let added: Vec<_> = mounts()
        .into_iter()
        .filter(|line| !before.contains(line))
        .collect();
    assert_eq!(added.len(), 1, "only the store: {added:?}");
    let again = device.reboot();
    assert_eq!(again.outcome, Outcome::Rescue);
}

#[test]
fn the_same_kernel_boot_gets_the_same_answer_and_no_second_mount() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    device.boot();
    let before = mounts();
    let again = device.boot();
    assert_eq!(again.slot, Some(Slot::Trial));
    assert_eq!(again.outcome, Outcome::Activated, "{again:?}");
    assert!(again.counted);
    assert_eq!(mounts(), before);
    // A soft reboot: the mounts of the host are gone, the boot id is the same.
    device.down();
    let soft = device.boot();
    assert_eq!(soft.slot, Some(Slot::Trial));
    device.assert_runs("v1.2.0");
    device.down();
    assert_eq!(device.read_record().trial.unwrap().tries_left, 2);
}

fn hosts_fault(device: &Device, part: &str) {
    let record = device.read_record();
    let report = device.boot();
    assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
    assert!(report.reason.contains(part), "{report:?}");
    assert!(!report.counted);
    device.down();
    assert_eq!(
        device.read_record(),
        record,
        "nothing was counted or blamed"
    );
}

#[test]
fn a_missing_mount_point_is_the_hosts_fault() {
    if !is_root() {
        return;
    }
    for point in ["/opt/op-dbus", "/usr/local/op-dbus"] {
        let device = Device::with_all();
        fs::remove_dir(device.layout.host(point)).unwrap();
        hosts_fault(&device, point);
    }
}

#[test]
fn something_else_on_a_mount_point_is_the_hosts_fault() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    let point = device.layout.host("/usr/local/op-dbus");
    nix::mount::mount(
        Some("tmpfs"),
        &point,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    let record = device.read_record();
    let report = device.boot();
    assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
    device.down();
    assert_eq!(device.read_record(), record);
}

#[test]
fn mount_points_behind_links_are_found_within_the_host() {
    if !is_root() {
        return;
    }
    let (device, _) = Device::with_good();
    let host = |path: &str| device.layout.host(path);
    fs::create_dir_all(host("/var/opt/op-dbus")).unwrap();
    fs::remove_dir_all(host("/opt")).unwrap();
    std::os::unix::fs::symlink("/var/opt", host("/opt")).unwrap();
    let report = device.boot();
    assert_eq!(report.outcome, Outcome::Activated, "{report:?}");
    let text = fs::read_to_string(host("/var/opt/op-dbus/bin/hello")).unwrap();
    assert_eq!(text, "v1.0.0");
    nix::mount::umount2(&host("/var/opt/op-dbus"), nix::mount::MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn a_rollback_is_tried_like_any_trial() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    device.record(|record: &mut Record| {
        let fallback = record.fallback.clone().unwrap();
        let mut trial = on_trial(fallback);
        trial.origin = Origin::Rollback;
        record.trial = Some(trial);
    });
    let report = device.boot();
    assert_eq!(report.slot, Some(Slot::Trial));
    device.assert_runs("v1.0.0");
}
