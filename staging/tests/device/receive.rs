//! `receive`.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::fixture::{Builder, Device, flip, names, sh};

/// Nothing but log lines may remain of a failed receive.
#[track_caller]
fn nothing_remains(device: &Device) {
    assert!(names(&device.store("deploy")).is_empty());
    assert!(names(&device.store("incoming")).is_empty());
    assert!(names(&device.store("manifests")).is_empty());
}

#[test]
fn bad_streams_leave_nothing_but_a_log_line() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let good = builder.release("v1.0.0", None);
    let bytes = fs::read(&good).unwrap();
    let bad = device.path("bad.stream");
    let bad_text = bad.to_str().unwrap();
    let cases: [(&[u8], &str); 4] = [
        (b"nothing of the kind", "not a Btrfs send stream"),
        (&bytes[..bytes.len() - 1], "cut off"),
        (&[&bytes[..], b"x"].concat(), "after the end"),
        (&[&bytes[..], &bytes[..]].concat(), "after the end"),
    ];
    for (content, words) in cases {
        fs::write(&bad, content).unwrap();
        device.run(&["receive", bad_text]).failed(9, words);
        nothing_remains(&device);
    }
    fs::write(&bad, &bytes).unwrap();
    flip(&bad, 150_000);
    device
        .run(&["receive", bad_text])
        .failed(9, "checksum mismatch");
    device
        .run(&["receive", "/nonexistent.stream"])
        .failed(1, "No such file");
    device
        .run(&["receive", "/dev/null"])
        .failed(1, "not a regular file");
    nothing_remains(&device);
    // The same command with the right file works.
    fs::write(&bad, &bytes).unwrap();
    device.result(&["receive", bad_text], "received");
    let log = device.json(&["audit", "log"]);
    let refused = log["lines"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["event"] == "refused");
    assert_eq!(refused.count(), 7);
    device.result(&["audit", "verify"], "sound");
}

#[test]
fn hostile_releases_are_refused() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let setuid = |mode| {
        fs::set_permissions(
            builder.tree("work/bin/app"),
            fs::Permissions::from_mode(mode),
        )
        .unwrap();
    };
    setuid(0o4755);
    let stream = builder.send("v1.0.0", None);
    device.run(&["receive", &stream]).failed(9, "setuid");
    setuid(0o755);
    sh(
        "mknod",
        &[builder.tree("work/null").to_str().unwrap(), "c", "1", "3"],
    );
    let stream = builder.send("v1.0.1", None);
    device.run(&["receive", &stream]).failed(9, "device node");
    fs::remove_file(builder.tree("work/null")).unwrap();
    sh(
        "python3",
        &[
            "-c",
            "import os, sys; os.setxattr(sys.argv[1], 'user.overlay.opaque', b'y')",
            builder.tree("work/bin").to_str().unwrap(),
        ],
    );
    let stream = builder.send("v1.0.2", None);
    device.run(&["receive", &stream]).failed(9, "overlay");
    nothing_remains(&device);
}

#[test]
fn names_and_epochs() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let stream = builder.release("rootfs", None);
    device
        .run(&["receive", &stream])
        .failed(9, "is not a version name");
    device.result(&["receive", &stream, "--version", "2.0.0"], "received");
    assert_eq!(names(&device.store("deploy")), ["2.0.0"]);

    let epoch = |text: &str| {
        fs::create_dir_all(builder.tree("work/share/op-dbus")).unwrap();
        fs::write(builder.tree("work/share/op-dbus/epoch"), text).unwrap();
    };
    epoch("7\n");
    let stream = builder.release("v2.1.0", None);
    assert_eq!(device.json(&["receive", &stream])["epoch"], 7);
    epoch("seven");
    let stream = builder.release("v2.2.0", None);
    device
        .run(&["receive", &stream])
        .failed(9, "share/op-dbus/epoch");
    fs::remove_file(builder.tree("work/share/op-dbus/epoch")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", builder.tree("work/share/op-dbus/epoch")).unwrap();
    let stream = builder.release("v2.3.0", None);
    device
        .run(&["receive", &stream])
        .failed(9, "share/op-dbus/epoch");
}

#[test]
fn an_epoch_below_the_floor_is_not_staged() {
    let Some(mut device) = Device::new() else {
        return;
    };
    let builder = Builder::new();
    let old = builder.release("v1.0.0", None);
    fs::create_dir_all(builder.tree("work/share/op-dbus")).unwrap();
    fs::write(builder.tree("work/share/op-dbus/epoch"), "2").unwrap();
    let new = builder.release("v2.0.0", None);
    device.result(&["receive", &old], "received");
    device.result(&["receive", &new], "received");
    device.result(&["stage", "v2.0.0"], "on-trial");
    device.boot();
    device.result(&["bless"], "trial");
    device
        .run(&["stage", "v1.0.0"])
        .failed(8, "below this device's floor 2");
    device.result(&["stage", "v1.0.0", "--allow-old-epoch"], "on-trial");
}

#[test]
fn an_increment_needs_its_parent() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    builder.release("v1.0.0", None);
    let step = builder.release("v1.1.0", Some("v1.0.0"));
    device
        .run(&["receive", &step])
        .failed(9, "receive the version it builds on first");
    nothing_remains(&device);
}

#[test]
fn a_version_is_never_replaced_by_another_of_its_name() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let first = builder.release("v1.0.0", None);
    device.result(&["receive", &first], "received");
    let other = Builder::new();
    let second = other.release("v1.0.0", None);
    let before = names(&device.store("deploy"));
    device
        .run(&["receive", &second])
        .failed(8, "another release of this name");
    assert_eq!(names(&device.store("deploy")), before);
    device.result(&["receive", &first], "already-there");
}

#[test]
fn the_digest_is_of_the_content() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let first = builder.release("v1.0.0", None);
    let step = builder.send("v1.0.1", Some("v1.0.0"));
    // Touched, and nothing else.
    fs::File::options()
        .append(true)
        .open(builder.tree("work/bin/app"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    let touched = builder.send("v1.0.2", None);
    fs::set_permissions(
        builder.tree("work/bin/app"),
        fs::Permissions::from_mode(0o700),
    )
    .unwrap();
    let other_mode = builder.send("v1.0.3", None);
    let digest = |stream: &str| {
        device.json(&["receive", stream])["digest"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let expected = digest(&first);
    assert_eq!(digest(&step), expected, "sent as an increment");
    assert_eq!(digest(&touched), expected, "another time");
    assert_ne!(digest(&other_mode), expected, "another mode");
}

#[test]
fn an_altered_version_is_received_anew_and_the_record_knows_it_again() {
    let Some(mut device) = Device::new() else {
        return;
    };
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.0.0"], "on-trial");
    device.boot();
    device.result(&["bless"], "trial");
    let tree = device.layout.deployment(&"v1.0.0".parse().unwrap());
    op_dbus_btrfs::set_read_only(&tree, false).unwrap();
    fs::write(tree.join("version"), "tampered").unwrap();
    op_dbus_btrfs::set_read_only(&tree, true).unwrap();
    op_dbus_btrfs::sync_filesystem(&tree).unwrap();
    let status = device.status();
    assert!(
        status["problems"][0]
            .as_str()
            .unwrap()
            .contains("receive it again"),
        "{status}"
    );

    // Not while it runs.
    device.run(&["receive", &stream]).failed(8, "it is running");
    assert_eq!(device.boot(), "rescue");
    device.result(&["receive", &stream], "received");
    assert_eq!(device.status()["problems"].as_array().unwrap().len(), 0);
    assert_eq!(device.boot(), "good v1.0.0");
    assert_eq!(fs::read_to_string(tree.join("version")).unwrap(), "v1.0.0");
}

#[test]
fn a_file_that_changes_meanwhile_is_noticed() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    // More than pipe and buffers hold, so that its end is read after the change.
    let mut noise = vec![0; 3 << 20];
    fs::File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut noise)
        .unwrap();
    fs::write(builder.tree("work/bin/app"), noise).unwrap();
    let first = builder.release("v1.0.0", None);
    let second = builder.release("v1.0.1", None);
    let child = device.path("child");
    fs::write(
        &child,
        format!("#!/bin/sh\ncp {second} {first}\nexec btrfs \"$@\"\n"),
    )
    .unwrap();
    fs::set_permissions(&child, fs::Permissions::from_mode(0o755)).unwrap();
    device
        .run(&["receive", &first, "--btrfs", child.to_str().unwrap()])
        .failed(9, "changed while it was received");
    nothing_remains(&device);
}

#[test]
fn a_failing_child_is_reported_in_its_own_words() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    let child = device.path("child");
    let run = |text: &str| {
        fs::write(&child, text).unwrap();
        fs::set_permissions(&child, fs::Permissions::from_mode(0o755)).unwrap();
        device.run(&["receive", &stream, "--btrfs", child.to_str().unwrap()])
    };
    run("#!/bin/sh\necho 'ERROR: it is raining' >&2; exit 1\n").failed(9, "it is raining");
    run("#!/bin/sh\ncat >/dev/null; echo 'ERROR: writing: No space left on device' >&2; exit 1\n")
        .failed(11, "No space left");
    // Endless talk does not fill the memory, and silence is an answer too.
    run("#!/bin/sh\ncat >/dev/null; yes 'ERROR: x' | head -c 5000000 >&2; exit 3\n")
        .failed(9, "x, x");
    run("#!/bin/sh\ncat >/dev/null; exit 3\n").failed(9, "exit status: 3");
    // One that claims to have done it.
    run("#!/bin/sh\ncat >/dev/null; exit 0\n").failed(9, "beside its subvolume");
    run("#!/bin/sh\ncat >/dev/null; mkdir \"$4/v1.0.0\"; exit 0\n")
        .failed(1, "not a Btrfs subvolume");
    device
        .run(&["receive", &stream, "--btrfs", "/nonexistent"])
        .failed(1, "install btrfs-progs");
    nothing_remains(&device);
    device.result(&["receive", &stream], "received");
}

#[test]
fn a_full_disk_is_told_and_left_as_it_was() {
    let Some(device) = Device::with_size(128) else {
        return;
    };
    let builder = Builder::with_size(512);
    let small = builder.release("v1.0.0", None);
    let mut noise = vec![0; 160 << 20];
    fs::File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut noise)
        .unwrap();
    fs::write(builder.tree("work/big"), noise).unwrap();
    let big = builder.release("v2.0.0", None);
    let ended = device.run(&["receive", &big]);
    assert_eq!(ended.code, 11, "{ended:?}");
    nothing_remains(&device);
    device.result(&["receive", &small], "received");
}
