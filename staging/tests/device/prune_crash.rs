//! `prune` killed, and what the next run makes of it.

use std::fs;

use op_dbus_calls::{Call, kill_after, trace};

use crate::durable::durable;
use crate::fixture::{Device, flip, names};
use crate::prune::{all_is_well, deleted, make_overlay, with_versions};

/// Moments a prune is killed at.
const STEPS: usize = 16;
/// What goes with `--keep 1`.
const GOES: [&str; 3] = ["v1.2.0", "v1.3.0", "v1.4.0"];

fn papers(version: &str) -> [String; 3] {
    [".deployment.json", ".json", ".json.asc"].map(|end| format!("manifests/{version}{end}"))
}

/// A version of which only a part is left is nothing that could be staged, and
/// the next run takes the rest away.
#[track_caller]
fn the_next_run_finishes(device: &Device, version: &str) {
    device.run(&["stage", version]).failed(7, "");
    let tried = device.result(&["prune", "--dry-run"], "dry-run");
    assert_eq!(deleted(&tried), [""; 0]);
    let pruned = device.result(&["prune"], "pruned");
    assert_eq!(deleted(&pruned), [version]);
    all_is_well(device);
    assert_eq!(names(&device.store("overlays")), [""; 0]);
    let log = device.json(&["audit", "log", "-n", "1"]);
    assert_eq!(log["lines"][0]["event"], "pruned");
    assert_eq!(log["lines"][0]["version"], version);
}

/// By the calls of the program: a power cut rarely shows an order that is wrong.
#[test]
fn each_step_is_durable_before_the_next() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    make_overlay(&device, "v1.2.0");
    flip(&device.store("boot/record.0"), 40);
    // The reserve can't be made again, so that its sync covers nothing else.
    let in_the_way = device.store("reserve/0");
    let _ = fs::remove_file(&in_the_way);
    fs::create_dir_all(&in_the_way).unwrap();
    let calls = durable(&device, &["prune"]);
    let at = |name: &str, path: &str| {
        let path = device.store(path);
        let is = |call: &Call| call.name == name && call.path == path;
        calls
            .iter()
            .position(is)
            .unwrap_or_else(|| panic!("{name} {}: {calls:#?}", path.display()))
    };
    let repaired = at("pwrite64", "boot/record.0");
    let deployment = at("BTRFS_IOC_SNAP_DESTROY", "deploy/v1.2.0");
    let overlay = at("BTRFS_IOC_SNAP_DESTROY", "overlays/v1.2.0");
    let [receipt, manifest, signature] = papers("v1.2.0").map(|paper| at("unlink", &paper));
    let last = |name: &str, path: &str| {
        let path = device.store(path);
        let is = |call: &Call| call.name == name && call.path == path;
        calls.iter().rposition(is).unwrap()
    };
    let logged = last("write", "audit/log.jsonl");
    let order = [repaired, deployment, overlay, logged, receipt];
    assert!(order.is_sorted(), "{order:?}: {calls:#?}");
    let commits = |from: usize, to: usize| {
        let is = |call: &Call| matches!(call.name, "syncfs" | "BTRFS_IOC_SYNC");
        calls[from..to].iter().any(is)
    };
    assert!(commits(repaired, deployment), "{calls:#?}");
    assert!(commits(overlay, logged), "{calls:#?}");
    assert!(commits(receipt.max(manifest).max(signature), calls.len()));

    // Pins as well.
    for (args, name) in [
        (["pin", "v1.3.0"], "symlink"),
        (["unpin", "v1.3.0"], "unlink"),
    ] {
        let calls = durable(&device, &args);
        let is = |call: &Call| call.name.starts_with(name) && call.path.ends_with("pins/v1.3.0");
        let changed = calls.iter().position(is).unwrap();
        let synced = |call: &Call| call.name == "syncfs" && call.path == device.layout.store;
        assert!(calls[changed..].iter().any(synced), "{calls:#?}");
    }
}

#[test]
fn what_a_cut_leaves_of_a_version_goes_with_the_next_run() {
    let Some((device, builder)) = with_versions() else {
        return;
    };
    let version = "v1.2.0";
    let delete = |path: &str| {
        op_dbus_btrfs::delete_subvolume(&device.store(path)).unwrap();
    };
    // After each step of the deletion, in their order.
    for step in 0..4 {
        if step > 0 {
            device.result(&["receive", &builder.manifest(version)], "received");
        }
        make_overlay(&device, version);
        delete("deploy/v1.2.0");
        if step >= 1 {
            delete("overlays/v1.2.0");
        }
        for paper in papers(version).iter().take(step.max(1) - 1) {
            fs::remove_file(device.store(paper)).unwrap();
        }
        the_next_run_finishes(&device, version);
    }
    // Or the version comes again instead, whole.
    device.result(&["receive", &builder.manifest(version)], "received");
    delete("deploy/v1.2.0");
    device.result(&["receive", &builder.manifest(version)], "received");
    device.result(&["stage", version], "on-trial");
    all_is_well(&device);
}

/// A receive that was killed before the rename has a whole version without a
/// name. Prune treats it as any other: it is not brought back in half.
#[test]
fn a_version_that_only_lacks_its_name_is_a_version() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    for version in ["v1.2.0", "v1.5.0"] {
        let hidden = format!("deploy/.{version}.new");
        let published = device.store("deploy").join(version);
        fs::rename(&published, device.store(&hidden)).unwrap();
    }
    let pruned = device.result(&["prune"], "pruned");
    assert_eq!(deleted(&pruned), ["v1.2.0"]);
    assert_eq!(
        names(&device.store("deploy")),
        ["v1.0.0", "v1.1.0", "v1.3.0", "v1.4.0", "v1.5.0"]
    );
    all_is_well(&device);
}

#[test]
fn a_kill_at_any_moment_leaves_versions_whole_or_gone() {
    let Some((device, builder)) = with_versions() else {
        return;
    };
    let prune = ["prune", "--keep", "1"];
    let whole = trace(&mut device.command(&prune)).calls.len();
    let mut cut_short = 0;
    for step in 0..STEPS {
        for version in GOES {
            device.json(&["receive", &builder.manifest(version)]);
            make_overlay(&device, version);
        }
        let killed = kill_after(&mut device.command(&prune), 1 + whole * step / STEPS);
        assert_eq!(killed.code, 128 + 9, "{}", killed.stderr);
        for version in GOES {
            let is_there = device.store("deploy").join(version).exists();
            let staged = device.run(&["stage", version]);
            assert_eq!(staged.code, if is_there { 0 } else { 7 }, "{staged:?}");
        }
        device.json(&["cancel"]);
        cut_short += usize::from(device.json(&prune)["result"] == "pruned");
        assert_eq!(
            names(&device.store("deploy")),
            ["v1.0.0", "v1.1.0", "v1.5.0"]
        );
        assert_eq!(names(&device.store("overlays")), [""; 0]);
        all_is_well(&device);
    }
    assert!(cut_short > STEPS / 2, "{cut_short} of {STEPS}");
}
