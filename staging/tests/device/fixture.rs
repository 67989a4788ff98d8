//! A device, and boots.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::MntFlags;
use op_dbus_activator::activation::{Activation, Outcome};
use op_dbus_activator::identity::{self, Check};
use op_dbus_activator::layout::Layout;
use op_dbus_activator::records::Records;
use op_dbus_bootstate::select::{BootInput, Failure, select};
use op_dbus_bootstate::store::Writer;
use op_dbus_bootstate::{BootId, Record, record};
use op_dbus_loopback::Disk;
use serde_json::Value;

use crate::builder::Builder;
use crate::common::{Ended, PROGRAM};
use crate::keys::keys;

/// A device whose store is prepared.
pub(crate) struct Device {
    pub(crate) disk: Disk,
    dir: tempfile::TempDir,
    pub(crate) layout: Layout,
    boots: u8,
}

impl Device {
    /// A prepared device; none without root, loudly.
    pub(crate) fn new() -> Option<Self> {
        Self::with_size(256)
    }

    pub(crate) fn with_size(mib: u64) -> Option<Self> {
        Self::with_options(mib, &[])
    }

    /// Likewise on a file system made with more options.
    pub(crate) fn with_options(mib: u64, mkfs: &[&str]) -> Option<Self> {
        let device = Self::bare_with(mib, mkfs)?;
        let key = keys().export("release", &device.path("release.asc"));
        device
            .run(&["prepare", "--device", device.disk.node(), "--key", &key])
            .done();
        Some(device)
    }

    /// A device that runs v1.0.0 as its good version, and who built that.
    pub(crate) fn blessed() -> Option<(Self, Builder)> {
        Some(Self::new()?.bless_first())
    }

    /// Gives it v1.0.0 as its good version.
    pub(crate) fn bless_first(self) -> (Self, Builder) {
        let mut device = self;
        let builder = Builder::new();
        let stream = builder.release("v1.0.0", None);
        device.result(&["receive", &stream], "received");
        device.result(&["stage", "v1.0.0"], "on-trial");
        device.boot();
        device.result(&["bless"], "trial");
        (device, builder)
    }

    /// A device with an empty file system.
    pub(crate) fn bare(mib: u64) -> Option<Self> {
        Self::bare_with(mib, &[])
    }

    fn bare_with(mib: u64, mkfs: &[&str]) -> Option<Self> {
        let dir = op_dbus_loopback::private_dir("opd")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let disk = Disk::with_options(&dir.path().join("disk"), mib, mkfs);
        for path in ["root/etc", "root/usr/lib/dracut/modules.d/50op-dbus", "run"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let layout = Layout::new(dir.path().join("run"), dir.path().join("root"));
        let mut device = Self {
            disk,
            dir,
            layout,
            boots: 0,
        };
        device.next_boot();
        Some(device)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn store(&self, name: &str) -> PathBuf {
        self.layout.store.join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(args)
            .arg("--run")
            .arg(&self.layout.run)
            .arg("--sysroot")
            .arg(&self.layout.sysroot)
            .arg("--boot-id")
            .arg(self.path("boot_id"));
        command
    }

    /// As [`command`](Self::command), where a program of the machine is this script.
    pub(crate) fn command_where(&self, program: &str, script: &str, args: &[&str]) -> Command {
        let bin = self.path("bin");
        fs::create_dir_all(&bin).unwrap();
        let file = bin.join(program);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut command = self.command(args);
        command.env("PATH", path);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.command(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .into()
    }

    /// Runs a command that must succeed, and returns its JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.run(&[args, &["--json"]].concat()).json(args)
    }

    /// Runs a command that must come out in a certain way.
    #[track_caller]
    pub(crate) fn result(&self, args: &[&str], expected: &str) -> Value {
        let value = self.json(args);
        assert_eq!(value["result"], expected, "{args:?}: {value}");
        value
    }

    pub(crate) fn status(&self) -> Value {
        self.json(&["status"])
    }

    /// Draws a new kernel boot id.
    pub(crate) fn next_boot(&mut self) -> BootId {
        self.boots += 1;
        let id = BootId([self.boots; 16]);
        fs::write(self.path("boot_id"), id.to_string()).unwrap();
        let _ = fs::remove_file(self.layout.activation());
        id
    }

    pub(crate) fn record(&self) -> Record {
        let verdict = Writer::new(Records::new(&self.layout)).load().verdict();
        verdict.record().cloned().unwrap()
    }

    /// The record without its place in time: what a refusal must leave as it is,
    /// though the log tells of it.
    pub(crate) fn decisions(&self) -> Record {
        Record {
            sequence: 0,
            audit: op_dbus_bootstate::audit::AuditHead::default(),
            ..self.record()
        }
    }

    /// A boot, as the activator does it: select, check, count, tell. Returns
    /// role and version, or `rescue`.
    pub(crate) fn boot(&mut self) -> String {
        let boot_id = self.next_boot();
        let mut writer = Writer::new(Records::new(&self.layout));
        let mut failures: Vec<Failure> = Vec::new();
        let base = self.record();
        loop {
            let input = BootInput {
                boot_id,
                select: None,
                named: None,
                limits: record::Limits::default(),
                durable: true,
                failures: &failures,
            };
            let selection = select(&base, &input);
            if let Some((slot, deployment)) = &selection.candidate {
                let path = self.layout.deployment(&deployment.version);
                let outcome = match identity::check(&path, &deployment.identity) {
                    Check::Intact => None,
                    Check::Missing(_) => Some(record::Outcome::Missing),
                    _ => Some(record::Outcome::Altered),
                };
                if let Some(outcome) = outcome {
                    failures.push(Failure {
                        slot: *slot,
                        digest: deployment.digest,
                        outcome,
                    });
                    continue;
                }
            }
            if let Some(next) = selection.record {
                writer.commit(Some(&base), next).unwrap();
            }
            let mut report = Activation::new(Outcome::Rescue, selection.reason.sentence());
            report.boot_id = Some(boot_id);
            report.counted = selection.counted;
            let mut word = "rescue".to_owned();
            if let Some((slot, deployment)) = selection.candidate {
                word = format!("{slot} {}", deployment.version);
                report.outcome = Outcome::Activated;
                report.slot = Some(slot);
                report.version = Some(deployment.version);
                report.digest = Some(deployment.digest);
            }
            report.write(&self.layout).unwrap();
            return word;
        }
    }

    /// Everything that must not change when a command is refused.
    pub(crate) fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for dir in ["boot", "manifests", "audit"] {
            for entry in fs::read_dir(self.store(dir)).unwrap() {
                let path = entry.unwrap().path();
                // The mark of this boot: a shutdown is one, whatever is refused.
                if path.ends_with("boot/running") {
                    continue;
                }
                found.push((path.clone(), fs::read(path).unwrap()));
            }
        }
        for dir in ["deploy", "incoming"] {
            found.extend(
                names(&self.store(dir))
                    .into_iter()
                    .map(|name| (name.into(), Vec::new())),
            );
        }
        found.sort();
        found
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Without a store mounted there is nothing to unmount.
        let _ = nix::mount::umount2(&self.layout.store, MntFlags::MNT_DETACH);
    }
}

/// Nothing but log lines may remain of a receive that failed on an empty store.
#[track_caller]
pub(crate) fn nothing_remains(device: &Device) {
    for dir in ["deploy", "incoming", "manifests"] {
        assert_eq!(names(&device.store(dir)), Vec::<String>::new());
    }
}

/// Receives that were refused, by the audit log.
pub(crate) fn refusals(device: &Device) -> usize {
    let log = device.json(&["audit", "log"]);
    let lines = log["lines"].as_array().unwrap().iter();
    lines.filter(|line| line["event"] == "refused").count()
}

/// The names in a directory, sorted, but for locks.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lock")
        .collect();
    names.sort();
    names
}

/// Changes one byte of a file.
pub(crate) fn flip(path: &Path, at: u64) {
    use std::io::Write as _;
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}
