//! `prune`, `pin` and `unpin`: what goes, what stays and why.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use op_dbus_activator::overlay::{self, Origin};
use op_dbus_loopback::sh;
use serde_json::Value;

use crate::builder::Builder;
use crate::common::noise;
use crate::crash::halfway;
use crate::fixture::{Device, flip, names};

/// v1.0.0 is the fallback, v1.1.0 good and running; v1.2.0 to v1.5.0 are there as
/// well, so that of all only v1.2.0 goes.
pub(crate) fn with_versions() -> Option<(Device, Builder)> {
    let (mut device, builder) = Device::blessed()?;
    for version in ["v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0", "v1.5.0"] {
        receive(&device, &builder, version);
    }
    device.result(&["stage", "v1.1.0"], "on-trial");
    device.boot();
    device.result(&["bless"], "trial");
    Some((device, builder))
}

pub(crate) fn receive(device: &Device, builder: &Builder, version: &str) {
    let stream = builder.release(version, None);
    device.result(&["receive", &stream], "received");
}

/// Gives a version an overlay, as its boot does.
pub(crate) fn make_overlay(device: &Device, version: &str) {
    let version = version.parse().unwrap();
    let digest = op_dbus_bootstate::Digest([1; 32]);
    overlay::prepare(&device.layout, &version, &digest, &Origin::OWN).unwrap();
    fs::write(device.layout.upper(&version).join("mine"), "mine").unwrap();
}

/// The versions a result says are deleted.
pub(crate) fn deleted(value: &Value) -> Vec<&str> {
    let versions = value["versions"].as_array().unwrap().iter();
    versions
        .filter(|one| one["deleted"] == true)
        .map(|one| one["version"].as_str().unwrap())
        .collect()
}

/// Why a version stays, by a result.
pub(crate) fn kept(value: &Value, version: &str) -> Value {
    let mut versions = value["versions"].as_array().unwrap().iter();
    let found = versions.find(|one| one["version"] == version);
    found.unwrap_or_else(|| panic!("{version} in {value}"))["kept"].clone()
}

/// Nothing more to do, and everything that is there is sound.
#[track_caller]
pub(crate) fn all_is_well(device: &Device) {
    device.result(&["prune"], "nothing-to-do");
    device.result(&["verify", "--deep"], "sound");
    device.result(&["audit", "verify"], "sound");
    let status = device.status();
    assert_eq!(status["result"], "ok", "{status}");
    assert_eq!(names(&device.store("incoming")), [""; 0]);
    let versions = names(&device.store("deploy"));
    let papers: Vec<_> = versions
        .iter()
        .flat_map(|version| {
            [".deployment.json", ".json", ".json.asc"].map(|end| format!("{version}{end}"))
        })
        .collect();
    assert_eq!(names(&device.store("manifests")), papers);
}

#[test]
fn what_nothing_needs_goes_with_all_that_belongs_to_it() {
    let Some((device, builder)) = with_versions() else {
        return;
    };
    for version in ["v1.0.0", "v1.1.0", "v1.2.0"] {
        make_overlay(&device, version);
    }
    // What boots and killed runs leave.
    let overlay = |name: &str| device.store("overlays").join(name);
    for name in [
        "v0.9.0",
        "v1.1.0.old",
        "v1.2.0.old",
        "v1.2.0.failed",
        ".new-v1.3.0",
    ] {
        op_dbus_btrfs::create_subvolume(&overlay(name)).unwrap();
    }
    fs::create_dir(overlay("somebody-s")).unwrap();
    fs::create_dir(device.store("deploy/somebody-s")).unwrap();
    let published = device.store("deploy/v1.2.0");
    op_dbus_btrfs::snapshot(&published, &device.store("deploy/.v1.9.0.new"), true).unwrap();
    fs::create_dir(device.store("incoming/v1.9.0.1")).unwrap();
    fs::write(device.store("manifests/.v1.9.0.json.new"), "{").unwrap();

    let before = (device.snapshot(), names(&device.store("overlays")));
    let tried = device.result(&["prune", "--dry-run"], "dry-run");
    assert_eq!(deleted(&tried), [""; 0]);
    assert_eq!(kept(&tried, "v1.2.0"), serde_json::json!([]));
    assert_eq!(tried["leftovers"].as_array().unwrap().len(), 4, "{tried}");
    let after = (device.snapshot(), names(&device.store("overlays")));
    assert_eq!(after, before, "a dry run changes nothing");

    let pruned = device.result(&["prune"], "pruned");
    // Of v0.9.0 there was nothing but an overlay.
    assert_eq!(deleted(&pruned), ["v1.2.0", "v0.9.0"]);
    assert_eq!(kept(&pruned, "v1.0.0")[0], "fallback");
    assert_eq!(kept(&pruned, "v1.1.0")[0], "good");
    assert_eq!(kept(&pruned, "v1.1.0")[1], "running");
    assert_eq!(kept(&pruned, "v1.3.0"), serde_json::json!(["newest"]));
    assert_eq!(pruned["warnings"].as_array().unwrap().len(), 2, "{pruned}");
    assert_eq!(
        names(&device.store("overlays")),
        ["somebody-s", "v1.0.0", "v1.1.0", "v1.1.0.old"],
        "what was set aside stays as long as its version does"
    );
    fs::remove_dir(device.store("deploy/somebody-s")).unwrap();
    fs::remove_dir(overlay("somebody-s")).unwrap();
    assert_eq!(
        names(&device.store("deploy")),
        ["v1.0.0", "v1.1.0", "v1.3.0", "v1.4.0", "v1.5.0"]
    );
    all_is_well(&device);
    let log = device.json(&["audit", "log"]);
    let lines = log["lines"].as_array().unwrap();
    let pruned: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "pruned")
        .collect();
    assert_eq!(pruned.len(), 2);
    assert!(
        pruned
            .iter()
            .any(|line| line["version"] == "v1.2.0" && line["digest"].is_string())
    );

    // It may come again, and is none the worse.
    let again = builder.manifest("v1.2.0");
    device.result(&["receive", &again], "received");
    device.result(&["stage", "v1.2.0"], "on-trial");
    device.result(&["prune", "--keep", "1"], "pruned");
    assert_eq!(
        names(&device.store("deploy")),
        ["v1.0.0", "v1.1.0", "v1.2.0", "v1.5.0"],
        "the trial stays"
    );
}

#[test]
fn the_table_says_what_and_why() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    let text = device.run(&["prune", "--dry-run"]).done();
    for line in [
        "v1.5.0  kept: one of the newest",
        "v1.2.0  would go",
        "v1.1.0  kept: good, running",
        "v1.0.0  kept: fallback",
        "1 of 6 versions would go.",
    ] {
        assert!(
            text.lines().any(|found| found.starts_with(line)),
            "{line}: {text}"
        );
    }
    let text = device.run(&["prune"]).done();
    assert!(text.contains("v1.2.0  deleted"), "{text}");
    assert!(text.ends_with("1 of 6 versions deleted.\n"), "{text}");
}

#[test]
fn a_dry_run_says_what_each_version_would_free() {
    let Some((device, builder)) = Device::blessed() else {
        return;
    };
    // Deltas share what did not change: of v1.1.0 only this file is its own, and
    // what it adds to its overlay.
    let mine = |value: &Value, version: &str| {
        let mut versions = value["versions"].as_array().unwrap().iter();
        let found = versions.find(|one| one["version"] == version).unwrap();
        found["exclusive_bytes"].as_u64().unwrap()
    };
    fs::write(builder.tree("work/new"), noise(1 << 20)).unwrap();
    let stream = builder.release("v1.1.0", Some("v1.0.0"));
    device.result(&["receive", &stream], "received");
    // The snapshot it was received into shares everything until it is freed.
    let give_up = Instant::now() + Duration::from_secs(60);
    let mut sizes = device.json(&["prune", "--dry-run"]);
    while mine(&sizes, "v1.1.0") == 0 && Instant::now() < give_up {
        op_dbus_btrfs::free_deleted(&device.layout.store).unwrap();
        sizes = device.json(&["prune", "--dry-run"]);
    }
    assert_eq!(mine(&sizes, "v1.1.0"), 1 << 20, "{sizes}");
    assert_eq!(mine(&sizes, "v1.0.0"), 0, "{sizes}");
    make_overlay(&device, "v1.1.0");
    fs::write(device.store("overlays/v1.1.0/upper/more"), noise(512 << 10)).unwrap();
    op_dbus_btrfs::sync_filesystem(&device.layout.store).unwrap();
    let sizes = device.json(&["prune", "--dry-run"]);
    assert_eq!(mine(&sizes, "v1.1.0"), 3 << 19, "{sizes}");
    let text = device.run(&["prune", "--dry-run"]).done();
    assert!(
        text.contains("v1.1.0  kept: one of the newest, 1.50 MiB of its own"),
        "{text}"
    );
}

#[test]
fn a_pinned_version_stays_until_it_is_unpinned() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    device
        .run(&["pin", "v7.0.0"])
        .failed(7, "is not in the store");
    device.run(&["pin", "x"]).failed(2, "version name");
    device.result(&["unpin", "v1.2.0"], "nothing-to-do");
    device.result(&["pin", "v1.2.0"], "pinned");
    device.result(&["pin", "v1.2.0"], "already");
    let status = device.status();
    assert_eq!(status["pins"], serde_json::json!(["v1.2.0"]));
    let text = device.run(&["status"]).done();
    assert!(
        text.lines()
            .any(|line| line.contains("v1.2.0  ") && line.ends_with(", pinned")),
        "{text}"
    );
    let pruned = device.result(&["prune", "--keep", "1"], "pruned");
    assert_eq!(deleted(&pruned), ["v1.4.0", "v1.3.0"]);
    assert_eq!(kept(&pruned, "v1.2.0"), serde_json::json!(["pinned"]));
    device.result(&["unpin", "v1.2.0"], "unpinned");
    let pruned = device.result(&["prune", "--keep", "1"], "pruned");
    assert_eq!(deleted(&pruned), ["v1.2.0"]);
    let log = device.json(&["audit", "log"]).to_string();
    assert!(
        log.contains("\"pinned\"") && log.contains("\"unpinned\""),
        "{log}"
    );
    all_is_well(&device);
}

#[test]
fn quarantined_and_altered_versions_take_no_place_among_the_newest() {
    let Some((mut device, _builder)) = with_versions() else {
        return;
    };
    device.result(&["stage", "v1.5.0"], "on-trial");
    device.boot();
    device.result(&["condemn"], "condemned");
    // It runs on until the reboot.
    let tried = device.result(&["prune", "--dry-run", "--keep", "1"], "dry-run");
    assert_eq!(kept(&tried, "v1.5.0"), serde_json::json!(["running"]));
    device.boot();
    let altered = device.store("deploy/v1.4.0");
    op_dbus_btrfs::set_read_only(&altered, false).unwrap();
    let pruned = device.result(&["prune", "--keep", "1"], "pruned");
    assert_eq!(deleted(&pruned), ["v1.5.0", "v1.4.0", "v1.2.0"]);
    assert_eq!(kept(&pruned, "v1.3.0"), serde_json::json!(["newest"]));
    all_is_well(&device);
}

#[test]
fn a_full_disk_gets_room_again() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    let filler = device.store("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let block = noise(64 << 10);
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    let _ = file.sync_all();
    let probe = device.store("probe");
    assert!(fs::write(&probe, &block).is_err(), "the disk is full");
    // A pin is possible all the same.
    device.result(&["pin", "v1.3.0"], "pinned");
    device.result(&["unpin", "v1.3.0"], "unpinned");
    let pruned = device.result(&["prune", "--keep", "1"], "pruned");
    assert_eq!(deleted(&pruned), ["v1.4.0", "v1.3.0", "v1.2.0"]);
    // There was room for the log by then.
    let log = device.json(&["audit", "log"]);
    let lines = log["lines"].as_array().unwrap().iter();
    assert_eq!(lines.filter(|line| line["event"] == "pruned").count(), 3);
    // What was deleted is gone for good, and its space is there.
    op_dbus_btrfs::sync_filesystem(&device.layout.store).unwrap();
    fs::write(&probe, &block).unwrap();
    fs::remove_file(probe).unwrap();
    drop(file);
    fs::remove_file(filler).unwrap();
    device.result(&["prune"], "nothing-to-do");
    device.result(&["verify", "--deep"], "sound");
    device.result(&["audit", "verify"], "sound");
}

#[test]
fn nothing_goes_while_nobody_knows_what_is_needed() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    let copies = ["boot/record.0", "boot/record.1", "boot/record.blessed"];
    let kept: Vec<_> = copies
        .iter()
        .map(|copy| fs::read(device.store(copy)).unwrap())
        .collect();
    let deploy = names(&device.store("deploy"));
    // Both, then all three.
    for lost in [2, 3] {
        for copy in &copies[..lost] {
            fs::write(device.store(copy), [0; 4096]).unwrap();
        }
        for args in [&["prune"][..], &["prune", "--dry-run"]] {
            device
                .run(args)
                .failed(10, "nobody knows what the next boot needs");
        }
        assert_eq!(names(&device.store("deploy")), deploy);
    }
    for (copy, content) in copies.iter().zip(&kept) {
        fs::write(device.store(copy), content).unwrap();
    }
    // What this boot runs can't be read either.
    let activation = fs::read(device.layout.activation()).unwrap();
    fs::write(device.layout.activation(), "{").unwrap();
    device.run(&["prune"]).failed(1, "activation.json");
    fs::write(device.layout.activation(), activation).unwrap();
    // One copy of the record is enough, and it does not stay alone.
    flip(&device.store("boot/record.0"), 40);
    let pruned = device.result(&["prune"], "pruned");
    assert_eq!(deleted(&pruned), ["v1.2.0"]);
    assert_eq!(device.status()["record"]["state"], "intact");
    all_is_well(&device);
}

/// After a power cut between a bless and its copy, that copy is one bless old; a
/// device that then loses the other two copies boots by it.
#[test]
fn what_the_record_of_the_last_bless_names_stays() {
    let Some((mut device, _builder)) = with_versions() else {
        return;
    };
    let blessed = fs::read(device.store("boot/record.blessed")).unwrap();
    device.result(&["stage", "v1.5.0"], "on-trial");
    device.boot();
    device.result(&["bless"], "trial");
    fs::write(device.store("boot/record.blessed"), blessed).unwrap();
    let pruned = device.result(&["prune", "--keep", "1"], "pruned");
    assert_eq!(kept(&pruned, "v1.0.0"), serde_json::json!(["last-bless"]));
    assert_eq!(deleted(&pruned), ["v1.4.0", "v1.3.0", "v1.2.0"]);
    for copy in ["boot/record.0", "boot/record.1"] {
        fs::write(device.store(copy), [0; 4096]).unwrap();
    }
    assert_eq!(device.boot(), "good v1.1.0");
}

#[test]
fn bad_arguments_and_places_are_refused() {
    let Some((device, builder)) = with_versions() else {
        return;
    };
    device.run(&["prune", "--keep", "0"]).failed(2, "--keep");
    device.run(&["prune", "v1.2.0"]).failed(2, "v1.2.0");
    device
        .run(&["prune", "--build", "/x"])
        .failed(2, "--source");
    let elsewhere = device.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    device
        .run(&["prune", "--store", elsewhere.to_str().unwrap()])
        .failed(5, "not a Btrfs subvolume");
    // A foreign subvolume in a version's place is nobody's to delete.
    op_dbus_btrfs::create_subvolume(&device.store("deploy/v0.1.0")).unwrap();
    let pruned = device.result(&["prune"], "pruned");
    assert_eq!(deleted(&pruned), ["v1.2.0"]);
    assert_eq!(kept(&pruned, "v0.1.0"), serde_json::json!(["foreign"]));

    // A receive builds on versions: it is waited for.
    fs::write(builder.tree("work/big"), noise(2 << 20)).unwrap();
    let release = builder.publish("v1.6.0", &[None]);
    let mut running = halfway(&device, &release);
    let holder = format!("held by op-dbus-stage (process {})", running.child.id());
    device.run(&["prune"]).failed(6, &holder);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let pruned = device.result(&["prune"], "pruned");
    assert_eq!(pruned["leftovers"].as_array().unwrap().len(), 1, "{pruned}");
    assert_eq!(names(&device.store("incoming")), [""; 0]);
    assert_nothing_mounted_is_left(&device.store("deploy"));
}

/// The tests look at mounts by `mountinfo`; so must this.
fn assert_nothing_mounted_is_left(dir: &Path) {
    let mounts = sh("cat", &["/proc/thread-self/mountinfo"]);
    assert!(!mounts.contains(dir.to_str().unwrap()), "{mounts}");
}
