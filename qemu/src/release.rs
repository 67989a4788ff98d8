//! Releases to test with: real trees of the demo service, as real send streams.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cache::{Cache, Entry, Key};
use crate::error::{Context, Result};
use crate::programs::Programs;
use crate::sandbox::Mounted;
use crate::tool::Tool;

/// Raise it when the recipe below changes in a way its inputs don't show.
const RECIPE: &str = "1";

/// Label of the disk that carries releases into a guest.
pub const LABEL: &str = "op-dbus-rel";

/// One release of the demo.
#[derive(Debug, Clone, Copy)]
pub struct Demo {
    /// Version, and name of the subvolume.
    pub version: &'static str,
    /// What the service does: arguments of `op-dbus-demo` after the version.
    pub behaviour: &'static str,
    /// What is to be said of it in a list.
    pub note: &'static str,
}

/// The demo's history.
pub const DEMOS: &[Demo] = &[
    Demo {
        version: "v1.0.0",
        behaviour: "serve",
        note: "good, the one a prepared disk starts with",
    },
    Demo {
        version: "v1.1.0",
        behaviour: "serve",
        note: "good",
    },
    Demo {
        version: "v1.2.0",
        behaviour: "die-after 3",
        note: "its service dies after 3 s",
    },
    Demo {
        version: "v1.3.0",
        behaviour: "panic-after 2",
        note: "panics the kernel 2 s after its start",
    },
    Demo {
        version: "v1.4.0",
        behaviour: "serve",
        note: "good",
    },
];

/// Releases as an image that a guest mounts.
#[derive(Debug)]
pub enum Releases {
    /// The demo's, from the cache.
    Demo(Entry),
    /// A user's own, made for this run.
    Own(tempfile::TempDir),
}

impl Releases {
    /// The demo's releases, one `<version>.btrfs` each.
    pub fn demo(cache: &Cache, programs: &Programs) -> Result<Self> {
        let mut key = Key::default().text(RECIPE).file(programs.demo())?;
        for demo in DEMOS {
            key = key.text(demo.version).text(demo.behaviour);
        }
        key = key.text(UNIT).text(POLICY);
        let entry = cache.entry("releases", &key, |directory| {
            let streams = directory.join("streams");
            fs::create_dir(&streams).at("make", &streams)?;
            send_demos(programs, &streams)?;
            image(&streams, &directory.join("releases.img"))
        })?;
        Ok(Self::Demo(entry))
    }

    /// Send streams of one's own, by their file names.
    pub fn own(streams: &[PathBuf]) -> Result<Self> {
        let directory = tempfile::tempdir().context(|| "make a temporary directory".into())?;
        let copies = directory.path().join("streams");
        fs::create_dir(&copies).at("make", &copies)?;
        for stream in streams {
            let name = stream.file_name().unwrap_or_default();
            fs::copy(stream, copies.join(name)).at("copy", stream)?;
        }
        image(&copies, &directory.path().join("releases.img"))?;
        Ok(Self::Own(directory))
    }

    /// The image.
    pub fn image(&self) -> PathBuf {
        self.directory().join("releases.img")
    }

    /// The streams themselves.
    pub fn streams(&self) -> PathBuf {
        self.directory().join("streams")
    }

    fn directory(&self) -> &Path {
        match self {
            Self::Demo(entry) => entry.path(),
            Self::Own(directory) => directory.path(),
        }
    }
}

/// Where a guest finds the stream of `version`.
pub fn path_in_guest(version: &str) -> String {
    format!("{}/{version}.btrfs", op_dbus_vm_guest::init::RELEASES)
}

const UNIT: &str = "\
[Unit]
Description=Demo service of op-dbus

[Service]
Type=dbus
BusName=org.opdbus.Demo
ExecStart=/usr/local/op-dbus/bin/op-dbus-demo --version-name @VERSION@ @BEHAVIOUR@
";

const POLICY: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <policy user="root">
    <allow own="org.opdbus.Demo"/>
  </policy>
  <policy context="default">
    <allow send_destination="org.opdbus.Demo"/>
  </policy>
</busconfig>
"#;

fn send_demos(programs: &Programs, streams: &Path) -> Result<()> {
    let scratch = tempfile::tempdir().context(|| "make a temporary directory".into())?;
    let image = scratch.path().join("build.img");
    let file = fs::File::create(&image).at("create", &image)?;
    file.set_len(1 << 30).at("size", &image)?;
    Tool::new("mkfs.btrfs").arg("--quiet").arg(&image).run()?;
    let mounted = Mounted::image(&image, "")?;
    for demo in DEMOS {
        let tree = mounted.path().join(format!("{}.build", demo.version));
        let release = mounted.path().join(demo.version);
        Tool::new("btrfs")
            .args(["-q", "subvolume", "create"])
            .arg(&tree)
            .run()?;
        fill(&tree, demo, programs)?;
        Tool::new("btrfs")
            .args(["-q", "subvolume", "snapshot", "-r"])
            .args([&tree, &release])
            .run()?;
        Tool::new("btrfs")
            .args(["-q", "send", "-f"])
            .arg(streams.join(format!("{}.btrfs", demo.version)))
            .arg(&release)
            .run()?;
    }
    mounted.close()
}

fn fill(tree: &Path, demo: &Demo, programs: &Programs) -> Result<()> {
    let unit = UNIT
        .replace("@VERSION@", demo.version)
        .replace("@BEHAVIOUR@", demo.behaviour);
    for (path, text) in [
        ("lib/systemd/system/op-dbus-demo.service", unit.as_str()),
        ("share/dbus-1/system.d/org.opdbus.Demo.conf", POLICY),
        ("share/op-dbus-demo/version", demo.version),
    ] {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap_or(tree)).at("make", &path)?;
        fs::write(&path, text).at("write", &path)?;
    }
    let program = tree.join("bin/op-dbus-demo");
    fs::create_dir_all(tree.join("bin")).at("make", tree)?;
    fs::copy(programs.demo(), &program).at("copy", programs.demo())?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).at("chmod", &program)
}

/// An ext4 image with the files of `directory`: every guest's kernel has ext4,
/// and nothing about it can be mistaken for the store.
fn image(directory: &Path, path: &Path) -> Result<()> {
    let mut bytes = 8 << 20;
    for entry in fs::read_dir(directory).at("list", directory)?.flatten() {
        bytes += entry.metadata().at("look at", &entry.path())?.len();
    }
    let file = fs::File::create(path).at("create", path)?;
    file.set_len(bytes + bytes / 8).at("size", path)?;
    Tool::new("mke2fs")
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-L", LABEL, "-d"])
        .args([directory, path])
        .run()
        .map(drop)
}
