//! Whose releases are taken, and which files a manifest vouches for.

use std::fs;

use crate::builder::{Builder, Release};
use crate::common::Ended;
use crate::fixture::{Device, flip, names, nothing_remains, refusals};
use crate::keys::keys;

fn signature(release: &Release) -> std::path::PathBuf {
    format!("{}.asc", release.file()).into()
}

/// A verification that finds this in its table.
#[track_caller]
fn unsound(device: &Device, args: &[&str], words: &str) {
    let ended = device.run(args);
    assert_eq!(ended.code, 9, "{ended:?}");
    assert!(ended.stdout.contains("NOT SOUND"), "{ended:?}");
    assert!(ended.stdout.contains(words), "{words}: {ended:?}");
    let error = ended.stderr.lines().next_back().unwrap();
    assert!(error.contains("not sound); "), "{error}");
}

#[test]
fn nothing_comes_in_without_the_signature_of_a_key_that_is_trusted() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let mut release = builder.publish("v1.0.0", &[None]);
    let stream = release.stream(0);
    let good = fs::read(signature(&release)).unwrap();
    let manifest = fs::read(release.path()).unwrap();
    let refused = |code, words| {
        device.run(&["receive", &stream]).failed(code, words);
        nothing_remains(&device);
    };

    fs::remove_file(signature(&release)).unwrap();
    refused(9, "is not signed");
    fs::write(signature(&release), "not a signature").unwrap();
    refused(9, "v1.0.0.json.asc: ");
    release.sign_as("other");
    refused(9, "is not among the trusted ones");
    // A good signature, of something else.
    fs::write(release.beside("else"), "something else").unwrap();
    keys().sign("release", &release.beside("else"));
    fs::copy(release.beside("else.asc"), signature(&release)).unwrap();
    refused(9, "does not fit what was signed");
    fs::write(signature(&release), &good).unwrap();
    // One character that changes nothing a parser would see.
    fs::write(release.path(), [&manifest[..], b"\n"].concat()).unwrap();
    refused(9, "does not fit what was signed");
    fs::remove_file(release.path()).unwrap();
    refused(9, "there is no manifest beside it");
    device
        .run(&["receive", &release.file()])
        .failed(1, "v1.0.0.json");
    // Signed, and no manifest all the same.
    fs::write(release.path(), "{}").unwrap();
    keys().sign("release", &release.path());
    refused(9, "have it made again");
    release.edit(|manifest| manifest.product = "other-product".to_owned());
    refused(
        8,
        "is a release of other-product, and this device takes op-dbus",
    );
    // What was refused in the same words is logged once.
    assert_eq!(refusals(&device), 8);

    release.edit(|manifest| manifest.product = "op-dbus".to_owned());
    device.result(&["receive", &stream], "received");
    device.result(&["audit", "verify"], "sound");
}

#[test]
fn keys_come_and_go() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let first = builder.publish("v1.0.0", &[None]);
    let second = builder.publish("v1.1.0", &[None]);
    let third = builder.publish("v1.2.0", &[None]);
    for release in [&first, &second] {
        release.sign_as("revoked");
    }
    third.sign_as("other");
    let export = |user: &str| keys().export(user, &device.path(&format!("{user}.asc")));

    // A second key is trusted beside the first.
    device.run(&["receive", &first.file()]).failed(9, "trusted");
    let made = device.result(&["prepare", "--key", &export("revoked")], "prepared");
    assert_eq!(made["made"][0], "release key revoked.asc");
    device.result(&["prepare", "--key", &export("revoked")], "nothing-to-do");
    device.result(&["receive", &first.file()], "received");
    assert_eq!(device.status()["release_keys"], 2);

    // It is revoked: what it signed is trusted no more, whenever that was.
    let revoked = keys().revoked_certificate("revoked");
    fs::write(device.path("revoked.asc"), revoked).unwrap();
    let path = device.path("revoked.asc");
    let made = device.result(&["prepare", "--key", path.to_str().unwrap()], "prepared");
    assert_eq!(made["made"][0], "release key revoked-2.asc");
    device
        .run(&["receive", &second.file()])
        .failed(9, "revoked");
    assert_eq!(names(&device.store("deploy")), ["v1.0.0"]);
    assert_eq!(device.status()["release_keys"], 1);
    unsound(&device, &["verify"], "revoked");

    // Another one in its place.
    device.result(&["prepare", "--key", &export("other")], "prepared");
    device.result(&["receive", &third.file()], "received");

    // None at all.
    let dir = device.path("root/etc/op-dbus/keys.d");
    for name in names(&dir) {
        fs::remove_file(dir.join(name)).unwrap();
    }
    device
        .run(&["receive", &third.file()])
        .failed(3, "prepare --key FILE");
    let status = device.status();
    assert_eq!(status["release_keys"], 0);
    assert_eq!(status["result"], "attention");
    assert!(status["next"].to_string().contains("--key"), "{status}");
}

#[test]
fn only_certificates_become_keys() {
    let Some(device) = Device::bare(256) else {
        return;
    };
    let path = device.path("key.asc");
    let text = path.to_str().unwrap();
    let prepare = ["prepare", "--device", device.disk.node(), "--key", text];
    device.run(&prepare).failed(1, "No such file");
    for content in [
        "",
        "no certificate\n",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nx",
    ] {
        fs::write(&path, content).unwrap();
        device.run(&prepare).failed(9, "key.asc: ");
    }
    assert!(!device.layout.config().exists(), "nothing was made");
    keys().export("release", &path);
    let args = [&prepare[..], &["--product", "gate"]].concat();
    device.result(&args, "prepared");
    let config = fs::read_to_string(device.layout.config()).unwrap();
    assert!(config.contains("[receive]\nproduct = \"gate\""), "{config}");
    let release = Builder::new().publish("v1.0.0", &[None]);
    // The builder is gone, and so are its files.
    device
        .run(&["receive", &release.file()])
        .failed(1, "No such");
}

#[test]
fn the_section_of_the_configuration_is_checked() {
    let Some((device, builder)) = Device::blessed() else {
        return;
    };
    let release = builder.manifest("v1.0.0");
    let path = device.layout.config();
    let good = fs::read_to_string(&path).unwrap();
    for (line, words) in [
        ("produkt = \"x\"", "unknown field"),
        ("keys = \"keys.d\"", "receive.keys"),
        ("headroom_mib = 0", "receive.headroom_mib"),
    ] {
        let text = good.replace("product = \"op-dbus\"", line);
        fs::write(&path, text).unwrap();
        device.run(&["receive", &release]).failed(3, words);
        device.run(&["verify"]).failed(3, words);
        let problems = device.status()["problems"].to_string();
        assert!(problems.contains(words), "{problems}");
    }
    // A mistake elsewhere is no reason not to take what mends it.
    fs::write(&path, format!("{good}\n[limits]\ntries = 0\n")).unwrap();
    device.result(&["receive", &release], "already-there");
}

#[test]
fn verify_tells_what_is_wrong_with_a_version() {
    let Some((device, builder)) = Device::blessed() else {
        return;
    };
    let unsound = |args: &[&str], words| unsound(&device, &[&["verify"], args].concat(), words);
    device.result(&["verify", "v1.0.0", "--deep"], "sound");
    device
        .run(&["verify", "v9.9.9"])
        .failed(7, "is not in the store");

    // A block of the disk goes bad.
    let app = fs::read(device.store("deploy/v1.0.0/bin/app")).unwrap();
    let image = device.path("disk");
    let bytes = fs::read(&image).unwrap();
    let at = bytes
        .chunks_exact(4096)
        .position(|block| block == &app[..4096])
        .unwrap();
    flip(&image, at as u64 * 4096 + 100);
    device.result(&["verify", "v1.0.0"], "sound");
    unsound(&["v1.0.0", "--deep"], "can't be read");
    flip(&image, at as u64 * 4096 + 100);
    device.result(&["verify", "v1.0.0", "--deep"], "sound");

    let kept = device.store("manifests/v1.0.0.json");
    let manifest = fs::read(&kept).unwrap();
    fs::write(&kept, [&manifest[..], b" "].concat()).unwrap();
    unsound(&[], "does not fit what was signed");
    fs::remove_file(&kept).unwrap();
    unsound(&["v1.0.0"], "v1.0.0.json");
    // A release of the same name, truly signed.
    let other = Builder::new().publish("v1.0.0", &[None]);
    fs::write(&kept, other.manifest.to_bytes()).unwrap();
    keys().sign("release", &kept);
    unsound(&[], "another digest than the receipt");
    fs::remove_file(&kept).unwrap();
    // Received again, the version is there already, and its manifest comes back.
    device.result(&["receive", &builder.manifest("v1.0.0")], "already-there");
    device.result(&["verify"], "sound");
    assert_eq!(fs::read(&kept).unwrap(), manifest);

    let tree = device.store("deploy/v1.0.0");
    op_dbus_btrfs::set_read_only(&tree, false).unwrap();
    fs::write(tree.join("version"), "tampered").unwrap();
    op_dbus_btrfs::sync_filesystem(&tree).unwrap();
    unsound(&[], "no longer read-only");
    unsound(&["--deep"], "what the disk holds");
}

#[test]
fn verify_checks_the_files_of_a_release() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    builder.publish("v1.0.0", &[None]);
    fs::write(builder.tree("work/more"), "more").unwrap();
    let release = builder.publish("v1.1.0", &[None, Some("v1.0.0")]);
    // No store is needed for it, only the keys.
    let verify = |what: &str| -> Ended { device.run(&["verify", what, "--store", "/nonexistent"]) };
    let all = verify(&release.file()).done();
    assert_eq!(all.lines().count(), 3, "{all}");
    verify(&release.stream(1)).done();
    flip(release.stream(0).as_ref(), 70_000);
    unsound(&device, &["verify", &release.file()], "chunk 1");
    verify(&release.stream(1)).done();
    unsound(&device, &["verify", &release.stream(0)], "chunk 1");
    fs::remove_file(release.stream(0)).unwrap();
    assert!(verify(&release.file()).done().contains("it is not here"));
    release.sign_as("other");
    verify(&release.file()).failed(9, "not among the trusted ones");
    verify(&release.stream(1)).failed(9, "not among the trusted ones");
}
