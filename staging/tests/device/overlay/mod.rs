//! What users change over a version: told, held against the next one, taken
//! along, taken back. The activator's own code mounts what the tests look at.

mod diff;
mod durable;
mod hand_over;
mod hostile;
mod lint;
mod reset;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::MntFlags;
use op_dbus_activator::activation::Activation;
use op_dbus_activator::boot;
use op_dbus_activator::device::Devices;
use serde_json::Value;

use crate::builder::Builder;
use crate::fixture::Device;

/// A device on which v1.0.0 is good and runs, and who builds for it.
struct Lab {
    device: Device,
    builder: Builder,
}

/// What v1.0.0 has.
fn first(tree: &Path) {
    for dir in ["etc/d.d", "etc/gone.d", "data"] {
        fs::create_dir_all(tree.join(dir)).unwrap();
    }
    for name in [
        "etc/a",
        "etc/b",
        "etc/c",
        "etc/d.d/one",
        "etc/d.d/two",
        "etc/gone.d/x",
        "data/x",
    ] {
        write(&tree.join(name), &format!("{name} of the version\n"));
    }
    std::os::unix::fs::symlink("a", tree.join("etc/link")).unwrap();
}

/// Versions that no other test on this machine has: of overlays that are mounted
/// in other namespaces, often the names of their layers are all there is to see.
fn versions() -> [String; 2] {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let (process, run) = (std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    [0, 1].map(|number| format!("v{process}.{run}.{number}"))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

impl Lab {
    /// v1.0.0 has what [`first`] makes, and runs.
    fn new() -> Option<Self> {
        Self::with(first)
    }

    fn with(tree: impl FnOnce(&Path)) -> Option<Self> {
        Self::running("v1.0.0", tree)
    }

    fn running(version: &str, tree: impl FnOnce(&Path)) -> Option<Self> {
        let device = Device::new()?;
        let builder = Builder::new();
        tree(&builder.tree("work"));
        let mut lab = Self { device, builder };
        lab.receive(version, |_| ());
        lab.device.result(&["stage", version], "on-trial");
        lab.boot();
        lab.device.result(&["bless"], "trial");
        Some(lab)
    }

    /// Publishes a version that is the one before with changes, and receives it.
    fn receive(&self, version: &str, change: impl FnOnce(&Path)) {
        let work = self.builder.tree("work");
        change(&work);
        // Versions that are the same have one digest.
        write(&work.join("version"), version);
        let stream = self.builder.send(version, None);
        self.device.result(&["receive", &stream], "received");
    }

    /// A path in the mounted overlay.
    fn over(&self, name: &str) -> PathBuf {
        self.device.layout.host("/usr/local/op-dbus").join(name)
    }

    /// A path in the upper layer of a version.
    fn upper(&self, version: &str, name: &str) -> PathBuf {
        self.device
            .layout
            .upper(&version.parse().unwrap())
            .join(name)
    }

    fn down(&self) {
        for path in ["/usr/local/op-dbus", "/opt/op-dbus"] {
            let path = self.device.layout.host(path);
            let _ = nix::mount::umount2(&path, MntFlags::MNT_DETACH);
        }
    }

    /// The next boot, by the activator's own code.
    fn boot(&mut self) -> Activation {
        self.down();
        self.device.next_boot();
        let cmdline = self.device.path("cmdline");
        write(&cmdline, "root=/dev/vda ro\n");
        let report = boot::run(&boot::Options {
            layout: self.device.layout.clone(),
            config: self.device.layout.config(),
            cmdline,
            boot_id: Some(self.device.path("boot_id")),
            devices: Devices::default(),
            dry_run: false,
        });
        report.write(&self.device.layout).unwrap();
        assert_eq!(report.degraded, Vec::<String>::new(), "{report:?}");
        report
    }

    /// Adds to the configuration.
    fn configure(&self, more: &str) {
        let path = self.device.layout.config();
        let text = fs::read_to_string(&path).unwrap();
        write(&path, &format!("{text}\n{more}"));
    }

    fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.over(name)).ok()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.over(name)).unwrap().mode() & 0o7777
    }
}

/// Of a list of objects, a few fields each, as text.
fn listed(list: &Value, fields: &[&str]) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    let words = |object: &Value| -> Vec<_> {
        fields
            .iter()
            .map(|field| object[*field].as_str().unwrap_or("-").to_owned())
            .collect()
    };
    list.map(|object| words(object).join(" ")).collect()
}

/// Every path beneath a directory that can be listed, with its content.
fn content(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap();
            let text = if kind.is_dir() {
                left.push(path.clone());
                "directory".to_owned()
            } else if kind.is_file() {
                String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
            } else {
                format!("{:o} {:?}", kind.mode(), fs::read_link(&path).ok())
            };
            found.push((path, text));
        }
    }
    found.sort();
    found
}

fn set_attribute(path: &Path, name: &str, value: &str) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, name, value.as_bytes(), flags).unwrap();
}

fn attribute(path: &Path, name: &str) -> String {
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(path, name, &mut value).unwrap();
    String::from_utf8(value[..length].to_vec()).unwrap()
}
