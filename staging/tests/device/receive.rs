//! `receive`: what comes in, and what does not.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use op_dbus_bootstate::Digest;
use op_dbus_loopback::sh;

use crate::builder::Builder;
use crate::common::noise;
use crate::fixture::{Device, names, nothing_remains, refusals};

#[test]
fn a_release_says_who_signed_it_and_keeps_its_manifest() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let release = builder.publish("v1.0.0", &[None]);
    let received = device.result(&["receive", &release.stream(0)], "received");
    assert_eq!(received["version"], "v1.0.0");
    assert_eq!(received["read_back"], true);
    let signer = received["signer"].as_str().unwrap();
    assert_eq!(signer.len(), 40, "{signer}");
    let digest = release.manifest.tree.digest.to_string();
    assert_eq!(received["digest"], digest.as_str());

    let signature = fs::read(format!("{}.asc", release.file())).unwrap();
    let kept = |name: &str| fs::read(device.store("manifests").join(name)).unwrap();
    assert_eq!(kept("v1.0.0.json"), fs::read(release.path()).unwrap());
    assert_eq!(kept("v1.0.0.json.asc"), signature);
    assert!(names(&device.store("incoming")).is_empty());

    let log = device.json(&["audit", "log", "-n", "1"]);
    let detail = log["lines"][0]["detail"].as_str().unwrap();
    assert!(
        detail.contains(&format!("signed by {signer}, read back")),
        "{detail}"
    );
    let before = device.snapshot();
    device.result(&["receive", &release.stream(0)], "already-there");
    // Not even the stream is needed to say so.
    fs::write(release.stream(0), "").unwrap();
    device.result(&["receive", &release.file()], "already-there");
    assert_eq!(device.snapshot(), before);
}

#[test]
fn increments_build_on_what_was_received() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    // A name that is no text, and one as long as names may be.
    let odd = std::ffi::OsStr::from_bytes(b"bin/\xff\xfe\n");
    fs::write(builder.tree("work").join(odd), "odd").unwrap();
    fs::write(builder.tree("work").join("n".repeat(255)), "long").unwrap();
    let first = builder.release("v1.0.0", None);
    fs::write(builder.tree("work/bin/more"), noise(100_000)).unwrap();
    fs::write(builder.tree("work").join(odd), "changed").unwrap();
    let second = builder.release("v1.1.0", Some("v1.0.0"));
    device.result(&["receive", &first], "received");
    device.result(&["receive", &second], "received");
    let tree = device.store("deploy/v1.1.0");
    assert_eq!(fs::read(tree.join(odd)).unwrap(), b"changed");
    assert_eq!(fs::read_to_string(tree.join("version")).unwrap(), "v1.1.0");
    device.result(&["verify", "--deep"], "sound");
}

#[test]
fn a_manifest_takes_the_stream_that_fits() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let first = builder.publish("v1.0.0", &[None]);
    fs::write(builder.tree("work/more"), "more").unwrap();
    let second = builder.publish("v1.1.0", &[None, Some("v1.0.0")]);
    let chosen = |release: &crate::builder::Release| {
        let received = device.result(&["receive", &release.file()], "received");
        received["stream"].as_str().unwrap().to_owned()
    };
    assert_eq!(chosen(&first), "v1.0.0.btrfs.zst");
    assert_eq!(chosen(&second), "v1.1.0.from-v1.0.0.btrfs.zst");
    // Where the increment was not fetched, the full one.
    let third = builder.publish("v1.2.0", &[None, Some("v1.1.0")]);
    fs::remove_file(third.stream(1)).unwrap();
    assert_eq!(chosen(&third), "v1.2.0.btrfs.zst");
    // Nothing that fits: which one to fetch is said.
    fs::write(builder.tree("work/x"), "x").unwrap();
    builder.publish("v1.3.0", &[None]);
    let fourth = builder.publish("v1.4.0", &[None, Some("v1.3.0")]);
    fs::remove_file(fourth.stream(0)).unwrap();
    device
        .run(&["receive", &fourth.file()])
        .failed(9, "what fits this device: v1.4.0.btrfs.zst (full)");
    fs::remove_file(fourth.stream(1)).unwrap();
    device
        .run(&["receive", &fourth.file()])
        .failed(9, "none of its streams is beside it");
    assert_eq!(refusals(&device), 2);
}

#[test]
fn standard_input_and_fifos_are_streams_too() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let first = builder.publish("v1.0.0", &[None]);
    let second = builder.publish("v1.1.0", &[None]);
    let receive = |release: &crate::builder::Release, args: &[&str]| {
        let file = release.file();
        let args = [&["receive"], args, &["--manifest", &file, "--json"]].concat();
        let output = device
            .command(&args)
            .stdin(fs::File::open(release.stream(0)).unwrap())
            .output()
            .unwrap();
        crate::common::Ended::from(output)
    };
    assert!(receive(&first, &["-"]).done().contains("received"));
    device.run(&["receive", "-"]).failed(2, "--manifest FILE");
    device
        .run(&["receive", "-", "--manifest", &second.file()])
        .failed(9, "none of the streams");
    receive(&second, &["/dev/stdin"]).done();

    let third = builder.publish("v1.2.0", &[None]);
    let fifo = device.path("fifo");
    sh("mkfifo", &[fifo.to_str().unwrap()]);
    let (from, to) = (third.stream(0), fifo.clone());
    let writer = std::thread::spawn(move || {
        // Later than the reader, which has to wait for it.
        std::thread::sleep(std::time::Duration::from_millis(300));
        fs::write(to, fs::read(from).unwrap()).unwrap();
    });
    let args = [
        "receive",
        fifo.to_str().unwrap(),
        "--manifest",
        &third.file(),
    ];
    device.result(&args, "received");
    writer.join().unwrap();
    let fourth = builder.publish("v1.3.0", &[None]);
    device
        .run(&["receive", "/dev/null", "--manifest", &fourth.file()])
        .failed(1, "is a device");
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
    builder.chmod("bin/app", 0o700);
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
    let Some((mut device, builder)) = Device::blessed() else {
        return;
    };
    let stream = builder.manifest("v1.0.0");
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
fn without_reading_back_the_log_says_so() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    let received = device.result(&["receive", &stream, "--no-read-back"], "received");
    assert_eq!(received["read_back"], false);
    let log = device.json(&["audit", "log", "-n", "1"]);
    let detail = log["lines"][0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("not read back (--no-read-back)"),
        "{detail}"
    );

    // What reading back is for: the manifest promises another tree.
    let mut other = builder.publish("v1.1.0", &[None]);
    other.edit(|manifest| manifest.tree.digest = Digest([7; 32]));
    device
        .run(&["receive", &other.file()])
        .failed(9, "what the disk holds has digest");
    assert_eq!(names(&device.store("deploy")), ["v1.0.0"]);
    device.result(&["receive", &other.file(), "--no-read-back"], "received");
    device.run(&["verify", "v1.1.0"]).done();
    let ended = device.run(&["verify", "v1.1.0", "--deep"]);
    assert_eq!(ended.code, 9, "{ended:?}");
    assert!(ended.stdout.contains("what the disk holds"), "{ended:?}");
}

#[test]
fn privileges_are_for_those_the_manifest_lists() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    builder.chmod("bin/app", 0o4755);
    let null = builder.tree("work/null");
    sh("mknod", &[null.to_str().unwrap(), "c", "1", "3"]);
    let script = "import os, sys; os.setxattr(sys.argv[1], 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))";
    fs::write(builder.tree("work/bin/ping"), "ping").unwrap();
    let ping = builder.tree("work/bin/ping");
    sh("python3", &["-c", script, ping.to_str().unwrap()]);
    let mut release = builder.publish("v1.0.0", &[None]);
    let allowed = release.manifest.allow.clone();
    assert_eq!(allowed.setuid, ["bin/app"]);
    assert_eq!(allowed.devices, ["null"]);
    assert_eq!(allowed.capabilities, ["bin/ping"]);

    // Nothing listed: the stream is refused at the first command. Something
    // else listed: the tree is.
    let other = || vec!["bin/other".to_owned()];
    for (index, words) in ["setuid", "device", "capabilit"].into_iter().enumerate() {
        for listed in [Vec::new(), other()] {
            release.edit(|manifest| {
                manifest.allow = allowed.clone();
                *match index {
                    0 => &mut manifest.allow.setuid,
                    1 => &mut manifest.allow.devices,
                    _ => &mut manifest.allow.capabilities,
                } = listed;
            });
            for args in [&["receive"][..], &["receive", "--no-read-back"]] {
                let file = release.file();
                device.run(&[args, &[&file]].concat()).failed(9, words);
                nothing_remains(&device);
            }
        }
    }
    release.edit(|manifest| manifest.allow = allowed);
    device.result(&["receive", &release.file()], "received");
    device.result(&["verify", "v1.0.0"], "sound");
}

#[test]
fn what_steers_overlayfs_is_never_allowed() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let mut release = builder.publish("v2.0.0", &[None]);
    let script = "import os, sys; os.setxattr(sys.argv[1], 'user.overlay.opaque', b'y')";
    let bin = builder.tree("work/bin");
    sh("python3", &["-c", script, bin.to_str().unwrap()]);
    let tree = builder.tree("v1.0.0");
    op_dbus_btrfs::snapshot(&builder.tree("work"), &tree, true).unwrap();
    let stream = device.path("plain");
    let (plain, tree) = (stream.to_str().unwrap(), tree.to_str().unwrap());
    sh("btrfs", &["-q", "send", "-f", plain, tree]);
    release.forge(0, &fs::read(&stream).unwrap());
    let uuid = op_dbus_btrfs::info_of(&builder.tree("v1.0.0"))
        .unwrap()
        .uuid;
    release.edit(|manifest| manifest.streams[0].uuid.0 = uuid);
    device
        .run(&["receive", &release.file()])
        .failed(9, "overlay");
    nothing_remains(&device);
}

#[test]
fn the_epoch_s_floor_and_the_quarantine_hold_before_anything_is_read() {
    let Some((mut device, builder)) = Device::blessed() else {
        return;
    };
    fs::write(builder.tree("work/version"), "v2.0.1").unwrap();
    let mut newer = builder.publish("v2.0.1", &[None]);
    newer.edit(|manifest| manifest.epoch = 2);
    let received = device.result(&["receive", &newer.file()], "received");
    assert_eq!(received["epoch"], 2);
    device.result(&["stage", "v2.0.1"], "on-trial");
    device.boot();
    device.result(&["bless"], "trial");

    fs::write(builder.tree("work/version"), "old").unwrap();
    let old = builder.publish("v1.5.0", &[None]);
    device
        .run(&["receive", &old.file()])
        .failed(8, "below this device's floor 2");
    assert!(!names(&device.store("deploy")).contains(&"v1.5.0".to_owned()));
    device.result(&["receive", &old.file(), "--allow-old-epoch"], "received");
    let log = device.json(&["audit", "log", "-n", "1"]);
    let detail = log["lines"][0]["detail"].as_str().unwrap();
    assert!(detail.ends_with("; epoch floor overridden"), "{detail}");
    device
        .run(&["stage", "v1.5.0"])
        .failed(8, "below this device's floor 2");

    // The same content as one that failed, under a new name.
    device.result(&["stage", "v1.5.0", "--allow-old-epoch"], "on-trial");
    device.boot();
    device.result(&["condemn"], "condemned");
    let mut again = builder.publish("v2.5.0", &[None]);
    again.edit(|manifest| manifest.epoch = 2);
    device
        .run(&["receive", &again.file()])
        .failed(8, "is quarantined");
    device.result(
        &["receive", &again.file(), "--allow-quarantined"],
        "received",
    );
    let status = device.status();
    assert_eq!(
        status["quarantine"].as_array().unwrap().len(),
        1,
        "{status}"
    );
}

#[test]
fn what_the_record_names_may_come_back_whatever_its_epoch() {
    let Some((mut device, builder)) = Device::blessed() else {
        return;
    };
    fs::write(builder.tree("work/version"), "v2").unwrap();
    let mut new = builder.publish("v2.1.0", &[None]);
    new.edit(|manifest| manifest.epoch = 2);
    device.result(&["receive", &new.file()], "received");
    device.result(&["stage", "v2.1.0"], "on-trial");
    device.boot();
    device.result(&["bless"], "trial");
    // The fallback, of the old epoch, is lost.
    op_dbus_btrfs::delete_subvolume(&device.store("deploy/v1.0.0")).unwrap();
    let fallback = builder.manifest("v1.0.0");
    device.result(&["receive", &fallback], "received");
    device.result(&["verify"], "sound");
    assert_eq!(device.status()["result"], "ok");
}

#[test]
fn a_version_is_never_replaced_by_another_of_its_name() {
    let Some((device, builder)) = Device::blessed() else {
        return;
    };
    let other = Builder::new();
    let second = other.release("v1.0.0", None);
    let before = names(&device.store("deploy"));
    device
        .run(&["receive", &second])
        .failed(8, "another release of this name");
    // Not even where it is lost, as long as the boot record goes by it.
    op_dbus_btrfs::delete_subvolume(&device.store("deploy/v1.0.0")).unwrap();
    device
        .run(&["receive", &second])
        .failed(8, "this device's good version");
    device.result(&["receive", &builder.manifest("v1.0.0")], "received");
    assert_eq!(names(&device.store("deploy")), before);
    let clash = other.publish("v1.0.0-x.deployment", &[None]);
    device
        .run(&["receive", &clash.file()])
        .failed(8, ".deployment");
}

#[test]
fn a_program_is_told_how_far_it_is() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    let ended = device.run(&[
        "receive",
        &stream,
        "--json",
        "--progress",
        "--for-uid",
        "1000",
    ]);
    let result: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(result["result"], "received");
    let lines: Vec<serde_json::Value> = ended
        .stderr
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["progress"].clone())
        .collect();
    let mut phases: Vec<_> = lines
        .iter()
        .map(|line| line["phase"].as_str().unwrap())
        .collect();
    phases.dedup();
    assert_eq!(
        phases,
        ["receiving", "writing", "reading-back", "publishing"]
    );
    let done: Vec<_> = lines
        .iter()
        .filter(|line| line["phase"] == "receiving")
        .map(|line| {
            (
                line["done"].as_u64().unwrap(),
                line["total"].as_u64().unwrap(),
            )
        })
        .collect();
    let (first, last) = (done.first().unwrap(), done.last().unwrap());
    assert_eq!((first.0, last.0), (0, last.1), "{done:?}");
    assert!(done.is_sorted() && done.len() <= 102, "{done:?}");
    // Without --progress a program that reads errors finds nothing else there.
    let again = device.run(&["receive", &stream, "--json"]);
    assert_eq!(again.stderr, "");
    let log = device.json(&["audit", "log"]);
    let received = log["lines"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["event"] == "received");
    let by = received.unwrap()["actor"].as_str().unwrap();
    assert!(by.ends_with(" for uid 1000"), "{by}");
}
