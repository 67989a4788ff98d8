//! How long activation takes, beside a shell script of mount(8) calls that makes
//! the same mounts and decides, counts and checks nothing.
//!
//! Both from `fork` to exit, by turns, on one loop-mounted store; needs root. The
//! program measured is `$OP_DBUS_ACTIVATE`, or the one built for the bench. The
//! count waits for the disk twice: `TMPDIR=/dev/shm` shows the rest alone.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[path = "../tests/common/mod.rs"]
mod common;
use common::Device;

/// Rounds; the median of each column is printed.
const ROUNDS: usize = 41;

const SCRIPT: &str = r#"set -e
mount -t btrfs -o subvol=@op-dbus,nosuid,nodev,noexec,noatime "$DEVICE" "$STORE"
mount --bind "$STORE/deploy/v1.0.0" "$LOWER"
mount -o remount,bind,ro,nosuid,nodev,exec "$LOWER"
layers="lowerdir=$STORE/deploy/v1.0.0,upperdir=$STORE/overlays/v1.0.0/upper,workdir=$STORE/overlays/v1.0.0/work"
mount -t overlay -o "nosuid,nodev,index=off,metacopy=off,xino=off,redirect_dir=off,$layers" op-dbus "$OVERLAY"
"#;

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times
        .get(times.len() / 2)
        .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

fn timed(command: &mut Command) -> Duration {
    let began = Instant::now();
    let output = command.output().unwrap();
    let time = began.elapsed();
    assert!(output.status.success(), "{output:?}");
    time
}

fn main() {
    if !common::is_root() {
        return;
    }
    let program = std::env::var_os("OP_DBUS_ACTIVATE").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_op-dbus-activate")),
        PathBuf::from,
    );
    println!("{}, median of {ROUNDS} rounds, in ms", program.display());
    let (mut device, _) = Device::with_good();
    fs::create_dir_all(&device.layout.store).unwrap();
    device.boot();
    device.down();

    println!("\nstore on the root file system, which is mounted already");
    let root = device.path("top");
    device.mount(&root, "subvolid=5", false);
    measure(&mut device, &program);
    common::unmount(&root);

    println!("\nstore on a device of its own, mounted for the first time");
    measure(&mut device, &program);
}

fn measure(device: &mut Device, program: &Path) {
    let (mut ours, mut totals, mut script) = (Vec::new(), Vec::new(), Vec::new());
    let mut steps: Vec<(String, Vec<Duration>)> = Vec::new();
    for _ in 0..ROUNDS {
        // Blessed each time, as a healthy device is: else good's limit is reached.
        device.record(|record| record.good_unblessed = 0);
        device.next_boot();
        ours.push(timed(&mut device.command(program)));
        let report = device.report();
        assert_eq!(report.degraded, Vec::<String>::new());
        assert!(report.counted);
        totals.push(Duration::from_micros(report.total_us));
        for (step, micros) in report.steps_us {
            let time = Duration::from_micros(micros);
            match steps.iter_mut().find(|(name, _)| *name == step) {
                Some((_, times)) => times.push(time),
                None => steps.push((step, vec![time])),
            }
        }
        device.down();
        script.push(timed(&mut mounts_by_script(device)));
        device.down();
    }
    let (ours, script) = (median(ours), median(script));
    for (step, times) in steps {
        println!("  {step:<32}{:>8.2}", median(times));
    }
    println!(
        "  {:<32}{:>8.2}",
        "total_us of activation.json",
        median(totals)
    );
    println!("op-dbus-activate                  {ours:>8.2}  decides, checks and counts too");
    println!("shell script of mount(8)          {script:>8.2}  mounts only");
    println!("ratio                             {:>8.1}", script / ours);
}

fn mounts_by_script(device: &Device) -> Command {
    let layout = &device.layout;
    let mut command = Command::new("sh");
    command
        .args(["-c", SCRIPT])
        .env("DEVICE", &device.node)
        .env("STORE", &layout.store)
        .env("LOWER", layout.host("/opt/op-dbus"))
        .env("OVERLAY", layout.host("/usr/local/op-dbus"));
    command
}
