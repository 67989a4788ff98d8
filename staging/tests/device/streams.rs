//! `receive`: streams that are not what the manifest says, or do not fit.

use std::fs;
use std::process::Command;

use op_dbus_bootstate::{Digest, Uuid};

use crate::builder::Builder;
use crate::common::{PROGRAM, noise};
use crate::fixture::{Device, flip, names, nothing_remains, refusals};

#[test]
fn a_file_that_is_not_the_one_in_the_manifest_is_refused() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let release = builder.publish("v1.0.0", &[None]);
    let other = Builder::new().publish("v1.0.0", &[None]);
    let file = release.stream(0);
    let bytes = fs::read(&file).unwrap();
    let refused = |args: &[&str], words: &str| {
        let args = [&["receive"], args].concat();
        device.run(&args).failed(9, words);
        nothing_remains(&device);
    };
    flip(file.as_ref(), 70_000);
    refused(&[&file], "chunk 1, 65536 bytes from 65536, is not the one");
    fs::write(&file, &bytes).unwrap();
    flip(file.as_ref(), 100);
    refused(&[&file], "does not begin as the manifest of v1.0.0 says");
    refused(&[&release.file()], "chunk 0");
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    refused(&[&file], "it ends within chunk");
    fs::write(&file, [&bytes[..], b"x"].concat()).unwrap();
    refused(&[&file], "it goes on after");
    fs::write(&file, "").unwrap();
    refused(&[&file], "does not begin as");
    // Another release's stream, by its name and by its manifest.
    let second = builder.publish("v1.0.1", &[None]);
    fs::copy(second.stream(0), &file).unwrap();
    refused(&[&file], "does not begin as");
    fs::write(&file, &bytes).unwrap();
    refused(
        &[&file, "--manifest", &second.file()],
        "none of the streams",
    );
    // What was refused in the same words is logged once.
    assert_eq!(refusals(&device), 6);
    drop(other);
    device.result(&["receive", &file], "received");
}

#[test]
fn a_signed_stream_is_not_trusted_to_make_sense() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let mut release = builder.publish("v1.0.0", &[None]);
    let good = release.manifest.clone();
    let plain = release.plain(0);
    let mut damaged = plain.clone();
    damaged[150_000] ^= 1;
    let cases: [(&[u8], &str); 5] = [
        (b"nothing of the kind", "not a Btrfs send stream"),
        (&plain[..plain.len() - 1], "cut off"),
        (&[&plain[..], b"x"].concat(), "after the end"),
        (&[&plain[..], &plain[..]].concat(), "after the end"),
        (&damaged, "checksum mismatch"),
    ];
    for (content, words) in cases {
        release.forge(0, content);
        device.run(&["receive", &release.file()]).failed(9, words);
        nothing_remains(&device);
    }
    release.forge(0, &plain);
    release.edit(|manifest| manifest.streams[0].uuid = Uuid([7; 16]));
    device
        .run(&["receive", &release.file()])
        .failed(9, "of another subvolume than the manifest says");
    release.edit(|manifest| {
        *manifest = good.clone();
        manifest.tree.bytes += 1;
    });
    release.forge(0, &plain);
    device
        .run(&["receive", &release.file()])
        .failed(9, "the manifest says");
    nothing_remains(&device);
    release.edit(|manifest| *manifest = good.clone());
    release.forge(0, &plain);
    device.result(&["receive", &release.file()], "received");
}

#[test]
fn an_increment_says_what_it_needs_and_what_would_fit() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let base = builder.publish("v1.0.0", &[None]);
    fs::write(builder.tree("work/more"), "more").unwrap();
    builder.publish("v1.1.0", &[None]);
    fs::write(builder.tree("work/more"), "still more").unwrap();
    let both = builder.publish("v1.2.0", &[None, Some("v1.1.0"), Some("v1.0.0")]);
    let step = both.stream(1);
    let refused = |words: &[&str]| {
        let ended = device.run(&["receive", &step]);
        for words in words {
            assert!(ended.stderr.contains(words), "{words}: {ended:?}");
        }
        ended.failed(9, "builds on v1.1.0 (UUID ");
        assert!(names(&device.store("incoming")).is_empty());
    };
    refused(&["is not in the store", "v1.2.0.btrfs.zst (full)"]);
    device.result(&["receive", &base.file()], "received");
    refused(&["v1.2.0.from-v1.0.0.btrfs.zst (builds on v1.0.0)"]);

    // The version is here: of another build, then with another content.
    let elsewhere = Builder::new();
    let mut other = elsewhere.publish("v1.1.0", &[None]);
    device.result(&["receive", &other.file()], "received");
    refused(&["has another content"]);
    let wanted = &both.manifest.streams[1].parent.clone().unwrap();
    other.manifest.version = "v1.1.0+other".parse().unwrap();
    other.edit(|manifest| manifest.tree.digest = wanted.digest);
    device.result(&["receive", &other.file(), "--no-read-back"], "received");
    op_dbus_btrfs::delete_subvolume(&device.store("deploy/v1.1.0")).unwrap();
    for name in ["deployment.json", "json", "json.asc"] {
        fs::remove_file(device.store(&format!("manifests/v1.1.0.{name}"))).unwrap();
    }
    refused(&["is of another build"]);

    // It is here, but was written to.
    device.result(&["receive", &builder.manifest("v1.1.0")], "received");
    let tree = device.store("deploy/v1.1.0");
    op_dbus_btrfs::set_read_only(&tree, false).unwrap();
    fs::write(tree.join("more"), "tampered").unwrap();
    op_dbus_btrfs::set_read_only(&tree, true).unwrap();
    op_dbus_btrfs::sync_filesystem(&tree).unwrap();
    refused(&["in the store, but not usable: changed since it was published"]);
    device.result(&["receive", &builder.manifest("v1.1.0")], "received");
    device.result(&["receive", &step], "received");
}

#[test]
fn the_same_uuid_with_another_content_is_no_parent() {
    let Some((device, builder)) = Device::blessed() else {
        return;
    };
    fs::write(builder.tree("work/more"), "more").unwrap();
    let mut step = builder.publish("v1.1.0", &[Some("v1.0.0")]);
    let good = step.manifest.clone();
    step.edit(|manifest| {
        manifest.streams[0].parent.as_mut().unwrap().digest = Digest([7; 32]);
    });
    // Named by itself, or by its manifest, which has nothing else.
    for file in [step.stream(0), builder.manifest("v1.1.0")] {
        device
            .run(&["receive", &file])
            .failed(9, "has another content (digest ");
    }
    // What the stream itself says must be what the manifest says.
    step.edit(|manifest| {
        *manifest = good.clone();
        manifest.streams[0].parent = None;
    });
    device
        .run(&["receive", &step.stream(0)])
        .failed(9, "builds on another subvolume than the manifest says");
    step.edit(|manifest| *manifest = good);
    device.result(&["receive", &step.stream(0)], "received");
}

#[test]
fn a_full_disk_is_told_before_and_in_the_middle_and_left_as_it_was() {
    let Some(device) = Device::with_size(128) else {
        return;
    };
    let builder = Builder::with_size(512);
    let small = builder.release("v1.0.0", None);
    fs::write(builder.tree("work/big"), noise(160 << 20)).unwrap();
    let mut big = builder.publish("v2.0.0", &[None, Some("v1.0.0")]);
    let ended = device.run(&["receive", &big.stream(0)]);
    assert!(ended.stderr.contains("needs about 16"), "{ended:?}");
    ended.failed(
        11,
        "32 MiB are kept free for the running system, but the store has",
    );
    nothing_remains(&device);

    // A manifest that promises too little: the disk says so itself.
    big.edit(|manifest| {
        manifest.streams[0].content_bytes = 0;
        manifest.tree.entries = 1;
    });
    device.run(&["receive", &big.stream(0)]).failed(11, "");
    nothing_remains(&device);
    device.result(&["receive", &small], "received");

    let path = device.layout.config();
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace("[receive]\n", "[receive]\nheadroom_mib = 4000\n");
    fs::write(&path, text).unwrap();
    let next = builder.release("v1.0.1", None);
    device
        .run(&["receive", &next])
        .failed(11, "4000 MiB are kept free");
}

#[test]
fn memory_stays_small_whatever_comes_in() {
    let Some(device) = Device::with_size(512) else {
        return;
    };
    let builder = Builder::with_size(512);
    // Half of it compresses well, so that the decompressor has its whole window.
    let mut content = noise(50 << 20);
    content.extend(vec![b'x'; 50 << 20]);
    fs::write(builder.tree("work/big"), content).unwrap();
    let stream = builder.release("v1.0.0", None);
    let script = "import os, sys\npid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])\n\
         _, status, usage = os.wait4(pid, 0)\nprint(status, usage.ru_maxrss)";
    let program = device.command(&["receive", &stream]);
    let output = Command::new("python3")
        .args(["-c", script, PROGRAM])
        .args(program.get_args())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().next_back().unwrap();
    let (status, kib) = last.split_once(' ').unwrap();
    assert_eq!(status, "0", "{text} {:?}", output.stderr);
    let kib: u64 = kib.parse().unwrap();
    println!("peak memory: {kib} KiB");
    assert!(kib < 64 << 10, "{kib} KiB");
}

/// The whole way, with the build side's own commands.
#[test]
fn what_the_build_side_makes_the_device_takes() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let build = builder.tree("");
    let build = build.to_str().unwrap();
    fs::create_dir_all(builder.tree("work/lib/systemd/system")).unwrap();
    fs::write(
        builder.tree("work/lib/systemd/system/app.service"),
        "[Service]\n",
    )
    .unwrap();
    builder.chmod("bin/app", 0o755);
    let golden = builder.tree("work");
    let stage = |args: &[&str]| {
        let output = Command::new(PROGRAM)
            .args(args)
            .env("GNUPGHOME", crate::keys::keys().home())
            .output()
            .unwrap();
        crate::common::Ended::from(output).done()
    };
    let place = ["--build", build];
    let from = ["--golden", golden.to_str().unwrap()];
    let manifest = |version: &str| format!("{build}/releases/{version}.json");
    stage(&[&["snapshot", "v1.0.0"][..], &place, &from].concat());
    stage(&[&["send", "v1.0.0"][..], &place].concat());
    fs::write(builder.tree("work/bin/more"), noise(200_000)).unwrap();
    fs::create_dir_all(builder.tree("work/share/op-dbus")).unwrap();
    fs::write(builder.tree("work/share/op-dbus/epoch"), "3\n").unwrap();
    stage(&[&["snapshot", "v1.1.0"][..], &place, &from].concat());
    stage(
        &[
            &["send", "v1.1.0", "--full", "--parent", "auto"][..],
            &place,
        ]
        .concat(),
    );
    for version in ["v1.0.0", "v1.1.0"] {
        device
            .run(&["receive", &manifest(version)])
            .failed(9, "is not signed");
        stage(&["sign", &manifest(version), "--key", "release"]);
        device.run(&["verify", &manifest(version)]).done();
        device.result(&["receive", &manifest(version)], "received");
    }
    let log = device.json(&["audit", "log", "-n", "1"]);
    assert!(log.to_string().contains("epoch 3, signed by"), "{log}");
    device.result(&["verify", "--deep"], "sound");
}
