//! Making backups, and looking at them.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::story::backup;
use super::trees::everything;
use crate::common::{Ended, noise};
use crate::crash::signal;
use crate::fixture::{Device, flip, names};

/// A device with an overlay of everything over its good version.
pub(super) fn used() -> Option<(Device, crate::builder::Builder)> {
    let (device, builder) = Device::blessed()?;
    overlay(&device, "v1.0.0");
    Some((device, builder))
}

/// Makes an overlay as the activator does, with everything in it.
pub(super) fn overlay(device: &Device, name: &str) {
    let path = device.store("overlays").join(name);
    op_dbus_btrfs::create_subvolume(&path).unwrap();
    fs::create_dir_all(path.join("work")).unwrap();
    fs::create_dir_all(path.join("upper")).unwrap();
    everything(&path.join("upper"));
}

#[test]
fn a_backup_appears_whole_and_for_its_owner_only() {
    let Some((device, _builder)) = used() else {
        return;
    };
    let file = device.path("b");
    let text = file.to_str().unwrap();
    let digest = backup(&device, &file);
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    device
        .run(&["backup", "create", text])
        .failed(8, "is there already");
    device
        .run(&["backup", "create", "/nonexistent/b"])
        .failed(1, "No such file");
    device
        .run(&["backup", "create", "/dev/null"])
        .failed(1, "regular file");

    let verified = device.result(&["backup", "verify", text], "sound");
    assert_eq!(verified["digest"], digest.as_str());
    device.result(&["backup", "verify", text, "--digest", &digest], "sound");
    let other = "0".repeat(64);
    device
        .run(&["backup", "verify", text, "--digest", &other])
        .failed(9, "not the one with digest");
    let shown = device.result(&["backup", "show", text], "shown");
    assert_eq!(shown["good"]["version"], "v1.0.0");
    assert_eq!(shown["streams"][0]["place"], "overlays/v1.0.0");
    let list = device.run(&["backup", "list", text]).done();
    assert!(list.contains("comes back from v1.0.0.btrfs.zst"), "{list}");
    let print = |name| device.run(&["backup", "show", text, "--print", name]);
    let configuration = fs::read_to_string(device.layout.config()).unwrap();
    assert_eq!(print("device/deploy.toml").done(), configuration);
    print("device/none").failed(1, "holds no file");
    for command in ["verify", "show"] {
        let configuration = device.layout.config();
        let configuration = configuration.to_str().unwrap();
        device
            .run(&["backup", command, configuration])
            .failed(9, "is no backup");
    }
}

#[test]
fn damage_anywhere_shows() {
    let Some((device, _builder)) = used() else {
        return;
    };
    let (file, copy) = (device.path("b"), device.path("copy"));
    backup(&device, &file);
    let length = file.metadata().unwrap().len();
    let verify = || device.run(&["backup", "verify", copy.to_str().unwrap()]);
    for step in 0..24 {
        fs::copy(&file, &copy).unwrap();
        flip(&copy, (length - 1) * step / 23);
        verify().failed(9, "backup");
    }
    for step in 0..12 {
        fs::copy(&file, &copy).unwrap();
        let cut = File::options().write(true).open(&copy).unwrap();
        cut.set_len((length - 1) * step / 11).unwrap();
        verify().failed(9, "");
    }
    fs::copy(&file, &copy).unwrap();
    verify().done();
}

#[test]
fn standard_output_takes_a_backup_too() {
    let Some((device, _builder)) = used() else {
        return;
    };
    let file = device.path("b");
    let mut command = device.command(&["backup", "create", "-"]);
    let output = command
        .stdout(File::create(&file).unwrap())
        .output()
        .unwrap();
    let ended = Ended::from(output);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("digest"), "{}", ended.stderr);
    device.result(&["backup", "verify", file.to_str().unwrap()], "sound");
    // Whoever reads it went away.
    fs::write(device.store("overlays/v1.0.0/upper/big"), noise(8 << 20)).unwrap();
    let mut command = device.command(&["backup", "create", "-"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1000];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    Ended::from(child.wait_with_output().unwrap()).failed(1, "Broken pipe");
    assert!(names(&device.store("incoming")).is_empty());
}

/// A backup that waits for whoever reads it, with its snapshots taken.
fn waiting(device: &Device) -> std::process::Child {
    let child = device
        .command(&["backup", "create", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let give_up = Instant::now() + Duration::from_secs(60);
    let area = device
        .store("incoming")
        .join(format!("backup.{}", child.id()));
    while !area.join("0000").exists() {
        assert!(Instant::now() < give_up, "no snapshot is taken");
        thread::sleep(Duration::from_millis(10));
    }
    // Until it is past the moment in which it holds the lock.
    while device.run(&["cancel"]).code == 6 {}
    child
}

#[test]
fn a_backup_holds_nobody_up_and_shows_the_moment_it_was_begun() {
    let Some((device, builder)) = used() else {
        return;
    };
    let upper = device.store("overlays/v1.0.0/upper");
    fs::write(upper.join("big"), noise(8 << 20)).unwrap();
    fs::write(upper.join("moment"), "before").unwrap();
    let mut child = waiting(&device);
    fs::write(upper.join("moment"), "after").unwrap();
    fs::remove_file(upper.join("file")).unwrap();
    // Whoever clears leftovers knows that this is none.
    let next = builder.release("v1.1.0", Some("v1.0.0"));
    device.result(&["receive", &next], "received");
    device.run(&["prune"]).done();
    device.result(&["stage", "v1.1.0"], "on-trial");
    let mut bytes = Vec::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    Ended::from(child.wait_with_output().unwrap()).done();
    assert!(names(&device.store("incoming")).is_empty());

    let file = device.path("b");
    fs::write(&file, bytes).unwrap();
    let shown = device.result(&["backup", "show", file.to_str().unwrap()], "shown");
    assert!(shown["trial"].is_null(), "{shown}");
    let other = Device::new().unwrap();
    let releases = builder.manifest("v1.0.0");
    let releases = std::path::Path::new(&releases).parent().unwrap();
    let args = [
        "restore",
        file.to_str().unwrap(),
        "--releases",
        releases.to_str().unwrap(),
    ];
    other.result(&args, "restored");
    let moment = fs::read_to_string(other.store("overlays/v1.0.0/upper/moment")).unwrap();
    assert_eq!(moment, "before");
    assert!(other.store("overlays/v1.0.0/upper/file").exists());
}

#[test]
fn what_a_killed_backup_leaves_is_cleared_by_whoever_comes_next() {
    let Some((device, builder)) = used() else {
        return;
    };
    fs::write(device.store("overlays/v1.0.0/upper/big"), noise(8 << 20)).unwrap();
    let next = builder.release("v1.1.0", Some("v1.0.0"));
    for clearing in [&["prune"][..], &["receive", &next], &["backup"]] {
        let mut child = waiting(&device);
        signal(&child, Signal::SIGKILL);
        child.wait().unwrap();
        assert_eq!(names(&device.store("incoming")).len(), 1);
        if clearing == ["backup"] {
            backup(&device, &device.path("b"));
        } else {
            device.run(clearing).done();
        }
        assert!(names(&device.store("incoming")).is_empty(), "{clearing:?}");
    }
    // One that is asked to end clears up itself.
    let mut child = waiting(&device);
    signal(&child, Signal::SIGTERM);
    thread::sleep(Duration::from_millis(100));
    let mut bytes = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_end(&mut bytes).unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stderr.contains("interrupted by a signal"),
        "{ended:?}"
    );
    assert!(names(&device.store("incoming")).is_empty());
}

#[test]
fn a_backup_does_not_eat_the_room_the_device_needs() {
    let Some((device, _builder)) = used() else {
        return;
    };
    fs::write(device.store("overlays/v1.0.0/upper/big"), noise(30 << 20)).unwrap();
    // Beside the store, in its own file system, with little left above the headroom.
    let text = fs::read_to_string(device.layout.config()).unwrap();
    let found = rustix::fs::statvfs(&device.layout.store).unwrap();
    let available = (found.f_bavail * found.f_frsize) >> 20;
    let text = text.replace(
        "[receive]\n",
        &format!("[receive]\nheadroom_mib = {}\n", available - 12),
    );
    fs::write(device.layout.config(), text).unwrap();
    let top = device.path("top");
    fs::create_dir(&top).unwrap();
    op_dbus_loopback::sh(
        "mount",
        &[
            "-t",
            "btrfs",
            "-o",
            "subvolid=5",
            device.disk.node(),
            top.to_str().unwrap(),
        ],
    );
    let file = top.join("b");
    device
        .run(&["backup", "create", file.to_str().unwrap()])
        .failed(11, "kept free for the running system");
    assert_eq!(names(&top), ["@op-dbus"]);
    assert!(names(&device.store("incoming")).is_empty());
    // Elsewhere it may.
    backup(&device, &device.path("b"));
    op_dbus_loopback::unmount(&top);
}
