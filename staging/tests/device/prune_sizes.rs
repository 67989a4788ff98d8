//! What a dry run says of bytes, held against what is freed.

use std::fs;

use op_dbus_loopback::sh;
use serde_json::Value;

use crate::common::noise;
use crate::fixture::Device;
use crate::prune::{deleted, make_overlay};

const MIB: u64 = 1 << 20;

/// Bytes of data in use, once everything that was deleted is freed.
fn used(device: &Device) -> u64 {
    let store = device.layout.store.to_str().unwrap();
    op_dbus_btrfs::free_deleted(&device.layout.store).unwrap();
    sh("btrfs", &["subvolume", "sync", store]);
    op_dbus_btrfs::sync_filesystem(&device.layout.store).unwrap();
    let text = sh("btrfs", &["filesystem", "df", "--raw", store]);
    let line = text.lines().find(|line| line.starts_with("Data")).unwrap();
    line.rsplit_once("used=").unwrap().1.parse().unwrap()
}

fn own(value: &Value, version: &str) -> u64 {
    let mut versions = value["versions"].as_array().unwrap().iter();
    let found = versions.find(|one| one["version"] == version).unwrap();
    found["exclusive_bytes"].as_u64().unwrap()
}

#[test]
fn a_dry_run_says_what_is_freed() {
    let Some((device, builder)) = Device::blessed() else {
        return;
    };
    let mut parent = "v1.0.0";
    let mut next = |version: &'static str| {
        let stream = builder.release(version, Some(parent));
        device.result(&["receive", &stream], "received");
        parent = version;
    };
    // Two that share four MiB, of which the second has two more; and two without
    // either, so that those that share go.
    fs::write(builder.tree("work/shared"), noise(4 << 20)).unwrap();
    next("v1.1.0");
    fs::write(builder.tree("work/own"), noise(2 << 20)).unwrap();
    next("v1.2.0");
    fs::remove_file(builder.tree("work/shared")).unwrap();
    fs::remove_file(builder.tree("work/own")).unwrap();
    fs::write(builder.tree("work/kept"), noise(1 << 20)).unwrap();
    next("v1.3.0");
    make_overlay(&device, "v1.1.0");
    fs::write(device.store("overlays/v1.1.0/upper/more"), noise(1 << 19)).unwrap();
    op_dbus_btrfs::create_subvolume(&device.store("overlays/v1.0.0.failed")).unwrap();
    fs::write(device.store("overlays/v1.0.0.failed/file"), noise(1 << 18)).unwrap();

    let before = used(&device);
    let tried = device.result(&["prune", "--keep", "1", "--dry-run"], "dry-run");
    assert_eq!(own(&tried, "v1.0.0"), MIB / 4, "{tried}");
    assert_eq!(own(&tried, "v1.1.0"), MIB / 2, "{tried}");
    assert_eq!(own(&tried, "v1.2.0"), 2 * MIB, "{tried}");
    assert_eq!(own(&tried, "v1.3.0"), MIB, "{tried}");
    assert_eq!(tried["leftovers"][0]["exclusive_bytes"], MIB / 4, "{tried}");
    let freed = tried["freed_bytes"].as_u64().unwrap();
    assert_eq!(freed, 27 * MIB / 4, "{tried}");
    let text = device.run(&["prune", "--keep", "1", "--dry-run"]).done();
    assert!(
        text.ends_with("2 of 4 versions would go. That frees 6.75 MiB of data at least.\n"),
        "{text}"
    );
    assert_eq!(used(&device), before, "nothing was changed");

    let pruned = device.result(&["prune", "--keep", "1"], "pruned");
    assert_eq!(deleted(&pruned), ["v1.2.0", "v1.1.0"]);
    let really = before - used(&device);
    // The log's lines are new.
    assert!(freed.abs_diff(really) < 32 << 10, "{freed}, {really}");
    // Nothing of what stayed was shared with what went.
    let left = device.result(&["prune", "--dry-run"], "nothing-to-do");
    assert_eq!(left["freed_bytes"], 0, "{left}");
}
