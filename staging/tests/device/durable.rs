//! What must be durable before what, by the system calls of the program itself.
//!
//! A power cut rarely shows a missing sync: the kernel writes soon of its own
//! accord, and one sync covers for another. These tests go by what a program
//! may count on instead ([`op_dbus_calls::Unsynced`]).

use std::path::Path;
use std::process::Stdio;

use op_dbus_calls::{Call, Change, Unsynced, trace};

use crate::builder::Builder;
use crate::fixture::Device;
use crate::keys::keys;

/// Runs a command that must succeed, and holds each of its calls against the
/// rules; returns its calls on the store.
#[track_caller]
pub(crate) fn durable(device: &Device, args: &[&str]) -> Vec<Call> {
    let store = &device.layout.store;
    let mut command = device.command(args);
    let traced = trace(command.stdin(Stdio::null()));
    assert_eq!(traced.code, 0, "{args:?}: {}", traced.stderr);
    let mut unsynced = Unsynced::new(store);
    let mut faults = Vec::new();
    for call in &traced.calls {
        for change in too_early(&unsynced, store, call) {
            faults.push(format!("{call}: before {change} was durable"));
        }
        unsynced.follow(call);
    }
    for place in ["boot", "audit", "deploy", "manifests", "plans", "overlays"] {
        for change in unsynced.below(place) {
            faults.push(format!("the end: before {change} was durable"));
        }
    }
    assert!(faults.is_empty(), "{args:?}: {faults:#?}");
    let mut calls = traced.calls;
    calls.retain(|call| call.path.starts_with(store));
    calls
}

/// What should have been durable before a call.
fn too_early(unsynced: &Unsynced, store: &Path, call: &Call) -> Vec<Change> {
    let Ok(path) = call.path.strip_prefix(store) else {
        return Vec::new();
    };
    let is_write = matches!(call.name, "write" | "pwrite64");
    let to = call.other.as_deref().unwrap_or(Path::new(""));
    let is_rename = call.name.starts_with("rename");
    let before = |places: &[&str]| -> Vec<Change> {
        let found = places.iter().flat_map(|place| unsynced.below(place));
        found
            .filter(|change| change.path() != call.path)
            .cloned()
            .collect()
    };
    if is_write && path.starts_with("boot") {
        // The other copy; the log's lines, which a record points to; and the plan
        // for the boot that it asks for.
        return before(&["boot", "audit", "plans"]);
    }
    if is_write && path.starts_with("audit") {
        // The log tells of versions that are there.
        return before(&["deploy", "manifests"]);
    }
    if is_rename && to.to_string_lossy().ends_with(".deployment.json") {
        // The receipt is what makes a version of the rest …
        let mut early = before(&["deploy", "manifests"]);
        early.extend(content(unsynced, call));
        return early;
    }
    if is_rename && path.starts_with("deploy") {
        // … and a version's name stands for both.
        return before(&["manifests"]);
    }
    // Manifests are covered by the receipt, which comes after them.
    if is_rename && !path.starts_with("manifests") {
        return content(unsynced, call);
    }
    Vec::new()
}

/// A rename in place of an old file: a power cut leaves an empty one (measured),
/// unless its content came first.
fn content(unsynced: &Unsynced, call: &Call) -> Vec<Change> {
    let content = Change::Content(call.path.clone());
    unsynced
        .below("")
        .filter(|change| **change == content)
        .cloned()
        .collect()
}

/// How often calls of a name worked on a file of the store.
fn count(calls: &[Call], name: &str, path: &Path) -> usize {
    let about = |call: &&Call| call.name == name && call.path == path;
    calls.iter().filter(about).count()
}

#[test]
fn a_received_version_is_durable_before_it_is_acknowledged() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    let calls = durable(&device, &["receive", &stream]);
    // Else the rules had nothing to hold against.
    let hidden = device.store("deploy/.v1.0.0.new");
    assert_eq!(count(&calls, "BTRFS_IOC_SNAP_CREATE_V2", &hidden), 1);
    let receipt = device.store("manifests/v1.0.0.deployment.json");
    assert!(
        calls
            .iter()
            .any(|call| call.other.as_deref() == Some(&receipt)),
        "{calls:#?}"
    );

    // The receipt says which subvolume is meant; only then it has its name.
    let named = |path: &Path| {
        let moved = |call: &Call| call.other.as_deref() == Some(path);
        calls.iter().position(moved).unwrap()
    };
    let published = device.store("deploy/v1.0.0");
    assert!(named(&receipt) < named(&published), "{calls:#?}");

    let next = builder.release("v1.1.0", Some("v1.0.0"));
    durable(&device, &["receive", &next]);
    // A version that is there, and whose manifest is not.
    std::fs::remove_file(device.store("manifests/v1.1.0.json")).unwrap();
    durable(&device, &["receive", &next]);
}

#[test]
fn what_is_received_is_on_the_disk_before_it_is_read_back() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    let calls = durable(&device, &["receive", &stream]);
    let at = |what: &dyn Fn(&Call) -> bool| calls.iter().position(what).unwrap();
    let incoming = device.store("incoming");
    let received = at(&|call| call.name == "BTRFS_IOC_SUBVOL_SETFLAGS");
    let published = at(&|call| call.name == "BTRFS_IOC_SNAP_CREATE_V2");
    let synced = calls[received..published]
        .iter()
        .position(|call| call.name == "syncfs" && call.path.starts_with(&incoming));
    let synced = received + synced.unwrap();
    // From the disk, and not from memory.
    let dropped = calls[synced..published]
        .iter()
        .filter(|call| call.name == "fadvise64" && call.path.starts_with(&incoming));
    let app = |call: &Call| call.path.ends_with("v1.0.0/bin/app");
    assert!(dropped.clone().any(app), "{calls:#?}");
}

#[test]
fn the_record_is_read_past_the_cache() {
    let Some((device, _)) = Device::blessed() else {
        return;
    };
    let calls = durable(&device, &["status"]);
    for copy in ["boot/record.0", "boot/record.1", "boot/record.blessed"] {
        let copy = device.store(copy);
        assert!(count(&calls, "openat(O_DIRECT)", &copy) > 0, "{calls:#?}");
    }
}

#[test]
fn a_prepared_device_is_durable() {
    let Some(device) = Device::bare(256) else {
        return;
    };
    let key = keys().export("release", &device.path("release.asc"));
    let mut command = device.command(&["prepare", "--device", device.disk.node(), "--key", &key]);
    let traced = trace(command.stdin(Stdio::null()));
    assert_eq!(traced.code, 0, "{}", traced.stderr);
    // Configuration and keys, in the host.
    let etc = device.layout.sysroot.join("etc");
    let mut unsynced = Unsynced::new(&etc);
    for call in &traced.calls {
        if call.name.starts_with("rename") {
            let early = content(&unsynced, call);
            assert!(early.is_empty(), "{call}: {early:?}");
        }
        unsynced.follow(call);
    }
    // Directories of their own apart, which stand or fall with what is in them.
    let left: Vec<_> = unsynced
        .below("")
        .filter(|change| !change.path().is_dir())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // The store, wherever it was mounted meanwhile: before the configuration names
    // it, and at the end.
    let is_made = |call: &Call| {
        !call.path.starts_with(&etc)
            && matches!(
                call.name,
                "creat" | "mkdir" | "mkdirat" | "BTRFS_IOC_SUBVOL_CREATE_V2"
            )
            && call
                .path
                .components()
                .any(|part| part.as_os_str() == "@op-dbus")
    };
    let config = device.layout.config();
    let names_it = |call: &Call| call.other.as_ref() == Some(&config);
    let named = traced.calls.iter().position(names_it).unwrap();
    for calls in [&traced.calls[..named], &traced.calls] {
        let last_made = calls.iter().rposition(is_made).unwrap();
        let synced = calls[last_made..]
            .iter()
            .any(|call| call.name == "syncfs" && call.path.ends_with("@op-dbus"));
        assert!(synced, "{calls:#?}");
    }
}

#[test]
fn every_transition_is_durable_before_it_is_acknowledged() {
    let Some((mut device, builder)) = Device::blessed() else {
        return;
    };
    let stream = builder.release("v1.1.0", Some("v1.0.0"));
    device.result(&["receive", &stream], "received");
    let records = ["boot/record.0", "boot/record.1"].map(|name| device.store(name));
    let log = device.store("audit/log.jsonl");
    let blessed = device.store("boot/record.blessed");
    let transition = |device: &mut Device, args: &[&str], boots: bool| {
        let calls = durable(device, args);
        for record in &records {
            assert_eq!(count(&calls, "pwrite64", record), 1, "{args:?}: {calls:#?}");
            assert_eq!(count(&calls, "syncfs", record), 1, "{args:?}: {calls:#?}");
        }
        assert_eq!(count(&calls, "write", &log), 1, "{args:?}: {calls:#?}");
        if boots {
            device.boot();
        }
        count(&calls, "pwrite64", &blessed)
    };
    transition(&mut device, &["stage", "v1.1.0"], false);
    transition(&mut device, &["cancel"], false);
    transition(&mut device, &["stage", "v1.1.0"], true);
    transition(&mut device, &["orderly-shutdown"], true);
    let renewed = transition(&mut device, &["bless"], true);
    assert_eq!(renewed, 1, "the copy for emergencies follows the bless");
    transition(&mut device, &["rollback"], true);
    transition(&mut device, &["condemn"], false);
}

#[test]
fn a_log_that_is_new_or_set_aside_is_durable_by_name() {
    let Some((device, builder)) = Device::blessed() else {
        return;
    };
    let stream = builder.release("v1.1.0", Some("v1.0.0"));
    device.result(&["receive", &stream], "received");
    let log = device.store("audit/log.jsonl");
    std::fs::write(&log, "no log\n").unwrap();
    let calls = durable(&device, &["stage", "v1.1.0"]);
    assert_eq!(count(&calls, "rename", &log), 1, "{calls:#?}");
    std::fs::remove_file(&log).unwrap();
    let calls = durable(&device, &["cancel"]);
    assert_eq!(count(&calls, "creat", &log), 1, "{calls:#?}");
}

#[test]
fn what_a_kill_left_is_settled_durably() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    device.result(&["receive", &stream], "received");
    let (hidden, published) = (
        device.store("deploy/.v1.0.0.new"),
        device.store("deploy/v1.0.0"),
    );
    std::fs::rename(&published, &hidden).unwrap();
    let calls = durable(&device, &["receive", &stream]);
    let named = calls
        .iter()
        .any(|call| call.path == hidden && call.other.as_deref() == Some(&published));
    assert!(named, "{calls:#?}");
}
