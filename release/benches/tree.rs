//! How long the digest of a tree takes, beside checksum programs that read the
//! same files and nothing else.
//!
//! By turns, on a loop-mounted Btrfs, once with nothing of it in memory and once
//! with all of it; needs root. The tree is a copy of `$OP_DBUS_TREE`, or of
//! `/usr/bin`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use op_dbus_release::tree::{Cache, digest};

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/common/mod.rs"]
mod common;
use common::{Disk, sh};

/// Rounds; the median of each column is printed.
const ROUNDS: usize = 7;
const PROGRAMS: [&str; 3] = [
    "xargs -0 sha256sum",
    "xargs -0 -n 64 -P 2 sha256sum",
    "xargs -0 openssl sha256",
];

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn seconds(what: impl FnOnce()) -> f64 {
    let began = Instant::now();
    what();
    began.elapsed().as_secs_f64()
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
        let mut ours = Vec::new();
        let mut theirs = PROGRAMS.map(|_| Vec::new());
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
            ours.push(seconds(|| {
                assert_eq!(digest(&tree, cache).unwrap().tree, size)
            }));
            for (pipe, times) in PROGRAMS.iter().zip(&mut theirs) {
                prepare();
                times.push(seconds(|| program(pipe, &tree)));
            }
        }
        println!("\n{}", if cold { "from the disk" } else { "from memory" });
        let ours = median(&mut ours);
        println!("  {:<34}{ours:>8.3}", "tree digest, metadata too");
        for (pipe, times) in PROGRAMS.iter().zip(&mut theirs) {
            let time = median(times);
            println!("  {pipe:<34}{time:>8.3}  {:.2} x", time / ours);
        }
    }
}
