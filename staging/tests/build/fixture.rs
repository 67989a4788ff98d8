//! A build system.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use op_dbus_release::manifest::Manifest;
use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_op-dbus-stage");

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn sh(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// How one run of the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    /// Failed with this code; the last line on stderr holds these words and a remedy.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let line = self.stderr.lines().last().unwrap();
        assert!(line.starts_with("op-dbus-stage: "), "{line}");
        assert!(line.contains("; "), "a remedy: {line}");
        assert!(line.contains(words), "{words:?} in {line}");
    }
}

/// A build system with a golden subvolume.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    disk: String,
}

impl Site {
    /// None without root, loudly.
    pub(crate) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root for mounts and loop devices");
            return None;
        }
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        // Short: gpg's agent listens on a socket below it.
        let dir = tempfile::Builder::new().prefix("opr").tempdir().unwrap();
        let image = dir.path().join("disk");
        fs::File::create(&image)
            .unwrap()
            .set_len(256 << 20)
            .unwrap();
        sh("mkfs.btrfs", &["-q", image.to_str().unwrap()]);
        let disk = sh("losetup", &["--find", "--show", image.to_str().unwrap()]);
        let site = Self { dir, disk };
        fs::create_dir(site.path("b")).unwrap();
        let mounted = nix::mount::mount(
            Some(site.disk.as_str()),
            &site.path("b"),
            Some("btrfs"),
            MsFlags::empty(),
            None::<&str>,
        );
        mounted.unwrap();
        op_dbus_btrfs::create_subvolume(&site.golden("")).unwrap();
        for dir in ["bin", "lib/systemd/system", "share/op-dbus"] {
            fs::create_dir_all(site.golden(dir)).unwrap();
        }
        fs::write(site.golden("bin/app"), noise(300_000)).unwrap();
        fs::set_permissions(site.golden("bin/app"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(
            site.golden("lib/systemd/system/app.service"),
            "[Service]\nExecStart=/opt/op-dbus/bin/app\n",
        )
        .unwrap();
        fs::write(site.golden("share/op-dbus/epoch"), "3\n").unwrap();
        Some(site)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A path in golden.
    pub(crate) fn golden(&self, name: &str) -> PathBuf {
        self.path("b/golden").join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args);
        if args[0] != "sign" {
            command.arg("--build").arg(self.path("b"));
        }
        if args[0] == "check" {
            command.arg("--checks-dir").arg(self.path("checks"));
        }
        command
            .env("GNUPGHOME", self.path("gpg"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.command(args).output().unwrap().into()
    }

    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ended = self.run(&[args, &["--json"]].concat());
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// Freezes golden after a change.
    #[track_caller]
    pub(crate) fn version(&self, version: &str) {
        fs::write(self.golden("share/version"), version).unwrap();
        self.run(&["snapshot", version]).done();
    }

    pub(crate) fn manifest(&self, version: &str) -> Manifest {
        let path = self.path("b/releases").join(format!("{version}.json"));
        Manifest::parse(&fs::read(path).unwrap()).unwrap()
    }

    /// The names in the releases directory, hidden ones too.
    pub(crate) fn releases(&self) -> Vec<String> {
        names(&self.path("b/releases"))
    }

    /// Makes a signing key, and returns its fingerprint.
    pub(crate) fn key(&self, name: &str) -> String {
        let home = self.path("gpg");
        if !home.is_dir() {
            fs::create_dir(&home).unwrap();
            fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        }
        let id = format!("{name} <{name}@example.org>");
        self.gpg(&[
            "--passphrase",
            "",
            "--quick-gen-key",
            &id,
            "ed25519",
            "sign",
            "never",
        ]);
        let listed = self.gpg(&["--with-colons", "--list-keys", &id]);
        let line = listed
            .lines()
            .find(|line| line.starts_with("fpr:"))
            .unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn gpg(&self, args: &[&str]) -> String {
        let home = self.text("gpg");
        sh(
            "gpg",
            &[&["--homedir", &home, "--batch", "--quiet"], args].concat(),
        )
    }

    /// An executable script.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.path("b"), MntFlags::MNT_DETACH);
        // The kernel detaches it once the last user is gone.
        let _ = Command::new("losetup")
            .args(["--detach", &self.disk])
            .status();
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    fs::File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut noise)
        .unwrap();
    noise
}
