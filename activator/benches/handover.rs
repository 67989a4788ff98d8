//! What handing good's overlay over to a trial costs, for overlays of 10, 10,000
//! and 500,000 files, by turns in one run.
//!
//! Each has a file system of its own on a loop device, mounted anew for each
//! boot; needs root and 1.5 GB below `$TMPDIR`. The program measured is
//! `$OP_DBUS_ACTIVATE`, or the one built for the bench. `FILES=10,1000` for other
//! sizes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use op_dbus_activator::layout::Layout;
use op_dbus_activator::overlay::Begin;
use op_dbus_bootstate::Version;

#[path = "../tests/common/mod.rs"]
mod common;
use common::Device;

/// Rounds; the median of each is printed.
const ROUNDS: usize = 15;
/// Files in one directory.
const IN_A_DIRECTORY: usize = 1000;
/// Steps that come with an overlay.
const STEPS: [&str; 2] = ["overlay-prepare", "overlay"];

/// Times in milliseconds.
#[derive(Default)]
struct Times {
    steps: [Vec<f64>; 2],
    whole: Vec<f64>,
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A device with so many files in good's overlay, and a version on trial.
fn device(files: usize) -> Device {
    let device = Device::sized(2048, &[]).publish_all();
    fs::create_dir_all(&device.layout.store).unwrap();
    let good: Version = "v1.1.0".parse().unwrap();
    device.offline(|layout| {
        op_dbus_btrfs::create_subvolume(&layout.overlay(&good)).unwrap();
        fs::create_dir(layout.upper(&good)).unwrap();
        for number in 0..files {
            let dir = layout
                .upper(&good)
                .join(format!("{}", number / IN_A_DIRECTORY));
            if number % IN_A_DIRECTORY == 0 {
                fs::create_dir(&dir).unwrap();
            }
            fs::write(dir.join(format!("{number}")), "of the user").unwrap();
        }
    });
    device
}

/// As if the trial had never run.
fn undo(layout: &Layout) {
    let trial: Version = "v1.2.0".parse().unwrap();
    let overlay = layout.overlay(&trial);
    if overlay.exists() {
        op_dbus_btrfs::delete_subvolume(&overlay).unwrap();
        op_dbus_btrfs::free_deleted(&layout.store).unwrap();
    }
}

fn measure(device: &mut Device, program: &Path, times: &mut Times) {
    device.offline(undo);
    device.record(|record| {
        record.last_boot = None;
        let trial = record.trial.as_mut().unwrap();
        (trial.attempts, trial.tries_left) = (0, 3);
    });
    device.next_boot();
    let began = Instant::now();
    let output = device.command(program).output().unwrap();
    let whole = began.elapsed();
    assert!(output.status.success(), "{output:?}");
    let report = device.report();
    assert_eq!(report.degraded, Vec::<String>::new());
    assert_eq!(report.overlay.unwrap().origin, Begin::Carried);
    let carried = device.layout.host("/usr/local/op-dbus/0/0");
    assert_eq!(fs::read_to_string(carried).unwrap(), "of the user");
    times.whole.push(millis(whole));
    for (step, times) in STEPS.iter().zip(&mut times.steps) {
        let found = report.steps_us.iter().find(|(name, _)| name == step);
        times.push(millis(Duration::from_micros(found.unwrap().1)));
    }
    device.down();
}

fn main() {
    if !common::is_root() {
        return;
    }
    let program = std::env::var_os("OP_DBUS_ACTIVATE").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_op-dbus-activate")),
        PathBuf::from,
    );
    let sizes: Vec<usize> = std::env::var("FILES")
        .unwrap_or_else(|_| "10,10000,500000".to_owned())
        .split(',')
        .map(|size| size.parse().unwrap())
        .collect();
    println!("{}, median of {ROUNDS} rounds, in ms", program.display());
    let mut devices: Vec<_> = sizes.iter().map(|&files| device(files)).collect();
    let mut times: Vec<Times> = sizes.iter().map(|_| Times::default()).collect();
    for _ in 0..ROUNDS {
        for (device, times) in devices.iter_mut().zip(&mut times) {
            measure(device, &program, times);
        }
    }
    println!(
        "\n{:>10}{:>18}{:>10}{:>10}{:>22}",
        "files", STEPS[0], STEPS[1], "whole", "hand-over, ratio"
    );
    let mut first = None;
    for (files, times) in sizes.iter().zip(&mut times) {
        let [prepare, overlay] = times.steps.each_mut().map(|times| median(times));
        let both = prepare + overlay;
        let first = *first.get_or_insert(both);
        println!(
            "{files:>10}{prepare:>18.2}{overlay:>10.2}{:>10.2}{:>22.2}",
            median(&mut times.whole),
            both / first
        );
    }
}
