//! Restoring, and what stands in its way.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::create::{overlay, used};
use super::story::backup;
use super::trees::describe;
use crate::builder::Builder;
use crate::fixture::{Device, flip, names};
use crate::keys::keys;

/// Where a builder publishes.
fn releases(builder: &Builder) -> PathBuf {
    let manifest = builder.manifest("v1.0.0");
    Path::new(&manifest).parent().unwrap().to_owned()
}

/// A backup of a device with v1.1.0 good, v1.0.0 fallback, v1.2.0 on trial.
pub(super) fn full() -> Option<(Device, Builder, PathBuf)> {
    let (mut device, builder) = used()?;
    let second = builder.release("v1.1.0", Some("v1.0.0"));
    let third = builder.release("v1.2.0", None);
    device.result(&["receive", &second], "received");
    device.result(&["stage", "v1.1.0"], "on-trial");
    device.boot();
    device.result(&["bless"], "trial");
    overlay(&device, "v1.1.0");
    overlay(&device, "v1.1.0.failed");
    device.result(&["receive", &third], "received");
    device.result(&["stage", "v1.2.0"], "on-trial");
    device.boot();
    let file = device.path("b");
    backup(&device, &file);
    Some((device, builder, file))
}

fn restore(device: &Device, file: &Path, more: &[&str]) -> crate::common::Ended {
    device.run(&[&["restore", file.to_str().unwrap()], more].concat())
}

#[test]
fn all_three_roles_come_back_with_their_counts() {
    let Some((mut device, builder, file)) = full() else {
        return;
    };
    let releases = releases(&builder);
    let other = Device::new().unwrap();
    let before = other.record();
    let text = restore(&other, &file, &["--releases", releases.to_str().unwrap()]).done();
    assert!(
        text.contains("v1.2.0 (trial)") && text.contains("overlays/v1.1.0.failed"),
        "{text}"
    );
    let (then, now) = (device.record(), other.record());
    let (trial, restored) = (then.trial.unwrap(), now.trial.unwrap());
    assert_eq!(restored.tries_left, trial.tries_left);
    assert_eq!(restored.attempts, trial.attempts);
    assert_eq!(
        (now.last_boot, now.attempts),
        (then.last_boot, then.attempts)
    );
    assert!(now.sequence > before.sequence);
    for name in ["v1.0.0", "v1.1.0", "v1.1.0.failed"] {
        let at = |device: &Device| describe(&device.store("overlays").join(name).join("upper"));
        assert_eq!(at(&device), at(&other), "{name}");
    }
    // All of it again: nothing to do, and nothing done.
    let settled = other.snapshot();
    let args = [
        "restore",
        file.to_str().unwrap(),
        "--releases",
        releases.to_str().unwrap(),
    ];
    other.result(&args, "already-restored");
    assert_eq!(other.snapshot(), settled);
    // Once something has happened, it is a device like any other: a boot, which no
    // log has yet.
    let mut other = other;
    other.boot();
    other.run(&args).failed(8, "the device is in use");
    device.run(&args).failed(8, "the device is in use");
    device.boot();
}

#[test]
fn a_release_that_is_missing_is_named_and_nothing_is_restored() {
    let Some((_device, builder, file)) = full() else {
        return;
    };
    let other = Device::new().unwrap();
    let before = other.snapshot();
    restore(&other, &file, &[]).failed(7, "v1.1.0.from-v1.0.0.btrfs.zst (on top of v1.0.0)");
    let some = other.path("some");
    fs::create_dir(&some).unwrap();
    let bring = |name: &str| fs::copy(releases(&builder).join(name), some.join(name)).unwrap();
    let with = ["--releases", some.to_str().unwrap()];
    for file in [
        "v1.1.0.json",
        "v1.1.0.json.asc",
        "v1.1.0.from-v1.0.0.btrfs.zst",
    ] {
        bring(file);
    }
    // The delta is there, and what it builds on is not.
    restore(&other, &file, &with).failed(7, "v1.0.0 (fallback): needs v1.0.0.json");
    restore(&other, &file, &[&with[..], &["--partial"]].concat()).failed(7, "nothing was restored");
    assert_eq!(other.snapshot(), before);
    for file in ["v1.0.0.json", "v1.0.0.json.asc"] {
        bring(file);
    }
    restore(&other, &file, &with).failed(7, "v1.0.0.btrfs.zst");
    // Another build of the same name.
    let foreign = Builder::new();
    foreign.release("v1.2.0", None);
    let elsewhere = self::releases_of(&foreign, "v1.2.0");
    let two = [&with[..], &["--releases", elsewhere.to_str().unwrap()]].concat();
    restore(&other, &file, &two).failed(7, "is of another build");
    assert_eq!(other.snapshot(), before);

    // What there is, and the rest later.
    bring("v1.0.0.btrfs.zst");
    let partial = [&with[..], &["--partial", "--json"]].concat();
    let args = [&["restore", file.to_str().unwrap()], &partial[..]].concat();
    let restored = other.run(&args).json(&args);
    assert_eq!(restored["missing"], json!(["v1.2.0"]));
    assert_eq!(
        other.record().trial.unwrap().deployment.version.as_str(),
        "v1.2.0"
    );
    let third = builder.manifest("v1.2.0");
    other.result(&["receive", &third], "received");
    let mut other = other;
    assert_eq!(other.boot(), "trial v1.2.0", "whole again");
}

fn releases_of(builder: &Builder, version: &str) -> PathBuf {
    let manifest = builder.manifest(version);
    Path::new(&manifest).parent().unwrap().to_owned()
}

#[test]
fn keys_are_trusted_at_a_word_and_never_because_they_are_in_a_backup() {
    let Some((_device, builder, file)) = full() else {
        return;
    };
    let other = Device::bare(256).unwrap();
    other
        .run(&["prepare", "--device", other.disk.node()])
        .done();
    let releases = releases(&builder);
    let with = ["--releases", releases.to_str().unwrap()];
    let shown = other.result(&["backup", "show", file.to_str().unwrap()], "shown");
    let fingerprint = shown["keys"][0]["fingerprints"][0].as_str().unwrap();
    restore(&other, &file, &with).failed(3, fingerprint);
    let unknown = "A".repeat(40);
    let wrong = [&with[..], &["--trust-key", &unknown]].concat();
    restore(&other, &file, &wrong).failed(3, fingerprint);
    assert!(names(&other.path("root/etc/op-dbus/keys.d")).is_empty());
    // As people write it.
    let grouped: Vec<_> = fingerprint
        .as_bytes()
        .chunks(4)
        .map(|part| std::str::from_utf8(part).unwrap())
        .collect();
    let grouped = grouped.join(" ").to_lowercase();
    restore(
        &other,
        &file,
        &[&with[..], &["--trust-key", &grouped]].concat(),
    )
    .done();
    assert_eq!(
        names(&other.path("root/etc/op-dbus/keys.d")),
        ["release.asc"]
    );
    // Signed by a key the device does not trust.
    let strict = Device::bare(256).unwrap();
    let key = keys().export("other", &strict.path("other.asc"));
    strict
        .run(&["prepare", "--device", strict.disk.node(), "--key", &key])
        .done();
    restore(&strict, &file, &with).failed(9, "");
    assert!(names(&strict.store("deploy")).is_empty());
}

#[test]
fn the_configuration_comes_at_a_word_and_leaves_the_store_where_it_is() {
    let Some((device, builder, _)) = full() else {
        return;
    };
    let own = fs::read_to_string(device.layout.config()).unwrap();
    let place = "\nkeys = \"/etc/elsewhere\"\n";
    let own = own.replacen("\n[receive]\n", &format!("\n[receive]{place}"), 1);
    fs::rename(
        device.path("root/etc/op-dbus/keys.d"),
        device.path("root/etc/elsewhere"),
    )
    .unwrap();
    let text = format!("{own}\n[health]\ntimeout_seconds = 77\n");
    fs::write(device.layout.config(), &text).unwrap();
    let file = device.path("b2");
    backup(&device, &file);
    let releases = releases(&builder);
    let args = [
        "restore",
        file.to_str().unwrap(),
        "--releases",
        releases.to_str().unwrap(),
    ];

    let other = Device::new().unwrap();
    let before = fs::read_to_string(other.layout.config()).unwrap();
    assert_eq!(other.result(&args, "restored")["configuration"], "differs");
    assert_eq!(fs::read_to_string(other.layout.config()).unwrap(), before);

    let other = Device::new().unwrap();
    let before = fs::read_to_string(other.layout.config()).unwrap();
    let with = [&args[..], &["--configuration"]].concat();
    // By the rules of the configuration that is going to be.
    other
        .run(&with)
        .failed(3, "etc/elsewhere: holds no release key");
    assert_eq!(fs::read_to_string(other.layout.config()).unwrap(), before);
    keys().export("release", &other.path("root/etc/elsewhere.asc"));
    fs::create_dir(other.path("root/etc/elsewhere")).unwrap();
    fs::rename(
        other.path("root/etc/elsewhere.asc"),
        other.path("root/etc/elsewhere/r.asc"),
    )
    .unwrap();
    let restored = other.result(&with, "restored");
    assert!(!other.path("run/op-dbus/restore.toml").exists());
    assert_eq!(restored["configuration"], "installed");
    let after = fs::read_to_string(other.layout.config()).unwrap();
    let device_of = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("device"))
            .unwrap()
            .to_owned()
    };
    assert_eq!(device_of(&after), device_of(&before));
    assert!(after.contains("timeout_seconds = 77"), "{after}");
    let kept = other.path("root/etc/op-dbus/deploy.toml.before-restore");
    assert_eq!(fs::read_to_string(kept).unwrap(), before);
}

#[test]
fn the_log_goes_on_and_tells_the_truth() {
    let Some((device, builder, file)) = full() else {
        return;
    };
    let log = fs::read(device.store("audit/log.jsonl")).unwrap();
    let other = Device::new().unwrap();
    let with = releases(&builder);
    restore(&other, &file, &["--releases", with.to_str().unwrap()]).done();
    let verified = other.result(&["audit", "verify"], "sound");
    let kept = verified["kept"][0]["file"].as_str().unwrap().to_owned();
    let kept = other.store("audit").join(kept);
    assert_eq!(fs::read(&kept).unwrap(), log);
    let lines = other.json(&["audit", "log"]);
    let events: Vec<_> = lines["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        [
            "prepared", "received", "received", "received", "restored", "restored", "restored"
        ]
    );
    flip(&kept, 10);
    other.run(&["audit", "verify"]).failed(9, "was changed");
    flip(&kept, 10);
    let aside = other.path("aside");
    fs::copy(&kept, &aside).unwrap();
    fs::remove_file(&kept).unwrap();
    other.run(&["audit", "verify"]).failed(9, "is gone");
    fs::copy(&aside, &kept).unwrap();
    other.result(&["audit", "verify"], "sound");

    // A backup of the restored device, restored in turn.
    let again = other.path("again");
    backup(&other, &again);
    let third = Device::new().unwrap();
    restore(&third, &again, &["--releases", with.to_str().unwrap()]).done();
    let verified = third.result(&["audit", "verify"], "sound");
    assert_eq!(verified["kept"].as_array().unwrap().len(), 2, "{verified}");

    // Should every copy of the record be lost, the restored versions are known.
    for copy in ["record.0", "record.1", "record.blessed"] {
        fs::write(third.store("boot").join(copy), [0; 4096]).unwrap();
    }
    third.result(&["cancel"], "nothing-to-do");
    assert_eq!(third.status()["good"]["version"], "v1.1.0");
}

#[test]
fn a_backup_without_a_record_goes_by_its_log() {
    let Some((device, builder, _)) = full() else {
        return;
    };
    for copy in ["record.0", "record.1", "record.blessed"] {
        fs::write(device.store("boot").join(copy), [7; 4096]).unwrap();
    }
    let file = device.path("lost");
    let made = device.run(&["backup", "create", file.to_str().unwrap()]);
    assert!(
        made.stderr.contains("warning: the boot record is missing"),
        "{made:?}"
    );
    let other = Device::new().unwrap();
    let with = releases(&builder);
    restore(&other, &file, &["--releases", with.to_str().unwrap()]).done();
    let record = other.record();
    assert_eq!(record.good.unwrap().version.as_str(), "v1.1.0");
    assert_eq!(record.fallback.unwrap().version.as_str(), "v1.0.0");
}

#[test]
fn what_is_there_already_is_not_replaced() {
    let Some((_device, builder, file)) = full() else {
        return;
    };
    let other = Device::new().unwrap();
    let with = releases(&builder);
    let with = ["--releases", with.to_str().unwrap()];
    overlay(&other, "v9.0.0");
    restore(&other, &file, &with).failed(8, "overlays/v9.0.0 is there already");
    op_dbus_btrfs::delete_subvolume(&other.store("overlays/v9.0.0")).unwrap();
    fs::create_dir_all(other.store("shared/x/y")).unwrap();
    restore(&other, &file, &with).failed(8, "shared/x is there already");
    fs::remove_dir(other.store("shared/x/y")).unwrap();
    // A damaged backup changes nothing at all.
    let before = other.snapshot();
    let damaged = other.path("damaged");
    fs::copy(&file, &damaged).unwrap();
    flip(&damaged, file.metadata().unwrap().len() / 2);
    restore(&other, &damaged, &with).failed(9, "backup");
    assert_eq!(other.snapshot(), before);
    // A version that was received by hand is no obstacle.
    other.result(&["receive", &builder.manifest("v1.0.0")], "received");
    restore(&other, &file, &with).done();
}
