//! A build system.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use op_dbus_loopback::{Volume, sh};
use op_dbus_release::manifest::Manifest;
use serde_json::Value;

use crate::common::{Ended, PROGRAM, noise};

/// A build system with a golden subvolume.
pub(crate) struct Site {
    _volume: Volume,
    dir: tempfile::TempDir,
}

impl Site {
    /// None without root, loudly.
    pub(crate) fn new() -> Option<Self> {
        let dir = op_dbus_loopback::private_dir("opr")?;
        let volume = Volume::new(&dir.path().join("b"), 256);
        let site = Self {
            _volume: volume,
            dir,
        };
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
        self.run(&[args, &["--json"]].concat()).json(args)
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
