//! A device for tests: a Btrfs store on a loop device, a host root and a `/run`
//! in a temporary directory, all in a mount namespace that ends with the test.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags};
use op_dbus_activator::activation::Activation;
use op_dbus_activator::layout::Layout;
use op_dbus_activator::{identity, records::Records};
use op_dbus_bootstate::audit::{self, AuditHead, Event, Kind, Stamp};
use op_dbus_bootstate::receipt::{self, Receipt};
use op_dbus_bootstate::record::{Origin, Record, Trial};
use op_dbus_bootstate::store::{Copy, Writer};
use op_dbus_bootstate::{Deployment, Digest, Uuid};
pub use op_dbus_loopback::{is_root, sh, unmount};

pub struct Device {
    pub dir: tempfile::TempDir,
    /// The loop device.
    pub node: String,
    pub uuid: String,
    pub layout: Layout,
    boots: u32,
}

impl Device {
    pub fn new() -> Self {
        Self::made_with(&[])
    }

    /// A device whose store's file system is made with more options.
    pub fn made_with(mkfs: &[&str]) -> Self {
        Self::sized(256, mkfs)
    }

    /// Likewise, of so many MiB.
    pub fn sized(mib: u64, mkfs: &[&str]) -> Self {
        let dir = op_dbus_loopback::private_dir("opd").unwrap();
        let image = dir.path().join("image");
        op_dbus_loopback::image(&image, mib, mkfs);
        let uuid = superblock_uuid(&image);
        let layout = Layout::new(dir.path().join("run"), dir.path().join("root"));
        let mut device = Self {
            dir,
            node: String::new(),
            uuid,
            layout,
            boots: 0,
        };
        device.attach(&[]);
        for path in [
            "run",
            "root/opt/op-dbus",
            "root/usr/local/op-dbus",
            "root/etc/op-dbus",
        ] {
            fs::create_dir_all(device.path(path)).unwrap();
        }
        fs::write(device.path("cmdline"), "root=/dev/vda ro\n").unwrap();
        device.configure("");
        device.make_store();
        device.next_boot();
        device
    }

    /// Gives the image a loop device.
    pub fn attach(&mut self, options: &[&str]) {
        let image = self.path("image");
        let mut args = vec!["--find", "--show"];
        args.extend(options);
        args.push(image.to_str().unwrap());
        self.node = sh("losetup", &args);
    }

    /// Takes the loop device away, and waits until it is gone: as long as
    /// anything holds it open, the kernel only notes the wish.
    pub fn detach(&self) {
        sh("losetup", &["-d", &self.node]);
        let name = self.node.trim_start_matches("/dev/");
        let backing = PathBuf::from(format!("/sys/block/{name}/loop/backing_file"));
        for _ in 0..200 {
            if !backing.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{}: stays attached", self.node);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the configuration, with more text at its end.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "[store]\ndevice = \"UUID={}\"\nwait_seconds = 0\n{more}",
            self.uuid
        );
        fs::write(self.layout.config(), text).unwrap();
    }

    pub fn cmdline(&self, text: &str) {
        fs::write(self.path("cmdline"), text).unwrap();
    }

    /// A new kernel boot id.
    pub fn next_boot(&mut self) {
        self.boots += 1;
        let id = format!("00000000-0000-4000-8000-{:012x}\n", self.boots);
        fs::write(self.path("boot_id"), id).unwrap();
    }

    fn make_store(&self) {
        let top = self.path("top");
        fs::create_dir(&top).unwrap();
        self.mount(&top, "subvolid=5", false);
        op_dbus_btrfs::create_subvolume(&top.join("@op-dbus")).unwrap();
        unmount(&top);
        self.mount_store();
        for dir in [
            "deploy",
            "overlays",
            "incoming",
            "manifests",
            "boot",
            "audit",
        ] {
            fs::create_dir(self.layout.store.join(dir)).unwrap();
        }
        Records::new(&self.layout).create().unwrap();
        fs::write(self.layout.lock(), "").unwrap();
        self.unmount_store();
    }

    pub fn mount(&self, target: &Path, options: &str, read_only: bool) {
        let flags = if read_only {
            MsFlags::MS_RDONLY
        } else {
            MsFlags::empty()
        };
        nix::mount::mount(
            Some(self.node.as_str()),
            target,
            Some("btrfs"),
            flags,
            Some(options),
        )
        .unwrap();
    }

    pub fn mount_store(&self) {
        fs::create_dir_all(&self.layout.store).unwrap();
        self.mount(&self.layout.store, "subvol=/@op-dbus", false);
    }

    pub fn unmount_store(&self) {
        op_dbus_btrfs::sync_filesystem(&self.layout.store).unwrap();
        unmount(&self.layout.store);
    }

    /// Does something to the store while the device is down.
    pub fn offline<T>(&self, work: impl FnOnce(&Layout) -> T) -> T {
        self.mount_store();
        let result = work(&self.layout);
        self.unmount_store();
        result
    }

    /// Publishes a version whose `bin/hello` says its name.
    pub fn publish(&self, version: &str) -> Deployment {
        self.offline(|layout| publish(layout, version))
    }

    /// Replaces the record.
    pub fn record(&self, change: impl FnOnce(&mut Record)) {
        self.offline(|layout| {
            let mut writer = Writer::new(Records::new(layout));
            let verdict = writer.load().verdict();
            let base = verdict.record().cloned();
            let mut next = base.clone().unwrap_or_default();
            change(&mut next);
            let written = writer.commit(base.as_ref(), next).unwrap();
            writer.keep_blessed(&written).unwrap();
        });
    }

    pub fn read_record(&self) -> Record {
        self.offline(|layout| {
            let verdict = Writer::new(Records::new(layout)).load().verdict();
            verdict.record().cloned().unwrap()
        })
    }

    /// v1.0.0 is good; nothing else is known.
    pub fn with_good() -> (Self, Deployment) {
        let device = Self::new();
        let good = device.publish("v1.0.0");
        device.record(|record| record.good = Some(good.clone()));
        (device, good)
    }

    /// v1.1.0 is good, v1.0.0 fallback, v1.2.0 on trial.
    pub fn with_all() -> Self {
        Self::new().publish_all()
    }

    /// See [`Device::with_all`].
    pub fn publish_all(self) -> Self {
        let device = self;
        let [fallback, good, trial] =
            ["v1.0.0", "v1.1.0", "v1.2.0"].map(|version| device.publish(version));
        device.record(|record| {
            record.fallback = Some(fallback);
            record.good = Some(good);
            record.trial = Some(on_trial(trial));
        });
        device
    }

    fn base_command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .args(["--sysroot", self.layout.sysroot.to_str().unwrap()])
            .args(["--run", self.layout.run.to_str().unwrap()])
            .args(["--cmdline", self.path("cmdline").to_str().unwrap()]);
        command
    }

    /// The boot role of this boot.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = self.base_command(program);
        command.args(["--boot-id", self.path("boot_id").to_str().unwrap()]);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_op-dbus-activate"));
        self.base_command(program).args(args).output().unwrap()
    }

    #[track_caller]
    pub fn report(&self) -> Activation {
        Activation::read(&self.layout).unwrap().unwrap()
    }

    /// Runs the boot role and returns its report.
    #[track_caller]
    pub fn boot(&self) -> Activation {
        let boot_id = self.path("boot_id");
        let output = self.run(&["--boot-id", boot_id.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        self.report()
    }

    /// Takes everything down, as a shutdown does, and begins a new boot.
    pub fn reboot(&mut self) -> Activation {
        self.down();
        self.next_boot();
        self.boot()
    }

    pub fn down(&self) {
        for path in [
            self.layout.host("/usr/local/op-dbus"),
            self.layout.host("/opt/op-dbus"),
            self.layout.store.clone(),
        ] {
            let _ = nix::mount::umount2(&path, MntFlags::MNT_DETACH);
        }
        let _ = fs::remove_file(self.layout.activation());
    }

    /// What `bin/hello` of the mounted version says, in both places.
    pub fn hello(&self) -> (Option<String>, Option<String>) {
        let read = |path| fs::read_to_string(self.layout.host(path)).ok();
        (
            read("/opt/op-dbus/bin/hello"),
            read("/usr/local/op-dbus/bin/hello"),
        )
    }

    /// The same of a version over whose `bin/hello` a user may have written.
    #[track_caller]
    pub fn assert_runs_below(&self, version: &str) {
        assert_eq!(self.hello().0.as_deref(), Some(version));
    }

    #[track_caller]
    pub fn assert_runs(&self, version: &str) {
        let text = Some(version.to_owned());
        assert_eq!(self.hello(), (text.clone(), text));
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.down();
        let _ = Command::new("losetup").args(["-d", &self.node]).output();
    }
}

fn superblock_uuid(image: &Path) -> String {
    let superblock = op_dbus_btrfs::Superblock::read(image).unwrap().unwrap();
    Uuid(superblock.fsid).to_string()
}

pub fn on_trial(deployment: Deployment) -> Trial {
    Trial {
        deployment,
        tries_left: 3,
        refunds_left: 3,
        attempts: 0,
        origin: Origin::Stage,
    }
}

pub fn publish(layout: &Layout, version: &str) -> Deployment {
    let name = version.parse().unwrap();
    let path = layout.deployment(&name);
    op_dbus_btrfs::create_subvolume(&path).unwrap();
    fs::create_dir(path.join("bin")).unwrap();
    fs::write(path.join("bin/hello"), version).unwrap();
    fs::set_permissions(path.join("bin/hello"), fs::Permissions::from_mode(0o755)).unwrap();
    op_dbus_btrfs::set_read_only(&path, true).unwrap();
    op_dbus_btrfs::sync_filesystem(&path).unwrap();
    let mut digest = [0; 32];
    digest[..version.len()].copy_from_slice(version.as_bytes());
    let deployment = Deployment {
        identity: identity::of(&op_dbus_btrfs::info_of(&path).unwrap()),
        version: name,
        digest: Digest(digest),
        epoch: 1,
    };
    let receipt = Receipt {
        schema: receipt::SCHEMA,
        deployment: deployment.clone(),
        bytes: 6,
        received_at: "2026-01-01T00:00:00Z".to_owned(),
    };
    let text = serde_json::to_vec(&receipt).unwrap();
    fs::write(layout.receipt(&deployment.version), text).unwrap();
    deployment
}

/// Appends to the audit log that these versions were blessed, in order.
pub fn log_blessed(layout: &Layout, versions: &[&Deployment]) {
    let mut head = AuditHead::default();
    let mut text = String::new();
    for deployment in versions {
        let event = Event::about(Kind::Blessed, deployment, "");
        let (line, next) = audit::append(head, event, &Stamp::default()).unwrap();
        text.push_str(&line);
        text.push('\n');
        head = next;
    }
    fs::write(layout.audit_log(), text).unwrap();
}

/// Overwrites copies of the record with zeros.
pub fn wipe(layout: &Layout, copies: &[Copy]) {
    for copy in copies {
        fs::write(layout.record(*copy), [0; 4096]).unwrap();
    }
}

/// Every mount of this test's namespace, without ids that differ by nature.
pub fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
