//! `prune` and what is mounted: the kernel would let all of it be deleted.

use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use op_dbus_loopback::{run, sh};
use serde_json::json;

use crate::fixture::{Device, names};
use crate::prune::{all_is_well, deleted, kept, make_overlay, with_versions};

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
    run(Command::new("unshare")
        .arg(format!("--mount={}", file.display()))
        .args(["sh", "-ec", &bind]));
    struct Kept(String);
    impl Drop for Kept {
        fn drop(&mut self) {
            sh("umount", &[&self.0]);
        }
    }
    stays_while(&device, "v1.2.0", Kept(file.to_str().unwrap().to_owned()));
    sh("umount", &[at]);
}

#[test]
fn layers_of_overlays_stay() {
    let Some((device, _builder)) = with_versions() else {
        return;
    };
    make_overlay(&device, "v1.2.0");
    let deploy = device.store("deploy");
    let script = format!(
        "mount -t overlay none /mnt -o ro,lowerdir={0}/v1.2.0:{0}/v1.3.0\numount -l {1}",
        deploy.display(),
        device.layout.store.display()
    );
    stays_while(&device, "v1.2.0", Elsewhere::new(&script));
    assert_eq!(names(&device.store("overlays")), [""; 0]);
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
