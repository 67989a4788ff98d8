//! Bad input: one line with path and remedy, its exit code, nothing changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::builder::Builder;
use crate::common::PROGRAM;
use crate::fixture::Device;

const CHANGING: [&[&str]; 6] = [
    &["stage", "v1.0.0"],
    &["rollback"],
    &["cancel"],
    &["bless"],
    &["condemn"],
    &["orderly-shutdown"],
];

fn staged() -> Option<(Device, Builder, String)> {
    let mut device = Device::new()?;
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    device.result(&["receive", &stream], "received");
    device.result(&["stage", "v1.0.0"], "on-trial");
    device.boot();
    Some((device, builder, stream))
}

#[test]
fn configuration() {
    let Some((device, ..)) = staged() else { return };
    let before = device.snapshot();
    let path = device.layout.config();
    let good = fs::read_to_string(&path).unwrap();
    for (text, words) in [
        ("", "missing field"),
        ("[store", "line 1"),
        ("[store]\ndevice = \"UUID=zz\"\n", "hexadecimal"),
        (&format!("{good}\n[limits]\nretries = 3\n"), "unknown field"),
        (&format!("{good}\n[limits]\ntries = 0\n"), "limits.tries"),
    ] {
        fs::write(&path, text).unwrap();
        device.run(&["stage", "v1.0.0"]).failed(3, words);
        device.run(&["rollback"]).failed(3, words);
        let problems = device.status()["problems"].to_string();
        assert!(problems.contains("deploy.toml"), "{problems}");
    }
    fs::remove_file(&path).unwrap();
    device.run(&["stage", "v1.0.0"]).failed(3, "does not exist");
    assert_eq!(device.snapshot(), before);
    // A verdict needs no configuration.
    device.result(&["bless"], "trial");
}

#[test]
fn names() {
    let Some((device, ..)) = staged() else { return };
    let before = device.snapshot();
    for name in ["1.2", "../../etc", "v1.0.0/..", "", "v1.0.0\n"] {
        device
            .run(&["stage", name])
            .failed(2, "see: op-dbus-stage --help");
        device
            .run(&["rollback", name])
            .failed(2, "see: op-dbus-stage --help");
    }
    device.result(&["cancel"], "cancelled");
    let before_unknown = device.snapshot();
    device
        .run(&["stage", "v9.9.9"])
        .failed(7, "receive it first, or name one of: v1.0.0");
    device
        .run(&["rollback", "v9.9.9"])
        .failed(7, "is not in the store");
    assert_eq!(device.snapshot(), before_unknown);
    device
        .run(&["rollback"])
        .failed(8, "there is no fallback version");
    assert_ne!(before, before_unknown);
}

#[test]
fn usage() {
    let Some((device, ..)) = staged() else { return };
    let before = device.snapshot();
    let wrong: [&[&str]; 6] = [
        &[],
        &["frobnicate"],
        &["stage"],
        &["stage", "v1.0.0", "--fast"],
        &["receive"],
        &["prepare", "--way", "magic"],
    ];
    for args in wrong {
        device.run(args).failed(2, "see: op-dbus-stage --help");
    }
    let ended = device.run(&["stage", "x", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(error["error"]["code"], 2);
    assert_eq!(error["error"]["kind"], "usage");
    assert_eq!(device.snapshot(), before);
}

#[test]
fn a_store_that_is_none() {
    let Some((device, _builder, stream)) = staged() else {
        return;
    };
    let plain = device.path("plain");
    fs::create_dir(&plain).unwrap();
    let plain = plain.to_str().unwrap();
    for command in CHANGING
        .iter()
        .chain([&&["receive", &stream][..], &&["audit", "verify"][..]])
    {
        device
            .run(&[command, &["--store", plain][..]].concat())
            .failed(5, "not a Btrfs subvolume");
        device
            .run(&[command, &["--store", "/nonexistent"][..]].concat())
            .failed(5, "the store is not there");
    }
    let status = device.json(&["status", "--store", "/nonexistent"]);
    assert!(
        status["next"][0]
            .as_str()
            .unwrap()
            .contains("The store can't be read")
    );
    assert_eq!(
        status["activation"]["version"], "v1.0.0",
        "what runs is told all the same"
    );
}

#[test]
fn a_lock_held_by_another_run() {
    let Some((device, _builder, stream)) = staged() else {
        return;
    };
    let before = device.snapshot();
    let lock = fs::File::open(device.layout.lock()).unwrap();
    let held = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    let holder = format!("(process {})", std::process::id());
    for command in CHANGING {
        device.run(command).failed(6, &holder);
    }
    // Looking needs no lock.
    assert_eq!(device.status()["trial"]["version"], "v1.0.0");
    device.result(&["audit", "verify"], "sound");
    assert_eq!(device.snapshot(), before);
    drop(held);
    device.result(&["receive", &stream], "already-there");
    device.result(&["bless"], "trial");
}

#[test]
fn not_root() {
    let Some((device, _builder, stream)) = staged() else {
        return;
    };
    let before = device.snapshot();
    let program = device.path("stage");
    fs::copy(PROGRAM, &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let run = |args: &[&str]| {
        Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&program)
            .args(args)
            .arg("--run")
            .arg(&device.layout.run)
            .arg("--sysroot")
            .arg(&device.layout.sysroot)
            .output()
            .unwrap()
    };
    for command in CHANGING.iter().chain([
        &&["receive", &stream][..],
        &&["prepare"][..],
        &&["audit", "log"][..],
    ]) {
        crate::common::Ended::from(run(command)).failed(4, "run it as root");
    }
    assert_eq!(device.snapshot(), before);
    let status = crate::common::Ended::from(run(&["status"])).done();
    assert!(
        status.contains("v1.0.0") && status.contains("ermission"),
        "{status}"
    );
}

#[test]
fn a_damaged_deployment_or_receipt() {
    let Some((device, ..)) = staged() else { return };
    device.result(&["cancel"], "cancelled");
    let tree = device.store("deploy/v1.0.0");
    op_dbus_btrfs::set_read_only(&tree, false).unwrap();
    device
        .run(&["stage", "v1.0.0"])
        .failed(9, "no longer read-only");
    op_dbus_btrfs::set_read_only(&tree, true).unwrap();
    device.result(&["stage", "v1.0.0"], "on-trial");
    device.result(&["cancel"], "cancelled");
    let receipt = device.store("manifests/v1.0.0.deployment.json");
    fs::write(&receipt, "{}").unwrap();
    device
        .run(&["stage", "v1.0.0"])
        .failed(9, "receive v1.0.0 again");
    fs::write(&receipt, vec![b' '; 100_000]).unwrap();
    device.run(&["stage", "v1.0.0"]).failed(1, "longer than");
    let problems = device.status()["problems"].to_string();
    assert!(problems.contains("v1.0.0.deployment.json"), "{problems}");
}
