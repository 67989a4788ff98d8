//! Runs that are killed, and the next one.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use op_dbus_calls::{kill_after, trace};
use op_dbus_loopback::sh;

use crate::builder::{Builder, Release};
use crate::common::{Ended, noise};
use crate::fixture::{Device, names, nothing_remains, refusals};

/// Moments a receive is killed at.
const STEPS: usize = 24;

/// A receive that has got most of its stream and waits for the rest.
pub(crate) struct Halfway {
    pub(crate) child: Child,
    /// Where the rest would come from.
    writer: File,
    /// What it was not fed yet.
    rest: Vec<u8>,
}

/// Starts a receive through a FIFO and feeds it most of a release.
pub(crate) fn halfway(device: &Device, release: &Release) -> Halfway {
    let fifo = device.path("fifo");
    // There may have been one.
    let _ = fs::remove_file(&fifo);
    sh("mkfifo", &[fifo.to_str().unwrap()]);
    let manifest = release.file();
    let child = device
        .command(&["receive", fifo.to_str().unwrap(), "--manifest", &manifest])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut writer = File::options().write(true).open(&fifo).unwrap();
    let bytes = fs::read(release.stream(0)).unwrap();
    // More than the decompressor and a chunk hold back.
    writer.write_all(&bytes[..bytes.len() - 1000]).unwrap();
    let give_up = Instant::now() + Duration::from_secs(60);
    let is_begun = || {
        names(&device.store("incoming"))
            .first()
            .is_some_and(|area| {
                let area = device.store("incoming").join(area);
                area.join(release.manifest.version.as_str()).is_dir()
            })
    };
    while !is_begun() {
        assert!(Instant::now() < give_up, "nothing is applied");
        thread::sleep(Duration::from_millis(10));
    }
    Halfway {
        child,
        writer,
        rest: bytes[bytes.len() - 1000..].to_vec(),
    }
}

impl Halfway {
    /// Feeds it the rest, and waits for it to end: its exit code and what it said.
    pub(crate) fn finish(mut self) -> (i32, String) {
        // It may have ended before.
        let _ = self.writer.write_all(&self.rest);
        drop(self.writer);
        let ended = self.child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        (ended.status.code().unwrap(), said)
    }
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    let process = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(process, signal).unwrap();
}

#[test]
fn a_kill_in_the_middle_of_a_receive_leaves_nothing_to_the_next_run() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    fs::write(builder.tree("work/big"), noise(2 << 20)).unwrap();
    let release = builder.publish("v1.0.0", &[None]);
    let mut running = halfway(&device, &release);

    // Meanwhile: another receive must wait, a verdict need not.
    device.run(&["receive", &release.file()]).failed(
        6,
        &format!("held by op-dbus-stage (process {})", running.child.id()),
    );
    device.result(&["cancel"], "nothing-to-do");
    device.result(&["verify"], "sound");

    signal(&running.child, Signal::SIGKILL);
    running.child.wait().unwrap();
    assert_eq!(names(&device.store("incoming")).len(), 1);
    assert_eq!(device.status()["versions"].as_array().unwrap().len(), 0);

    device.result(&["receive", &release.file()], "received");
    assert!(names(&device.store("incoming")).is_empty());
    device.result(&["stage", "v1.0.0"], "on-trial");
}

#[test]
fn a_signal_in_the_middle_of_a_receive_clears_everything_at_once() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    fs::write(builder.tree("work/big"), noise(2 << 20)).unwrap();
    let release = builder.publish("v1.0.0", &[None]);
    for which in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let running = halfway(&device, &release);
        signal(&running.child, which);
        let ended = Ended::from(running.child.wait_with_output().unwrap());
        ended.failed(
            1,
            "interrupted by a signal; nothing was kept; run the same command again",
        );
        nothing_remains(&device);
    }
    assert_eq!(refusals(&device), 3);
    device.result(&["receive", &release.file()], "received");
}

#[test]
fn a_kill_at_any_moment_is_made_good_by_the_same_command() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let stream = builder.release("v0.1.0", None);
    let whole = trace(&mut device.command(&["receive", &stream]))
        .calls
        .len();
    let mut versions = vec!["v0.1.0".to_owned()];
    for step in 0..STEPS {
        let version = format!("v1.0.{step}");
        let stream = builder.release(&version, None);
        let calls = 1 + whole * step / STEPS;
        let killed = kill_after(&mut device.command(&["receive", &stream]), calls);
        assert_eq!(killed.code, 128 + 9, "{}", killed.stderr);
        let again = device.json(&["receive", &stream]);
        assert_eq!(again["version"], version.as_str(), "{again}");
        let (is_new, result) = (step < STEPS / 2, &again["result"]);
        assert!(!is_new || result == "received", "{again}");
        versions.push(version);
        assert!(names(&device.store("incoming")).is_empty());
    }
    versions.sort();
    assert_eq!(names(&device.store("deploy")), versions);
    device.result(&["verify", "--deep"], "sound");
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
    assert_eq!(
        names(&device.store("manifests")),
        ["v1.1.0.deployment.json", "v1.1.0.json", "v1.1.0.json.asc"],
        "nor does its manifest stay"
    );
    device.result(&["receive", &first], "received");
}

#[test]
fn a_publication_that_fails_is_taken_back_at_once() {
    let Some(device) = Device::new() else { return };
    let builder = Builder::new();
    let stream = builder.release("v1.0.0", None);
    // In the way of the receipt.
    let obstacle = device.store("manifests/.v1.0.0.deployment.json.new");
    fs::create_dir(&obstacle).unwrap();
    device
        .run(&["receive", &stream])
        .failed(1, "v1.0.0.deployment.json");
    fs::remove_dir(&obstacle).unwrap();
    nothing_remains(&device);
    device.result(&["receive", &stream], "received");
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

#[test]
fn a_version_that_was_mended_is_known_to_the_record_though_power_went_in_between() {
    let Some((mut device, builder)) = Device::blessed() else {
        return;
    };
    let manifest = builder.manifest("v1.0.0");
    let tree = device.layout.deployment(&"v1.0.0".parse().unwrap());
    op_dbus_btrfs::set_read_only(&tree, false).unwrap();
    fs::write(tree.join("version"), "tampered").unwrap();
    op_dbus_btrfs::set_read_only(&tree, true).unwrap();
    op_dbus_btrfs::sync_filesystem(&tree).unwrap();
    assert_eq!(device.boot(), "rescue");
    // As after a power cut between receipt and record: log and record are those
    // of before.
    let before = device.snapshot();
    device.result(&["receive", &manifest], "received");
    let [boot, audit] = ["boot", "audit"].map(|dir| device.store(dir));
    for (path, content) in &before {
        if path.starts_with(&boot) || path.starts_with(&audit) {
            fs::write(path, content).unwrap();
        }
    }
    device.result(&["receive", &manifest], "already-there");
    assert_eq!(device.boot(), "good v1.0.0");
    device.result(&["audit", "verify"], "sound");
    // Then there is nothing left to do.
    let settled = device.snapshot();
    device.result(&["receive", &manifest], "already-there");
    assert_eq!(device.snapshot(), settled);
}
