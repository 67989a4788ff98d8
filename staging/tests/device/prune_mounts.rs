//! `prune` and what is mounted: the kernel would let all of it be deleted.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use op_dbus_loopback::{sh, unmount};
use serde_json::json;

use crate::fixture::{Device, names};
use crate::prune::{all_is_well, deleted, kept, make_overlay, receive, with_versions};

/// A shell in a mount namespace of its own, which has run a script and waits.
struct Elsewhere(Child);

impl Elsewhere {
    fn new(script: &str) -> Self {
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec"])
            .arg(format!("{script}\necho ready\nexec sleep 600"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 5];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut word)
            .unwrap();
        Self(child)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A version stays while something is there, and goes once it is not.
fn stays_while<T>(device: &Device, version: &str, there: T) {
    let pruned = device.json(&["prune"]);
    assert_eq!(kept(&pruned, version), json!(["mounted"]), "{pruned}");
    assert!(
        device
            .store("deploy")
            .join(version)
            .join("bin/app")
            .is_file()
    );
    drop(there);
    let pruned = device.result(&["prune"], "pruned");
    assert_eq!(deleted(&pruned), [version]);
    all_is_well(device);
}

#[test]
fn a_version_mounted_in_another_namespace_stays() {
    let Some((device, builder)) = with_versions() else {
        return;
    };
    let version = device.store("deploy/v1.2.0");
    let mount = |what: &str| format!("mount --bind {}{what} /mnt", version.display());
    stays_while(&device, "v1.2.0", Elsewhere::new(&mount("")));
    // A part of it will do; and the store itself need not be mounted there.
    let again = builder.manifest("v1.2.0");
    device.result(&["receive", &again], "received");
    let script = format!(
        "{}\numount -l {}",
        mount("/bin"),
        device.layout.store.display()
    );
    stays_while(&device, "v1.2.0", Elsewhere::new(&script));
}

#[test]
fn a_process_with_another_root_is_asked_as_well() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    // Both are in this test's namespace. The version is mounted below a root that
    // only the second process has.
    let root = device.path("jail");
    let script = format!(
        "mount -t tmpfs none {root}\nmkdir {root}/x\nmount --bind {version} {root}/x\nmount --make-private {root}\n",
        root = root.display(),
        version = device.store("deploy/v1.2.0").display()
    );
    fs::create_dir(&root).unwrap();
    stays_while(&device, "v1.2.0", Elsewhere::new(&script));
}

/// A mount, until it is dropped.
struct Kept(PathBuf);

impl Drop for Kept {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// As snapd keeps them: a namespace that a mount keeps, and no process is in.
#[test]
fn a_namespace_without_processes_is_looked_into() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    let dir = device.path("ns");
    fs::create_dir(&dir).unwrap();
    let at = dir.to_str().unwrap();
    sh("mount", &["--bind", at, at]);
    sh("mount", &["--make-private", at]);
    let file = dir.join("kept");
    fs::write(&file, "").unwrap();
    let bind = format!(
        "mount --bind {} /mnt",
        device.store("deploy/v1.2.0").display()
    );
    // unshare(1) of some releases is at times too early to keep its namespace.
    let keep = || {
        let mut unshare = Command::new("unshare");
        unshare.arg(format!("--mount={}", file.display()));
        let output = unshare.args(["sh", "-ec", &bind]).output().unwrap();
        output.status.success()
    };
    assert!((0..50).any(|_| keep()), "no namespace could be kept");
    stays_while(&device, "v1.2.0", Kept(file));
    unmount(&dir);
}

#[test]
fn layers_of_overlays_stay() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    make_overlay(&device, "v1.2.0");
    // By another path, of which the namespace of the command knows nothing.
    let script = format!(
        "mount --bind {} /mnt\nmount -t overlay none /media -o ro,lowerdir=/mnt:{}",
        device.store("deploy/v1.2.0/bin").display(),
        device.store("deploy/v1.3.0").display(),
    );
    stays_while(&device, "v1.2.0", Elsewhere::new(&script));
    assert_eq!(names(&device.store("overlays")), [""; 0]);
}

/// The paths of its layers lead nowhere then. What is left is their names, and so
/// this version has one that no other test knows.
#[test]
fn layers_of_overlays_stay_though_the_store_is_not_mounted_there() {
    let Some((device, builder)) = with_versions() else {
        return;
    };
    let version = format!("v0.1.{}", std::process::id());
    receive(&device, &builder, &version);
    device.result(&["pin", "v1.2.0"], "pinned");
    let script = format!(
        "mount -t overlay none /mnt -o ro,lowerdir={0}/{version}:{0}/v1.3.0\numount -l {1}",
        device.store("deploy").display(),
        device.layout.store.display()
    );
    stays_while(&device, &version, Elsewhere::new(&script));
}

#[test]
fn an_overlay_that_is_mounted_keeps_its_version() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    make_overlay(&device, "v1.2.0");
    let aside = device.store("overlays/v1.2.0.old");
    op_dbus_btrfs::create_subvolume(&aside).unwrap();
    let half = device.store("overlays/.new-v1.9.0");
    op_dbus_btrfs::create_subvolume(&half).unwrap();
    let script = format!(
        "mount --bind {} /mnt\nmount --bind {} /media",
        aside.display(),
        half.display()
    );
    stays_while(&device, "v1.2.0", Elsewhere::new(&script));
    assert_eq!(names(&device.store("overlays")), [""; 0]);
}

/// It has its version's name and can't be mounted.
#[test]
fn the_plan_of_a_version_that_runs_goes() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    let plans = device.store("plans");
    fs::create_dir(&plans).unwrap();
    fs::write(plans.join("v1.1.0"), "plan").unwrap();
    let version = device.store("deploy/v1.1.0");
    let _runs = Elsewhere::new(&format!("mount --bind {} /mnt", version.display()));
    device.result(&["prune"], "pruned");
    assert_eq!(names(&plans), [""; 0]);
    assert!(version.exists());
}
