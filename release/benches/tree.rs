//! How long the digest of a tree takes, beside checksum programs that read the
//! same files and nothing else.
//!
//! Processor time stands beside the time by the clock: on a machine that does
//! other work too it is the one to compare. By turns, on a loop-mounted Btrfs, once with nothing of it in memory and once
//! with all of it; needs root. The tree is a copy of `$OP_DBUS_TREE`, or of
//! `/usr/bin`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use op_dbus_loopback::sh;
use op_dbus_release::tree::{Cache, digest};

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/common/mod.rs"]
mod common;
use common::Disk;

/// Rounds; the median of each column is printed.
const ROUNDS: usize = 5;
const PROGRAMS: [&str; 3] = [
    "xargs -0 sha256sum",
    "xargs -0 -n 64 -P 2 sha256sum",
    "xargs -0 openssl sha256",
];

/// Seconds by the clock and of the processors.
type Times = Vec<(f64, f64)>;

fn medians(times: &Times) -> (f64, f64) {
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut column: Vec<_> = times.iter().map(of).collect();
        column.sort_by(f64::total_cmp);
        column[column.len() / 2]
    };
    (median(|times| times.0), median(|times| times.1))
}

/// Processor time of this program and those it has waited for, in seconds:
/// fields 14 to 17 of `proc_pid_stat(5)`, in ticks of 10 ms.
fn processor() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields = fields.split_ascii_whitespace().skip(11).take(4);
    fields
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / 100.0
}

fn timed(what: impl FnOnce()) -> (f64, f64) {
    let (began, used) = (Instant::now(), processor());
    what();
    (began.elapsed().as_secs_f64(), processor() - used)
}

fn program(pipe: &str, tree: &Path) {
    let script = format!("find . -type f -print0 | {pipe}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(tree);
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{pipe}");
}

fn main() {
    let Some(disk) = Disk::new(8192) else {
        return;
    };
    let source = std::env::var("OP_DBUS_TREE").unwrap_or_else(|_| "/usr/bin".to_owned());
    let tree = disk.path("tree");
    op_dbus_btrfs::create_subvolume(&tree).unwrap();
    sh(
        "cp",
        &[
            "-a",
            "--no-target-directory",
            &source,
            tree.to_str().unwrap(),
        ],
    );
    op_dbus_btrfs::sync_filesystem(&tree).unwrap();
    let size = digest(&tree, Cache::Keep).unwrap().tree;
    let mib = size.bytes >> 20;
    println!(
        "{source}: {} entries, {mib} MiB; median of {ROUNDS} rounds, in s",
        size.entries
    );
    for cold in [true, false] {
        let mut ours = Times::new();
        let mut theirs = PROGRAMS.map(|_| Times::new());
        let prepare = || {
            if cold {
                disk.cool();
            } else {
                program("xargs -0 cat", &tree);
            }
        };
        let cache = if cold { Cache::Drop } else { Cache::Keep };
        for _ in 0..ROUNDS {
            prepare();
            ours.push(timed(|| {
                assert_eq!(digest(&tree, cache).unwrap().tree, size);
            }));
            for (pipe, times) in PROGRAMS.iter().zip(&mut theirs) {
                prepare();
                times.push(timed(|| program(pipe, &tree)));
            }
        }
        let place = if cold { "from the disk" } else { "from memory" };
        println!("\n  {place:<34}{:>8} {:>8}", "clock", "cpu");
        let (clock, used) = medians(&ours);
        println!(
            "  {:<34}{clock:>8.2} {used:>8.2}",
            "tree digest, metadata too"
        );
        for (pipe, times) in PROGRAMS.iter().zip(&theirs) {
            let (time, processor) = medians(times);
            let (times, more) = (time / clock, processor / used);
            println!("  {pipe:<34}{time:>8.2} {processor:>8.2}   {times:.2} x, {more:.2} x");
        }
    }
}
