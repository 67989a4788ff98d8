//! Where a version's overlay comes from, and what happens without one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::PathBuf;

use op_dbus_activator::activation::{Activation, Outcome};
use op_dbus_activator::layout::Layout;
use op_dbus_activator::overlay::Begin;
use op_dbus_bootstate::Slot;
use op_dbus_bootstate::record::Origin;

mod common;
use common::{Device, is_root};

/// A file below the overlay's mount point.
fn over(device: &Device, name: &str) -> PathBuf {
    device.layout.host("/usr/local/op-dbus").join(name)
}

fn text(device: &Device, name: &str) -> Option<String> {
    fs::read_to_string(over(device, name)).ok()
}

fn overlays(layout: &Layout) -> Vec<String> {
    let entries = fs::read_dir(layout.overlays_dir()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// v1.1.0 (good) has run and holds a change; v1.2.0 is on trial.
fn with_change() -> Device {
    let mut device = Device::with_all();
    let trial = device.read_record().trial;
    device.record(|record| record.trial = None);
    device.boot();
    fs::write(over(&device, "setting"), "of good").unwrap();
    device.down();
    device.record(|record| {
        record.good_unblessed = 0;
        record.trial = trial;
    });
    device.next_boot();
    device
}

#[test]
fn changes_stay_with_a_version_and_come_along_to_its_trial() {
    if !is_root() {
        return;
    }
    let mut device = with_change();
    let report = device.boot();
    assert_eq!(report.slot, Some(Slot::Trial), "{report:?}");
    assert_eq!(text(&device, "setting").unwrap(), "of good");
    assert_eq!(text(&device, "bin/hello").unwrap(), "v1.2.0");
    fs::write(over(&device, "setting"), "of trial").unwrap();
    device.down();
    // Going back restores what good had.
    device.record(|record| record.trial = None);
    device.reboot();
    assert_eq!(text(&device, "setting").unwrap(), "of good");
    assert_eq!(text(&device, "bin/hello").unwrap(), "v1.1.0");
}

#[test]
fn a_trial_begins_anew_after_a_crash_and_goes_on_after_a_refund() {
    if !is_root() {
        return;
    }
    let mut device = with_change();
    let began = |report: &Activation| report.overlay.as_ref().unwrap().origin;
    assert_eq!(began(&device.boot()), Begin::Carried);
    // Two crashes: what the second left is kept, and the first one's goes.
    for number in [1, 2] {
        let changed = format!("of crashed try {number}");
        fs::write(over(&device, "setting"), changed).unwrap();
        assert_eq!(began(&device.reboot()), Begin::Carried);
        assert_eq!(text(&device, "setting").unwrap(), "of good");
    }
    fs::write(over(&device, "setting"), "of an orderly try").unwrap();
    device.down();
    device.record(|record| {
        record.last_boot.as_mut().unwrap().refunded = true;
        record.trial.as_mut().unwrap().tries_left = 1;
    });
    let report = device.reboot();
    assert_eq!(report.slot, Some(Slot::Trial));
    assert_eq!(began(&report), Begin::Kept);
    assert_eq!(text(&device, "setting").unwrap(), "of an orderly try");
    device.down();
    let left = ["v1.1.0", "v1.2.0", "v1.2.0.failed"];
    assert_eq!(device.offline(overlays), left);
    assert_eq!(discarded(&device), "of crashed try 2");
}

/// What the overlay of the trial holds that was set aside after a crash.
fn discarded(device: &Device) -> String {
    device.offline(|layout| {
        let failed = layout.overlays_dir().join("v1.2.0.failed/upper/setting");
        fs::read_to_string(failed).unwrap()
    })
}

#[test]
fn a_fresh_trial_begins_with_nothing_and_going_back_restores() {
    if !is_root() {
        return;
    }
    let mut device = with_change();
    device.configure("[overlay]\nmode = \"fresh\"\n");
    let began = |report: &Activation| report.overlay.as_ref().unwrap().origin;
    assert_eq!(began(&device.boot()), Begin::Empty);
    assert_eq!(text(&device, "setting"), None);
    fs::write(over(&device, "setting"), "of trial").unwrap();
    assert_eq!(began(&device.reboot()), Begin::Empty);
    assert_eq!(text(&device, "setting"), None);
    fs::write(over(&device, "setting"), "of a second try").unwrap();
    device.down();
    assert_eq!(discarded(&device), "of trial");
    device.record(|record| record.last_boot.as_mut().unwrap().refunded = true);
    assert_eq!(began(&device.reboot()), Begin::Kept);
    assert_eq!(text(&device, "setting").unwrap(), "of a second try");
    device.down();
    device.record(|record| record.trial = None);
    let report = device.reboot();
    assert_eq!(report.slot, Some(Slot::Good));
    assert_eq!(began(&report), Begin::Own);
    assert_eq!(text(&device, "setting").unwrap(), "of good");
}

#[test]
fn an_earlier_overlay_of_that_name_is_set_aside() {
    if !is_root() {
        return;
    }
    let device = with_change();
    // The third: the try before could make no overlay, for want of space.
    for (old, attempts) in [("first", 0), ("second", 0), ("third", 1)] {
        device.offline(|layout| {
            let version = "v1.2.0".parse().unwrap();
            if layout.overlay(&version).exists() {
                op_dbus_btrfs::delete_subvolume(&layout.overlay(&version)).unwrap();
            }
            op_dbus_btrfs::create_subvolume(&layout.overlay(&version)).unwrap();
            fs::create_dir(layout.upper(&version)).unwrap();
            fs::write(layout.upper(&version).join("setting"), old).unwrap();
        });
        device.record(|record| {
            record.last_boot = None;
            record.trial.as_mut().unwrap().attempts = attempts;
        });
        let report = device.boot();
        assert_eq!(report.degraded, Vec::<String>::new());
        assert_eq!(text(&device, "setting").unwrap(), "of good");
        device.down();
        device.offline(|layout| {
            assert_eq!(overlays(layout), ["v1.1.0", "v1.2.0", "v1.2.0.old"]);
            let kept = layout.overlays_dir().join("v1.2.0.old/upper/setting");
            assert_eq!(fs::read_to_string(kept).unwrap(), old);
        });
    }
}

#[test]
fn a_rollback_takes_up_the_overlay_of_its_own() {
    if !is_root() {
        return;
    }
    let mut device = with_change();
    device.record(|record| {
        let good = record.good.take().unwrap();
        record.good = record.fallback.take();
        let mut trial = common::on_trial(good);
        trial.origin = Origin::Rollback;
        record.trial = Some(trial);
    });
    let report = device.reboot();
    assert_eq!(report.slot, Some(Slot::Trial));
    assert_eq!(text(&device, "bin/hello").unwrap(), "v1.1.0");
    assert_eq!(text(&device, "setting").unwrap(), "of good");
}

#[test]
fn nothing_replaces_the_overlay_of_fallback_or_good() {
    if !is_root() {
        return;
    }
    for is_good in [false, true] {
        let mut device = with_change();
        let fallback = "v1.0.0".parse().unwrap();
        device.offline(|layout| {
            op_dbus_btrfs::create_subvolume(&layout.overlay(&fallback)).unwrap();
            fs::create_dir(layout.upper(&fallback)).unwrap();
            fs::write(layout.upper(&fallback).join("setting"), "of fallback").unwrap();
        });
        let (version, setting) = if is_good {
            ("v1.1.0", "of good")
        } else {
            ("v1.0.0", "of fallback")
        };
        // Staged as an upgrade, not rolled back to.
        device.record(|record| {
            let known = if is_good {
                record.good.clone()
            } else {
                record.fallback.clone()
            };
            record.trial = Some(common::on_trial(known.unwrap()));
        });
        // The second boot comes after a power cut.
        for _ in 0..2 {
            let report = device.reboot();
            assert_eq!(report.slot, Some(Slot::Trial));
            assert_eq!(text(&device, "bin/hello").unwrap(), version);
            assert_eq!(text(&device, "setting").unwrap(), setting);
        }
        device.down();
        assert_eq!(device.offline(overlays), ["v1.0.0", "v1.1.0"]);
    }
}

#[test]
fn leftovers_of_a_power_cut_are_cleared() {
    if !is_root() {
        return;
    }
    let device = with_change();
    device.offline(|layout| {
        let version = "v1.2.0".parse().unwrap();
        let hidden = layout.overlays_dir().join(".new-v1.2.0");
        op_dbus_btrfs::create_subvolume(&hidden).unwrap();
        fs::write(hidden.join("half"), "done").unwrap();
        op_dbus_btrfs::create_subvolume(&layout.overlay(&version)).unwrap();
        let good = "v1.1.0".parse().unwrap();
        fs::write(layout.upper(&good).join(".op-dbus-probe"), "").unwrap();
    });
    let report = device.boot();
    assert_eq!(report.degraded, Vec::<String>::new(), "{report:?}");
    assert_eq!(text(&device, "setting").unwrap(), "of good");
    assert!(over(&device, ".op-dbus-probe").symlink_metadata().is_err());
    device.down();
    device.offline(|layout| {
        assert_eq!(overlays(layout), ["v1.1.0", "v1.2.0", "v1.2.0.old"]);
    });
}

#[test]
fn probing_leaves_no_whiteout() {
    if !is_root() {
        return;
    }
    let (device, good) = Device::with_good();
    device.boot();
    device.down();
    device.offline(|layout| {
        let left = fs::read_dir(layout.upper(&good.version)).unwrap().count();
        assert_eq!(left, 0);
    });
}

/// Something done to an overlay while the device is down.
type Damage = fn(&std::path::Path);

#[test]
fn without_a_usable_overlay_the_version_runs_as_published() {
    if !is_root() {
        return;
    }
    let damages: [Damage; 3] = [
        |path| fs::write(path, "a file").unwrap(),
        |path| {
            op_dbus_btrfs::create_subvolume(path).unwrap();
            fs::write(path.join("upper"), "a file").unwrap();
        },
        |path| {
            op_dbus_btrfs::create_subvolume(path).unwrap();
            std::os::unix::fs::symlink("/tmp", path.join("upper")).unwrap();
        },
    ];
    for damage in damages {
        let (device, good) = Device::with_good();
        device.offline(|layout| damage(&layout.overlay(&good.version)));
        let report = device.boot();
        assert_eq!(report.outcome, Outcome::Activated, "{report:?}");
        assert_eq!(report.degraded, ["overlay-missing"]);
        assert_eq!(report.overlay, None);
        assert_eq!(report.failures, []);
        assert!(report.counted);
        device.assert_runs("v1.0.0");
        assert!(fs::write(over(&device, "new"), "x").is_err());
    }
}
