//! Runs that are killed, and the next one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::fixture::{Builder, Device, names};

fn wait_for(path: &std::path::Path) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(
            Instant::now() < give_up,
            "{} did not appear",
            path.display()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_kill_in_the_middle_of_a_receive_leaves_nothing_to_the_next_run() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    // Lets the real program have half of the stream, then hangs.
    let (child, half) = (device.path("child"), device.path("half"));
    let text = format!(
        "#!/bin/sh\n{{ head -c 200000; sleep 0.3; touch {}; sleep 60; }} | btrfs \"$@\"\n",
        half.display()
    );
    fs::write(&child, text).unwrap();
    fs::set_permissions(&child, fs::Permissions::from_mode(0o755)).unwrap();
    let mut running = device
        .command(&["receive", &stream, "--btrfs", child.to_str().unwrap()])
        .process_group(0)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&half);

    // Meanwhile: another receive must wait, a verdict need not.
    device.run(&["receive", &stream]).failed(
        6,
        &format!("held by op-dbus-stage (process {})", running.id()),
    );
    device.result(&["cancel"], "nothing-to-do");

    let group = nix::unistd::Pid::from_raw(i32::try_from(running.id()).unwrap());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    running.wait().unwrap();
    let left = names(&device.store("incoming"));
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(
        device
            .store("incoming")
            .join(&left[0])
            .join("v1.0.0")
            .is_dir(),
        "a partial subvolume"
    );
    assert_eq!(device.status()["versions"].as_array().unwrap().len(), 0);

    device.result(&["receive", &stream], "received");
    assert!(names(&device.store("incoming")).is_empty());
    device.result(&["stage", "v1.0.0"], "on-trial");
}

#[test]
fn a_kill_at_any_moment_is_made_good_by_the_same_command() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let mut versions = Vec::new();
    for step in 0..12 {
        let version = format!("v1.0.{step}");
        let stream = builder.release(&version, None);
        let mut running = device
            .command(&["receive", &stream])
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(step * 20));
        let group = nix::unistd::Pid::from_raw(i32::try_from(running.id()).unwrap());
        // It may have come to its end already.
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        running.wait().unwrap();
        let again = device.json(&["receive", &stream]);
        assert_eq!(again["version"], version.as_str(), "{again}");
        versions.push(version);
        assert!(names(&device.store("incoming")).is_empty());
    }
    versions.sort();
    assert_eq!(names(&device.store("deploy")), versions);
    let status = device.status();
    assert_eq!(status["result"], "ok", "{status}");
    device.result(&["audit", "verify"], "sound");
    let log = device.json(&["audit", "log"]);
    for version in &versions {
        let mut lines = log["lines"].as_array().unwrap().iter();
        assert!(
            lines.any(|line| line["event"] == "received" && line["version"] == version.as_str()),
            "{version} was logged"
        );
    }
}

#[test]
fn a_kill_while_publishing_is_settled_by_the_next_run() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let first = builder.release("v1.0.0", None);
    let second = builder.release("v1.1.0", None);
    device.result(&["receive", &first], "received");
    let (hidden, published) = (
        device.store("deploy/.v1.0.0.new"),
        device.store("deploy/v1.0.0"),
    );

    // Between receipt and rename.
    fs::rename(&published, &hidden).unwrap();
    device.run(&["stage", "v1.0.0"]).failed(7, "does not exist");
    device.result(&["receive", &second], "received");
    assert_eq!(names(&device.store("deploy")), ["v1.0.0", "v1.1.0"]);
    device.result(&["stage", "v1.0.0"], "on-trial");
    device.result(&["cancel"], "cancelled");

    // Between snapshot and receipt.
    fs::rename(&published, &hidden).unwrap();
    fs::remove_file(device.store("manifests/v1.0.0.deployment.json")).unwrap();
    device.result(&["receive", &second], "already-there");
    assert_eq!(names(&device.store("deploy")), ["v1.1.0"]);
    device.result(&["receive", &first], "received");
}

#[test]
fn a_version_the_log_does_not_know_is_logged_when_it_is_received_again() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    // As after a power cut between receipt and log: the log is that of before.
    let before = device.snapshot();
    device.result(&["receive", &stream], "received");
    for (path, content) in before
        .iter()
        .filter(|(path, _)| path.starts_with(&device.layout.store))
    {
        fs::write(path, content).unwrap();
    }
    device.result(&["receive", &stream], "already-there");
    let log = device.json(&["audit", "log", "-n", "1"]);
    assert_eq!(log["lines"][0]["event"], "received");
    assert_eq!(log["lines"][0]["version"], "v1.0.0");
    device.result(&["audit", "verify"], "sound");
}
