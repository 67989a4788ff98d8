//! The releases, made as a build system makes them: golden tree, `snapshot`,
//! `send`, `sign` with a key that is thrown away.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};

use super::{file_system, tool};
use crate::error::{At as _, Error, Result};
use crate::programs::{Programs, Ran};
use crate::story::{OWNER, OWNER_MODE, TAKEN, published};

/// Room for the build system's four snapshots.
const DISK: u64 = 512 << 20;

/// What tells a release from the one before it.
struct Release {
    version: &'static str,
    epoch: u32,
    /// Arguments of `send`.
    streams: &'static [&'static str],
    change: fn(&Path) -> std::io::Result<()>,
}

const RELEASES: [Release; 5] = [
    Release {
        version: "v1.0.0",
        epoch: 0,
        streams: &["--full", "--compression", "none"],
        change: first,
    },
    Release {
        version: "v1.1.0",
        epoch: 1,
        streams: &["--parent", "v1.0.0"],
        change: second,
    },
    Release {
        version: "v1.2.0",
        epoch: 1,
        streams: &["--full"],
        change: third,
    },
    Release {
        version: "v1.3.0",
        epoch: 1,
        streams: &["--parent", "v1.1.0"],
        change: fourth,
    },
    Release {
        version: "v1.4.0",
        epoch: 1,
        streams: &["--full"],
        change: fifth,
    },
];

/// Makes all of them in `output`, and writes the certificate.
pub(super) fn make(programs: &Programs, output: &Path, certificate: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new()
        .prefix("opc")
        .tempdir()
        .at("create a directory in", Path::new("/tmp"))?;
    let image = scratch.path().join("build.img");
    file_system(&image, DISK)?;
    let build = Mounted::new(&image, &scratch.path().join("build"))?;
    let key = Key::new(&scratch.path().join("k"))?;
    let golden = build.0.join("golden");
    op_dbus_btrfs::create_subvolume(&golden).map_err(|why| Error::Other(why.to_string()))?;
    for release in &RELEASES {
        fill(&golden, release).at("fill", &golden)?;
        let stage = |words: &[&str]| {
            let mut command = Command::new(&programs.stage);
            command.args(words).env("GNUPGHOME", &key.home);
            command
        };
        let build = build.0.to_string_lossy();
        let to = output.to_string_lossy();
        tool(stage(&["snapshot", release.version, "--build", &build]))?;
        let mut send = stage(&["send", release.version, "--build", &build, "--output", &to]);
        send.args(release.streams);
        tool(send)?;
        let manifest = output.join(format!("{}.json", release.version));
        tool(stage(&["sign", &manifest.to_string_lossy()]))?;
    }
    key.export(certificate)
}

fn fill(golden: &Path, release: &Release) -> std::io::Result<()> {
    for dir in ["bin", "lib/systemd/system", TAKEN, "share/op-dbus"] {
        fs::create_dir_all(golden.join(dir))?;
    }
    let epoch = format!("{}\n", release.epoch);
    fs::write(golden.join("share/op-dbus/epoch"), epoch)?;
    let mut files = published(release.version);
    let mode = files.remove(OWNER_MODE).unwrap_or_default();
    for (path, content) in files {
        fs::write(golden.join(path), content)?;
    }
    let mode = u32::from_str_radix(&mode, 8).map_err(std::io::Error::other)?;
    fs::set_permissions(golden.join(OWNER), fs::Permissions::from_mode(mode))?;
    (release.change)(golden)
}

/// Bytes that no file system makes smaller.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn first(golden: &Path) -> std::io::Result<()> {
    fs::write(golden.join("bin/app"), noise(1, 200_000))?;
    fs::write(golden.join("bin/tool"), noise(2, 64 << 10))?;
    for program in ["bin/app", "bin/tool"] {
        fs::set_permissions(golden.join(program), fs::Permissions::from_mode(0o755))?;
    }
    symlink("app", golden.join("bin/alias"))?;
    fs::write(golden.join("lib/libapp.so"), noise(3, 256 << 10))?;
    fs::write(
        golden.join("lib/systemd/system/app.service"),
        "[Service]\nExecStart=/usr/local/op-dbus/bin/app\n",
    )?;
    for number in 0..10 {
        // Some within their inodes, some not.
        let length = 10 << number;
        let path = golden.join(format!("share/app/data.{number}"));
        fs::write(path, noise(number, length))?;
    }
    Ok(())
}

fn second(golden: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let library = fs::File::options()
        .write(true)
        .open(golden.join("lib/libapp.so"))?;
    library.write_all_at(&noise(4, 32 << 10), 64 << 10)?;
    let data = |number: u32| golden.join(format!("share/app/data.{number}"));
    fs::remove_file(data(1))?;
    fs::rename(data(9), data(10))?;
    fs::write(data(11), noise(5, 60_000))
}

fn third(golden: &Path) -> std::io::Result<()> {
    fs::write(golden.join("bin/app"), noise(6, 210_000))?;
    fs::write(golden.join("share/app/data.12"), noise(7, 70_000))
}

fn fourth(golden: &Path) -> std::io::Result<()> {
    fs::write(golden.join("bin/tool"), noise(8, 90_000))
}

fn fifth(golden: &Path) -> std::io::Result<()> {
    fs::write(golden.join("share/app/data.13"), noise(9, 50_000))
}

/// A mounted image; unmounted when it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, on: &Path) -> Result<Self> {
        fs::create_dir(on).at("create directory", on)?;
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(image).arg(on);
        tool(mount)?;
        Ok(Self(on.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The loop device goes with it.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A signing key that is gone when it is dropped.
struct Key {
    home: PathBuf,
}

impl Key {
    fn new(home: &Path) -> Result<Self> {
        fs::create_dir(home).at("create directory", home)?;
        fs::set_permissions(home, fs::Permissions::from_mode(0o700)).at("chmod", home)?;
        let key = Self {
            home: home.to_owned(),
        };
        let mut make = key.gpg();
        make.args(["--pinentry-mode", "loopback", "--passphrase", ""])
            .args(["--quick-generate-key", "crash", "ed25519", "sign", "never"]);
        tool(make)?;
        Ok(key)
    }

    fn gpg(&self) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--quiet"])
            .env("GNUPGHOME", &self.home);
        gpg
    }

    fn export(&self, path: &Path) -> Result<()> {
        let mut export = self.gpg();
        export.args(["--yes", "--armor", "--output"]).arg(path);
        export.arg("--export");
        tool(export)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let mut kill = Command::new("gpgconf");
        kill.args(["--kill", "all"]).env("GNUPGHOME", &self.home);
        // Without its home the agent ends by itself, only later.
        let _ = Ran::of(kill);
    }
}
