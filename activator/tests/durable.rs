//! What must be durable before a version is mounted, by the system calls of the
//! program itself ([`op_dbus_calls::Unsynced`]).
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;

use op_dbus_activator::overlay::entry;
use op_dbus_activator::overlay::plan::{Action, Entry, Plan};
use op_dbus_bootstate::Digest;
use op_dbus_calls::{Call, Unsynced, trace};

mod common;
use common::{Device, is_root};

/// Boots, and returns the calls of that.
#[track_caller]
fn boot(device: &Device) -> Vec<Call> {
    let program = Path::new(env!("CARGO_BIN_EXE_op-dbus-activate"));
    let traced = trace(&mut device.command(program));
    assert_eq!(traced.code, 0, "{}", traced.stderr);
    traced.calls
}

/// How often calls of a name worked on a file.
fn count(calls: &[Call], name: &str, path: &Path) -> usize {
    let about = |call: &&Call| call.name == name && call.path == path;
    calls.iter().filter(about).count()
}

#[test]
fn the_count_is_durable_in_both_copies_before_anything_is_mounted() {
    if !is_root() {
        return;
    }
    let mut device = Device::with_all();
    for _ in 0..2 {
        let calls = boot(&device);
        let store = &device.layout.store;
        let mut unsynced = Unsynced::new(store);
        let mut mounted = 0;
        for call in &calls {
            let rest: Vec<_> = unsynced.below("boot").collect();
            if call.name == "move_mount" {
                assert!(rest.is_empty(), "{call}: before {rest:?} was durable");
                mounted += 1;
            }
            if call.name == "pwrite64" && call.path.starts_with(store.join("boot")) {
                assert!(rest.is_empty(), "{call}: before {rest:?} was durable");
            }
            unsynced.follow(call);
        }
        assert_eq!(mounted, 2, "the version and its overlay: {calls:#?}");
        assert_eq!(unsynced.below("boot").count(), 0);
        for copy in ["boot/record.0", "boot/record.1"] {
            let copy = store.join(copy);
            assert_eq!(count(&calls, "pwrite64", &copy), 1, "{calls:#?}");
            // What a log tree holds, a read-only device can't show.
            assert_eq!(count(&calls, "syncfs", &copy), 1, "{calls:#?}");
        }
        device.down();
        device.next_boot();
    }
}

#[test]
fn candidates_are_looked_at_before_anything_is_written() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    let calls = boot(&device);
    let store = &device.layout.store;
    let is_write = |call: &Call| call.name == "pwrite64" && call.path.starts_with(store);
    let looked = |calls: &[Call]| -> Vec<_> {
        let those = calls.iter();
        let those = those.filter(|call| call.name == "BTRFS_IOC_GET_SUBVOL_INFO");
        those.map(|call| call.path.clone()).collect()
    };
    let (before, after) = calls.split_at(calls.iter().position(is_write).unwrap());
    // After a write that failed, Btrfs may find none of them any more.
    let before = looked(before);
    for version in ["v1.0.0", "v1.1.0", "v1.2.0"] {
        let version = store.join("deploy").join(version);
        // Once: a second look is one that could come after a write.
        let times = before.iter().filter(|path| **path == version).count();
        assert_eq!(times, 1, "{version:?}: {calls:#?}");
        assert!(!looked(after).contains(&version), "{version:?}: {calls:#?}");
    }
}

#[test]
fn the_record_is_read_past_the_cache() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    let calls = boot(&device);
    for copy in ["boot/record.0", "boot/record.1", "boot/record.blessed"] {
        let copy = device.layout.store.join(copy);
        assert!(count(&calls, "openat(O_DIRECT)", &copy) > 0, "{calls:#?}");
    }
}

#[test]
fn an_overlay_is_complete_before_it_has_its_name() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    let calls = boot(&device);
    let overlay = device.layout.store.join("overlays/v1.2.0");
    let made = |call: &&Call| {
        matches!(call.name, "mkdir" | "mkdirat" | "setxattr") && call.path.starts_with(&overlay)
    };
    let early: Vec<_> = calls.iter().filter(made).collect();
    // Once mounted, the kernel makes a directory in work/ by itself.
    assert!(early.is_empty(), "{early:#?}");
    let hidden = overlay.with_file_name(".new-v1.2.0");
    assert_eq!(count(&calls, "setxattr", &hidden), 1, "{calls:#?}");
    let named = |call: &&Call| call.other.as_deref() == Some(&overlay);
    assert_eq!(calls.iter().filter(named).count(), 1, "{calls:#?}");
}

#[test]
fn an_earlier_overlay_is_set_aside_durably_before_the_try_is_counted() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    device.offline(|layout| {
        let overlay = layout.overlay(&"v1.2.0".parse().unwrap());
        op_dbus_btrfs::create_subvolume(&overlay).unwrap();
    });
    let calls = boot(&device);
    let store = &device.layout.store;
    let aside = store.join("overlays/v1.2.0.old");
    let mut unsynced = Unsynced::new(store);
    let mut is_aside = false;
    // Once the try is counted the next one takes what it finds for a leftover.
    for call in &calls {
        if call.name == "pwrite64" && call.path.starts_with(store.join("boot")) {
            let rest: Vec<_> = unsynced.below("overlays").collect();
            assert!(is_aside, "{call}: counted with the overlay in its place");
            assert!(rest.is_empty(), "{call}: before {rest:?} was durable");
        }
        is_aside |= call.other.as_deref() == Some(&aside);
        unsynced.follow(call);
    }
    assert!(is_aside, "{calls:#?}");
}

/// What is done to names and contents below a directory, and to where a rename
/// leads.
fn changes<'c>(calls: &'c [Call], dir: &'c Path) -> impl Iterator<Item = &'c Call> {
    const LOOKS: [&str; 6] = [
        "BTRFS_IOC_GET_SUBVOL_INFO",
        "syncfs",
        "fsync",
        "fdatasync",
        "openat(O_DIRECT)",
        "move_mount",
    ];
    calls.iter().filter(move |call| {
        let about = |path: &Path| path.starts_with(dir);
        let touches = about(&call.path) || call.other.as_deref().is_some_and(about);
        touches && !LOOKS.contains(&call.name)
    })
}

#[test]
fn a_plan_is_carried_out_before_the_overlay_has_its_name() {
    if !is_root() {
        return;
    }
    let device = Device::with_all();
    let digest = |version: &str| {
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(version.bytes()) {
            *to = from;
        }
        Digest(digest)
    };
    device.offline(|layout| {
        let good = "v1.1.0".parse().unwrap();
        op_dbus_btrfs::create_subvolume(&layout.overlay(&good)).unwrap();
        let bin = layout.upper(&good).join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("hello"), "mine").unwrap();
        let upper = fs::File::open(layout.upper(&good)).unwrap();
        let entries = [Action::OfferNew, Action::SetAside].map(|action| Entry {
            path: b"bin/hello".to_vec(),
            action,
            expected: entry::digest(upper.as_fd(), b"bin/hello").unwrap(),
        });
        let plan = Plan {
            onto: digest("v1.2.0"),
            over: digest("v1.1.0"),
            entries: entries.to_vec(),
        };
        fs::create_dir(layout.plans_dir()).unwrap();
        let path = layout.plan(&"v1.2.0".parse().unwrap());
        fs::write(path, plan.encode().unwrap()).unwrap();
    });
    let calls = boot(&device);
    assert_eq!(device.report().overlay.unwrap().plan.unwrap().applied, 2);
    let overlays = device.layout.store.join("overlays");
    let (hidden, named) = (overlays.join(".new-v1.2.0"), overlays.join("v1.2.0"));
    for (name, path) in [
        ("creat", hidden.join("upper/bin/hello.new")),
        ("FICLONE", hidden.join("upper/bin/hello.new")),
        ("renameat", hidden.join("upper/bin/hello")),
    ] {
        assert_eq!(count(&calls, name, &path), 1, "{name}: {calls:#?}");
    }
    // Its own name comes last of all, and nothing is changed below that.
    let last = changes(&calls, &overlays).last().unwrap();
    assert_eq!((last.name, &last.path), ("rename", &hidden), "{last}");
    assert_eq!(last.other.as_ref(), Some(&named), "{last}");
    // Good's overlay is read only.
    let good = overlays.join("v1.1.0");
    let good: Vec<_> = changes(&calls, &good)
        .filter(|call| call.name != "BTRFS_IOC_SNAP_CREATE_V2")
        .collect();
    assert!(good.is_empty(), "{good:#?}");
}

#[test]
fn a_discarded_overlay_gives_way_to_one_that_is_complete() {
    if !is_root() {
        return;
    }
    let mut device = Device::with_all();
    let overlays = device.layout.store.join("overlays");
    let path = |name: &str| overlays.join(name);
    // The third discards what the second left, and what it had discarded goes.
    for round in 0..3 {
        let calls = boot(&device);
        let changes: Vec<_> = changes(&calls, &overlays).collect();
        let end: Vec<_> = changes
            .iter()
            .skip_while(|call| call.name != "setxattr")
            .map(|call| (call.name, call.path.clone(), call.other.clone()))
            .collect();
        let mut expected = vec![("setxattr", path(".new-v1.2.0"), None)];
        if round == 2 {
            expected.push(("BTRFS_IOC_SNAP_DESTROY", path("v1.2.0.failed"), None));
        }
        if round > 0 {
            let failed = Some(path("v1.2.0.failed"));
            expected.push(("rename", path("v1.2.0"), failed));
        }
        expected.push(("rename", path(".new-v1.2.0"), Some(path("v1.2.0"))));
        assert_eq!(end, expected, "{calls:#?}");
        device.down();
        device.next_boot();
    }
}
