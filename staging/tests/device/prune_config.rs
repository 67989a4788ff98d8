//! `prune` by its configuration, and as the boot calls it after a bless.

use std::fs;

use crate::common::noise;
use crate::crash::halfway;
use crate::fixture::{Device, names};
use crate::prune::{deleted, kept, with_versions};

/// Adds to the configuration that `prepare` wrote.
fn configure(device: &Device, text: &str) {
    let path = device.layout.config();
    let written = fs::read_to_string(&path).unwrap();
    let before = written.split("\n[prune]").next().unwrap();
    fs::write(&path, format!("{before}\n{text}")).unwrap();
}

#[test]
fn the_configuration_says_what_is_kept() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    configure(
        &device,
        "[prune]\nkeep = 1\nparents = [\"v1.3.0\", \"v7.0.0\"]\n",
    );
    let tried = device.result(&["prune", "--dry-run"], "dry-run");
    assert_eq!(kept(&tried, "v1.3.0"), serde_json::json!(["parent"]));
    for version in ["v1.2.0", "v1.4.0"] {
        assert_eq!(kept(&tried, version), serde_json::json!([]));
    }
    let text = device.run(&["prune", "--dry-run"]).done();
    assert!(text.contains("v1.3.0  kept: a parent of deltas"), "{text}");
    // The command line overrides.
    let tried = device.result(&["prune", "--dry-run", "--keep", "3"], "dry-run");
    assert_eq!(kept(&tried, "v1.4.0"), serde_json::json!(["newest"]));
    let pruned = device.result(&["prune"], "pruned");
    assert_eq!(deleted(&pruned), ["v1.4.0", "v1.2.0"]);

    configure(&device, "[prune]\nkeep = 0\n");
    device
        .run(&["prune"])
        .failed(3, "prune.keep = 0: must be 1 or more");
    // A mistake there is no reason not to receive what mends it, nor to boot.
    device.result(&["status"], "ok");
}

#[test]
fn after_a_bless_only_what_is_due_goes_and_nobody_is_kept_waiting() {
    let Some((mut device, builder)) = with_versions() else {
        return;
    };
    let after_bless = ["prune", "--after-bless"];
    let reason = |value: &serde_json::Value| value["reason"].as_str().unwrap().to_owned();
    configure(&device, "[prune]\nafter_bless = false\n");
    let skipped = device.result(&after_bless, "skipped");
    assert!(reason(&skipped).contains("after_bless"), "{skipped}");
    configure(&device, "");

    // While a receive runs, which may take hours.
    fs::write(builder.tree("work/big"), noise(2 << 20)).unwrap();
    let release = builder.publish("v1.6.0", &[None]);
    let mut running = halfway(&device, &release);
    let skipped = device.result(&after_bless, "skipped");
    assert!(
        reason(&skipped).contains("held by op-dbus-stage"),
        "{skipped}"
    );
    let text = device.run(&after_bless).done();
    assert!(text.starts_with("Nothing was pruned: "), "{text}");
    running.child.kill().unwrap();
    running.child.wait().unwrap();

    // In a boot that was not blessed, or ended in rescue.
    device.result(&["stage", "v1.5.0"], "on-trial");
    device.boot();
    let skipped = device.result(&after_bless, "skipped");
    assert!(reason(&skipped).contains("not the good version"));
    device.next_boot();
    let skipped = device.result(&after_bless, "skipped");
    assert!(reason(&skipped).contains("not the good version"));
    assert_eq!(names(&device.store("deploy")).len(), 6);

    device.boot();
    device.result(&["bless"], "trial");
    let pruned = device.result(&after_bless, "pruned");
    assert_eq!(deleted(&pruned), ["v1.2.0", "v1.0.0"], "{pruned}");
    device.result(&after_bless, "nothing-to-do");
}

/// An overlay that a boot discarded, a plan, and what is not to be touched.
#[test]
fn what_has_served_goes_and_what_is_shared_stays() {
    let Some((mut device, _builder)) = with_versions() else {
        return;
    };
    let overlays = device.store("overlays");
    let discarded = |version: &str| overlays.join(format!("{version}.failed"));
    let subvolume = |path: &std::path::Path| op_dbus_btrfs::create_subvolume(path).unwrap();
    for version in ["v1.0.0", "v1.1.0", "v1.4.0"] {
        subvolume(&discarded(version));
    }
    fs::create_dir(device.store("shared")).unwrap();
    subvolume(&device.store("shared/var-lib-db"));
    subvolume(&device.store("shared/v0.1.0"));
    fs::create_dir(device.store("plans")).unwrap();
    for name in ["v1.1.0", "v1.4.0", "v0.9.0", ".v1.5.0.new", "somebody-s"] {
        fs::write(device.store("plans").join(name), "plan").unwrap();
    }
    fs::create_dir(device.store("plans/v1.2.0")).unwrap();
    device.result(&["stage", "v1.4.0"], "on-trial");
    // Staging settled what it has to say of its own plan.
    fs::write(device.store("plans/v1.4.0"), "plan").unwrap();

    let pruned = device.result(&["prune", "--after-bless"], "pruned");
    assert_eq!(deleted(&pruned), ["v1.2.0"]);
    assert_eq!(pruned["leftovers"].as_array().unwrap().len(), 4, "{pruned}");
    assert!(!discarded("v1.0.0").exists(), "the fallback was blessed");
    assert!(
        discarded("v1.1.0").exists() && discarded("v1.4.0").exists(),
        "nobody looked into it yet; on trial"
    );
    assert_eq!(
        names(&device.store("plans")),
        ["somebody-s", "v1.2.0", "v1.4.0"]
    );
    let pruned = device.result(&["prune"], "pruned");
    assert_eq!(pruned["leftovers"].as_array().unwrap().len(), 1, "{pruned}");
    assert!(!discarded("v1.1.0").exists() && discarded("v1.4.0").exists());

    // Quarantined, it goes with all that belongs to it.
    device.boot();
    device.result(&["condemn"], "condemned");
    device.boot();
    let pruned = device.result(&["prune"], "pruned");
    assert_eq!(deleted(&pruned), ["v1.4.0"]);
    assert!(!discarded("v1.4.0").exists());
    assert_eq!(names(&device.store("plans")), ["somebody-s", "v1.2.0"]);
    assert_eq!(names(&device.store("shared")), ["v0.1.0", "var-lib-db"]);
}

/// One that somebody looks into stays.
#[test]
fn a_discarded_overlay_that_is_mounted_stays() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    let discarded = device.store("overlays/v1.0.0.failed");
    op_dbus_btrfs::create_subvolume(&discarded).unwrap();
    let point = device.path("look");
    fs::create_dir(&point).unwrap();
    let bind = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&discarded), &point, None::<&str>, bind, None::<&str>).unwrap();
    device.result(&["prune"], "pruned");
    assert!(discarded.exists());
    nix::mount::umount(&point).unwrap();
    device.result(&["prune"], "pruned");
    assert!(!discarded.exists());
}

/// The reserve follows its configuration.
#[test]
fn the_reserve_is_as_large_as_it_is_meant_to_be() {
    let Some(device) = Device::new() else {
        return;
    };
    let used = || {
        op_dbus_btrfs::sync_filesystem(&device.layout.store).unwrap();
        let found = rustix::fs::statvfs(&device.layout.store).unwrap();
        ((found.f_blocks - found.f_bfree) * found.f_frsize) >> 10
    };
    let reserve = device.store("reserve");
    let sizes = || -> Vec<u64> {
        let size = |name: &String| fs::metadata(reserve.join(name)).unwrap().len() >> 10;
        names(&reserve).iter().map(size).collect()
    };
    assert_eq!(sizes(), [1024; 4]);
    let small = used();
    // What a killed run left goes.
    fs::write(reserve.join(".new"), "half").unwrap();
    configure(&device, "[prune]\nreserve_mib = 8\n");
    let pruned = device.result(&["prune"], "nothing-to-do");
    assert_eq!(pruned["reserve"]["made"], 4, "{pruned}");
    assert_eq!(sizes(), [2048; 4]);
    let large = used();
    // Metadata is there twice.
    assert!((7500..9000).contains(&(large - small)), "{small} {large}");
    configure(&device, "[prune]\nreserve_mib = 0\n");
    device.result(&["prune"], "nothing-to-do");
    assert_eq!(sizes(), [0; 0]);
    assert!(used() + 15_000 < large);
    // Where it would take what is kept free, it is not made.
    configure(&device, "[prune]\nreserve_mib = 8\n");
    let text = fs::read_to_string(device.layout.config()).unwrap();
    let text = text.replace("[receive]", "[receive]\nheadroom_mib = 4096");
    fs::write(device.layout.config(), text).unwrap();
    let pruned = device.result(&["prune"], "nothing-to-do");
    assert_eq!(pruned["reserve"]["missing"], 4, "{pruned}");
    let warning = pruned["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("no room for 4 of the 4 parts"),
        "{warning}"
    );
}
