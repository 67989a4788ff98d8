//! Lost records, and media that are full, read-only or absent.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::time::{Duration, Instant};

use op_dbus_activator::activation::{Outcome, RecordState};
use op_dbus_bootstate::Slot;
use op_dbus_bootstate::codec::{self, BLOCK};
use op_dbus_bootstate::store::Copy;

mod common;
use common::{Device, is_root, log_blessed, sh, wipe};

#[test]
fn one_lost_copy_is_mended_and_nothing_else_changes() {
    if !is_root() {
        return;
    }
    for copy in [Copy::Zero, Copy::One] {
        let mut device = Device::with_all();
        device.offline(|layout| wipe(layout, &[copy]));
        let report = device.boot();
        assert_eq!(report.slot, Some(Slot::Trial));
        assert_eq!(report.record.state, RecordState::OneCopy);
        assert!(report.record.repaired);
        assert_eq!(device.reboot().record.state, RecordState::Intact);
    }
}

#[test]
fn both_lost_copies_are_rebuilt_from_the_blessed_one_without_its_trial() {
    if !is_root() {
        return;
    }
    let mut device = Device::with_all();
    device.offline(|layout| wipe(layout, &[Copy::Zero, Copy::One]));
    let report = device.boot();
    assert_eq!(report.slot, Some(Slot::Good));
    assert_eq!(report.record.state, RecordState::RebuiltBlessed);
    assert!(report.record.repaired);
    device.assert_runs("v1.1.0");
    assert_eq!(device.reboot().record.state, RecordState::Intact);
}

#[test]
fn all_lost_copies_are_rebuilt_from_what_proved_itself_and_is_intact() {
    if !is_root() {
        return;
    }
    let mut device = Device::new();
    let [first, second, third] = ["v1.0.0", "v1.1.0", "v1.2.0"].map(|name| device.publish(name));
    device.offline(|layout| {
        log_blessed(layout, &[&first, &second, &third]);
        op_dbus_btrfs::delete_subvolume(&layout.deployment(&third.version)).unwrap();
        wipe(layout, &Copy::ALL);
    });
    let report = device.boot();
    assert_eq!(
        report.record.state,
        RecordState::RebuiltHistory,
        "{report:?}"
    );
    assert!(report.record.repaired && report.counted);
    device.assert_runs("v1.1.0");
    assert_eq!(device.reboot().record.state, RecordState::Intact);
    device.down();
    let record = device.read_record();
    assert_eq!(
        record.fallback.map(|found| found.version),
        Some(first.version)
    );
    assert_eq!(record.audit.length, 3);
}

#[test]
fn nothing_left_to_rebuild_from_is_rescue() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    device.offline(|layout| {
        wipe(layout, &Copy::ALL);
        fs::remove_dir(layout.overlays_dir()).unwrap();
    });
    let report = device.boot();
    assert_eq!(report.outcome, Outcome::Rescue, "{report:?}");
    assert_eq!(report.record.state, RecordState::Missing);
    assert!(report.reason.contains("op-dbus-stage prepare"));
    device.cmdline("op-dbus.select=v1.1.0");
    let named = device.boot();
    assert_eq!(named.slot, Some(Slot::Named), "{named:?}");
    assert!(!named.counted);
    device.assert_runs("v1.1.0");
}

#[test]
fn a_newer_format_is_left_alone_and_good_runs_uncounted() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    let newer = device.offline(|layout| {
        let mut block = fs::read(layout.record(Copy::Zero)).unwrap();
        block[8..12].copy_from_slice(&(codec::FORMAT + 1).to_le_bytes());
        let crc = crc32fast::hash(&block[..BLOCK - 4]);
        block[BLOCK - 4..].copy_from_slice(&crc.to_le_bytes());
        for copy in [Copy::Zero, Copy::One] {
            fs::write(layout.record(copy), &block).unwrap();
        }
        block
    });
    let report = device.boot();
    assert_eq!(report.record.state, RecordState::NewerFormat);
    assert_eq!(report.slot, Some(Slot::Good), "{report:?}");
    assert!(!report.counted);
    assert!(report.degraded.contains(&"not-counted".to_owned()));
    device.assert_runs("v1.1.0");
    device.down();
    device.offline(|layout| {
        for copy in [Copy::Zero, Copy::One] {
            assert_eq!(fs::read(layout.record(copy)).unwrap(), newer);
        }
    });
}

/// Every mode, with a path that is shared.
const MODES: [&str; 2] = ["carry", "fresh"];

/// Sets the mode, and shares a path.
fn overlay_mode(device: &Device, mode: &str) {
    device.configure(&format!(
        "[overlay]\nmode = \"{mode}\"\nshared_paths = [\"state\"]\n"
    ));
    device.offline(|layout| {
        fs::create_dir(layout.shared_dir()).unwrap();
        op_dbus_btrfs::create_subvolume(&layout.shared("state")).unwrap();
        fs::write(layout.shared("state").join("file"), "shared").unwrap();
    });
}

#[track_caller]
fn assert_shared(device: &Device) {
    let file = device.layout.host("/usr/local/op-dbus/state/file");
    assert_eq!(fs::read_to_string(file).unwrap(), "shared");
}

#[test]
fn a_store_without_writes_runs_good_uncounted_with_its_earlier_changes() {
    if !is_root() {
        return;
    }
    for mode in MODES {
        let device = Device::with_all();
        overlay_mode(&device, mode);
        boot_without_writes(device);
    }
}

fn boot_without_writes(mut device: Device) {
    device.record(|record| record.trial = None);
    device.boot();
    fs::write(device.layout.host("/usr/local/op-dbus/kept"), "x").unwrap();
    device.down();
    device.record(|record| {
        let version = "v1.2.0".parse().unwrap();
        let mut trial = common::on_trial(record.good.clone().unwrap());
        trial.deployment.version = version;
        trial.deployment.digest.0[0] = 0;
        record.trial = Some(trial);
    });
    device.detach();
    device.attach(&["--read-only"]);
    let report = device.reboot();
    assert_eq!(report.slot, Some(Slot::Good), "{report:?}");
    assert!(!report.counted);
    for word in ["store-read-only", "overlay-read-only", "not-counted"] {
        assert!(report.degraded.contains(&word.to_owned()), "{report:?}");
    }
    device.assert_runs("v1.1.0");
    let kept = device.layout.host("/usr/local/op-dbus/kept");
    assert_eq!(fs::read_to_string(kept).unwrap(), "x");
    assert!(fs::write(device.layout.host("/usr/local/op-dbus/new"), "x").is_err());
    assert_shared(&device);
}

/// Writes until nothing more fits, in large files and then in small ones.
fn fill(device: &Device) {
    device.offline(|layout| {
        let dir = layout.store.join("filling");
        fs::create_dir(&dir).unwrap();
        for size in [1 << 20, 1 << 16, 4096, 100] {
            for number in 0..4000 {
                if fs::write(dir.join(format!("{size}-{number}")), vec![1; size]).is_err() {
                    break;
                }
            }
            let _ = op_dbus_btrfs::sync_filesystem(&dir);
        }
    });
}

/// A trial boots twice on a store that was filled: its overlay comes from
/// good's, then again after a crash. Returns what was degraded.
fn boot_full(mut device: Device) -> Vec<String> {
    let trial = device.read_record().trial;
    device.record(|record| record.trial = None);
    device.boot();
    fs::write(device.layout.host("/usr/local/op-dbus/kept"), "x").unwrap();
    device.down();
    device.record(|record| record.trial = trial);
    fill(&device);
    let mut degraded = Vec::new();
    for _ in 0..2 {
        let report = device.reboot();
        assert_eq!(report.outcome, Outcome::Activated, "{report:?}");
        assert_eq!(report.failures, []);
        assert!(report.counted, "records are rewritten in place: {report:?}");
        assert_eq!(report.slot, Some(Slot::Trial));
        device.assert_runs("v1.2.0");
        let written = fs::write(device.layout.host("/usr/local/op-dbus/x"), vec![1; 1 << 20]);
        assert!(written.is_err(), "the store is full");
        degraded.extend(report.degraded);
    }
    degraded
}

#[test]
fn a_full_store_is_no_activation_error() {
    if !is_root() {
        return;
    }
    // Metadata has room of its own: snapshots and new names still work.
    for mode in MODES {
        let device = Device::with_all();
        overlay_mode(&device, mode);
        assert_eq!(boot_full(device), Vec::<String>::new(), "{mode}");
    }
}

#[test]
fn a_store_without_room_for_metadata_is_no_activation_error() {
    if !is_root() {
        return;
    }
    // Data and metadata share their room here, so both run out.
    let device = Device::made_with(&["-M"]).publish_all();
    assert_eq!(boot_full(device), ["overlay-missing", "overlay-missing"]);
    for mode in MODES {
        let device = Device::made_with(&["-M"]).publish_all();
        overlay_mode(&device, mode);
        // Without an overlay there is no place for what is shared either.
        let words = ["overlay-missing", "shared-path-missing"];
        assert_eq!(boot_full(device), [words, words].concat(), "{mode}");
    }
}

#[test]
fn a_store_whose_superblock_the_root_made_read_only_is_writable_again() {
    if !is_root() {
        return;
    }
    let (device, _) = Device::with_good();
    let root = device.path("top");
    device.mount(&root, "subvolid=5", true);
    let report = device.boot();
    assert_eq!(report.degraded, Vec::<String>::new(), "{report:?}");
    assert!(report.counted);
    assert!(
        fs::write(root.join("x"), "x").is_err(),
        "the root stays read-only"
    );
    device.down();
    common::unmount(&root);
}

#[test]
fn a_missing_device_is_waited_for_and_then_told() {
    if !is_root() {
        return;
    }
    let (device, _) = Device::with_good();
    let other = "00000000-1111-2222-3333-444444444444";
    let text = format!("[store]\ndevice = \"UUID={other}\"\nwait_seconds = 1\n");
    fs::write(device.layout.config(), text).unwrap();
    let began = Instant::now();
    let report = device.boot();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.reason.contains(other) && report.reason.contains("did not appear within 1 s"));
    assert_eq!(report.record.state, RecordState::Unreadable);
}

#[test]
fn a_device_that_appears_late_is_in_time() {
    if !is_root() {
        return;
    }
    let (mut device, _) = Device::with_good();
    device.configure("");
    let text = fs::read_to_string(device.layout.config()).unwrap();
    fs::write(
        device.layout.config(),
        text.replace("wait_seconds = 0", "wait_seconds = 20"),
    )
    .unwrap();
    device.detach();
    let image = device.path("image").to_str().unwrap().to_owned();
    let attach = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        sh("losetup", &["--find", "--show", &image])
    });
    let report = device.boot();
    device.node = attach.join().unwrap();
    assert_eq!(report.outcome, Outcome::Activated, "{report:?}");
}

#[test]
fn what_is_no_store_is_told_apart() {
    if !is_root() {
        return;
    }
    let (device, _) = Device::with_good();
    device.configure("subvolume = \"@none\"\n");
    let report = device.boot();
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(
        report.reason.contains("no subvolume \"@none\""),
        "{report:?}"
    );

    let blank = device.path("blank");
    fs::write(&blank, vec![0; 1 << 20]).unwrap();
    let other = sh("losetup", &["--find", "--show", blank.to_str().unwrap()]);
    let text = format!("[store]\ndevice = \"{other}\"\nwait_seconds = 0\n");
    fs::write(device.layout.config(), text).unwrap();
    let report = device.boot();
    sh("losetup", &["-d", &other]);
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.reason.contains("holds no Btrfs"), "{report:?}");
}
