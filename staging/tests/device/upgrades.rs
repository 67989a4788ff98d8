//! Many upgrades in a row, with changes of a user's in between: nothing piles up.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use op_dbus_activator::boot::{self, Options};
use op_dbus_activator::device::Devices;
use op_dbus_loopback::{run, sh, unmount};

use crate::builder::Builder;
use crate::common::noise;
use crate::fixture::{Device, names};

/// Names that the user's files have.
const MINE: u64 = 40;
/// Upgrades until as many versions are there as stay: the newest three, and good
/// and fallback among them.
const FULL: usize = 4;

/// What there is after an upgrade, once it was blessed and the rest was pruned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    mounts: usize,
    subvolumes: usize,
    kib: u64,
    /// Of these, the audit log, which keeps everything.
    log_kib: u64,
    activation_us: u64,
}

/// A shuffled sequence (xorshift), the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A boot by the activator's own code: of the program in `OP_DBUS_ACTIVATE`, or of
/// the library. Whatever was mounted goes first, as a reboot has it.
fn boot(device: &mut Device) -> u64 {
    let config = op_dbus_activator::config::Config::load(&device.layout.config()).unwrap();
    for point in [&config.mounts.overlay, &config.mounts.lower] {
        let point = device.layout.host(point);
        if is_mounted(&point) {
            unmount(&point);
        }
    }
    unmount(&device.layout.store);
    device.next_boot();
    let cmdline = device.path("cmdline");
    fs::write(&cmdline, "root=/dev/vda\n").unwrap();
    if let Some(program) = std::env::var_os("OP_DBUS_ACTIVATE") {
        run(Command::new(program)
            .arg("--sysroot")
            .arg(&device.layout.sysroot)
            .arg("--run")
            .arg(&device.layout.run)
            .arg("--cmdline")
            .arg(&cmdline)
            .arg("--boot-id")
            .arg(device.path("boot_id")));
    } else {
        let report = boot::run(&Options {
            layout: device.layout.clone(),
            config: device.layout.config(),
            cmdline,
            boot_id: Some(device.path("boot_id")),
            devices: Devices::default(),
            dry_run: false,
        });
        report.write(&device.layout).unwrap();
    }
    let text = fs::read(device.layout.activation()).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(report["outcome"], "activated", "{report}");
    assert_eq!(report["degraded"], serde_json::json!([]), "{report}");
    report["total_us"].as_u64().unwrap()
}

fn mountinfo() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

fn is_mounted(point: &Path) -> bool {
    let point = point.to_str().unwrap();
    mountinfo()
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(point))
}

/// What a user does in a while: writes, deletes, edits what the version brought.
fn use_it(device: &Device, dice: &mut Dice) {
    let top = device.layout.host("/usr/local/op-dbus");
    let mine = top.join("mine");
    fs::create_dir_all(&mine).unwrap();
    for _ in 0..20 {
        let file = mine.join(dice.below(MINE).to_string());
        if dice.below(4) == 0 {
            let _ = fs::remove_file(file);
        } else {
            let length = usize::try_from(dice.below(8 << 10)).unwrap();
            fs::write(file, noise(length)).unwrap();
        }
    }
    fs::write(top.join("edited"), noise(3000)).unwrap();
    if dice.below(2) == 0 {
        let _ = fs::remove_file(top.join("bin/alias"));
    }
}

fn measure(device: &Device, activation_us: u64) -> Row {
    // Deleted subvolumes are freed in the background.
    let store = device.layout.store.to_str().unwrap();
    op_dbus_btrfs::free_deleted(&device.layout.store).unwrap();
    sh("btrfs", &["subvolume", "sync", store]);
    op_dbus_btrfs::sync_filesystem(&device.layout.store).unwrap();
    let found = rustix::fs::statvfs(&device.layout.store).unwrap();
    let root = device.path("");
    let root = root.to_str().unwrap();
    Row {
        mounts: mountinfo()
            .lines()
            .filter(|line| line.contains(root))
            .count(),
        subvolumes: sh("btrfs", &["subvolume", "list", store]).lines().count(),
        kib: (found.f_blocks - found.f_bfree) * found.f_frsize / 1024,
        log_kib: device.layout.audit_log().metadata().unwrap().len() / 1024,
        activation_us,
    }
}

fn upgrades(count: usize) -> Option<Vec<Row>> {
    let mut device = Device::new()?;
    let builder = Builder::with_size(1024);
    let mut dice = Dice(0x5eed);
    let mut rows = Vec::new();
    let mut before: Option<String> = None;
    for number in 0..=count {
        // Names of their own: a prune of another test sees these mounts, and leaves
        // versions of these names alone.
        let version = format!("v200.{number}.0");
        fs::write(builder.tree("work/changed"), noise(200 << 10)).unwrap();
        fs::write(builder.tree("work/edited"), noise(3000)).unwrap();
        let stream = builder.release(&version, before.as_deref());
        device.result(&["receive", &stream], "received");
        device.result(&["stage", &version], "on-trial");
        let mut mine = None;
        if before.is_some() {
            use_it(&device, &mut dice);
            mine = Some(content(&device));
        }
        let activation_us = boot(&mut device);
        if let Some(mine) = mine {
            assert_eq!(content(&device), mine, "the user's files come along");
        }
        device.result(&["bless"], "trial");
        device.json(&["prune", "--after-bless"]);
        rows.push(measure(&device, activation_us));
        before = Some(version);
    }
    device.result(&["verify", "--deep"], "sound");
    device.result(&["audit", "verify"], "sound");
    // The first is no upgrade.
    rows.remove(0);
    Some(rows)
}

/// Names and content of the user's files.
fn content(device: &Device) -> Vec<(String, Vec<u8>)> {
    let mine = device.layout.host("/usr/local/op-dbus/mine");
    names(&mine)
        .into_iter()
        .map(|name| (name.clone(), fs::read(mine.join(name)).unwrap()))
        .collect()
}

/// Nothing grows from when as many versions are there as stay.
#[track_caller]
fn assert_flat(rows: &[Row]) {
    let flat = &rows[FULL..];
    let first = &flat[0];
    for row in flat {
        assert_eq!(row.mounts, first.mounts, "{rows:#?}");
        assert_eq!(row.subvolumes, first.subvolumes, "{rows:#?}");
        // What the user has changes a little.
        let most = first.kib - first.log_kib + first.kib / 20 + row.log_kib;
        assert!(row.kib <= most, "{rows:#?}");
    }
}

#[test]
fn nothing_piles_up_in_a_dozen_upgrades() {
    if let Some(rows) = upgrades(12) {
        assert_flat(&rows);
    }
}

/// `make bench-upgrades`: the table of docs/OVERLAYS.md.
#[test]
#[ignore = "two hundred upgrades take minutes"]
fn two_hundred_upgrades() {
    let Some(rows) = upgrades(200) else {
        return;
    };
    let mut csv = String::from("upgrade,mounts,subvolumes,kib,log_kib,activation_us\n");
    for (index, row) in rows.iter().enumerate() {
        let Row {
            mounts,
            subvolumes,
            kib,
            log_kib,
            activation_us,
        } = row;
        let number = index + 1;
        writeln!(
            csv,
            "{number},{mounts},{subvolumes},{kib},{log_kib},{activation_us}"
        )
        .unwrap();
    }
    let path = std::env::var_os("OP_DBUS_UPGRADES_CSV").filter(|path| !path.is_empty());
    if let Some(path) = path {
        fs::write(path, &csv).unwrap();
    }
    println!(
        "| Upgrades | Mounts | Subvolumes | Used, KiB | of it the audit log | Activation, ms (median, slowest) |\n|---|---|---|---|---|---|"
    );
    for (index, some) in rows.chunks(40).enumerate() {
        let last = some.last().unwrap();
        let mut times: Vec<_> = some.iter().map(|row| row.activation_us).collect();
        times.sort_unstable();
        let ms = |us: u64| format!("{}.{}", us / 1000, us % 1000 / 100);
        println!(
            "| {}–{} | {} | {} | {} | {} | {}, {} |",
            index * 40 + 1,
            index * 40 + some.len(),
            last.mounts,
            last.subvolumes,
            last.kib,
            last.log_kib,
            ms(times[times.len() / 2]),
            ms(times[times.len() - 1]),
        );
    }
    assert_flat(&rows);
}
