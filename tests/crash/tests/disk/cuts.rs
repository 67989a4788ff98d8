//! What is promised, and what not, about a file on a real Btrfs.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use op_dbus_crash::states::enumerate;
use op_dbus_crash::{BLOCK, Entry, Kind, Log, Mark, Replayer, State};
use op_dbus_loopback::unmount;

use crate::bench::{Bench, mount};

/// Two steps that a program may take for durable once they have returned.
pub(crate) fn two_durable_steps(bench: &Bench) -> Log {
    bench.record(|top, mark| {
        mark(Mark::Begin(1));
        let mut file = File::create(top.join("one")).unwrap();
        file.write_all(&vec![1; 100_000]).unwrap();
        file.sync_all().unwrap();
        mark(Mark::Acknowledged(1));
        mark(Mark::Begin(2));
        let mut file = File::create(top.join("two.tmp")).unwrap();
        file.write_all(&[2; 3000]).unwrap();
        file.sync_all().unwrap();
        fs::rename(top.join("two.tmp"), top.join("two")).unwrap();
        File::open(top).unwrap().sync_all().unwrap();
        mark(Mark::Acknowledged(2));
    })
}

/// Which of the steps are there, each with its whole content.
pub(crate) fn found(top: &Path) -> [bool; 2] {
    let one = fs::read(top.join("one")).is_ok_and(|content| content == vec![1; 100_000]);
    let two = fs::read(top.join("two")).is_ok_and(|content| content == [2; 3000]);
    [one, two]
}

/// The states in which something that was acknowledged is missing or the file
/// system can't be mounted, and how many states there were in which a step was
/// and was not there.
fn search(bench: &Bench, log: &Arc<Log>, count: usize) -> (Vec<String>, [[usize; 2]; 2]) {
    let mut replayer = Replayer::new(log.clone(), "op-dbus test").unwrap();
    let mut broken = Vec::new();
    let mut counts = [[0; 2]; 2];
    for state in enumerate(log, 1, count) {
        let node = replayer.present(&state).unwrap();
        if let Err(error) = mount(node, &bench.top()) {
            broken.push(format!("{state}: {error}"));
            continue;
        }
        let there = found(&bench.top());
        unmount(&bench.top());
        let acknowledged = log.step_at(state.position).acknowledged.unwrap_or(0);
        for (step, there) in (1..).zip(there) {
            counts[step as usize - 1][usize::from(there)] += 1;
            if step <= acknowledged && !there {
                broken.push(format!("{state}: step {step} is lost"));
            }
        }
    }
    replayer.close().unwrap();
    (broken, counts)
}

#[test]
fn what_was_synced_is_there_after_every_power_cut() {
    let Some(bench) = Bench::new() else { return };
    let mut log = two_durable_steps(&bench);
    let (broken, counts) = search(&bench, &Arc::new(log.clone()), 120);
    assert!(broken.is_empty(), "{broken:#?}");
    for [missing, there] in counts {
        assert!(missing > 0 && there > 0, "{counts:?}");
    }

    // A disk that ignores flushes loses it: so would a program that sends none.
    log.entries.retain(|entry| *entry != Entry::Flush);
    let (broken, _) = search(&bench, &Arc::new(log), 120);
    assert!(broken.len() > 5, "{broken:#?}");
}

#[test]
fn what_was_not_synced_is_lost_by_some_power_cut() {
    let Some(bench) = Bench::new() else { return };
    let log = bench.record(|top, mark| {
        mark(Mark::Begin(1));
        fs::write(top.join("one"), vec![1; 100_000]).unwrap();
        mark(Mark::Acknowledged(1));
    });
    let (broken, _) = search(&bench, &Arc::new(log), 40);
    let lost = |line: &&String| line.ends_with("step 1 is lost");
    assert!(broken.iter().any(|line| lost(&line)), "{broken:#?}");
    assert!(broken.iter().all(|line| lost(&line)), "{broken:#?}");
}

#[test]
fn a_torn_superblock_is_more_than_btrfs_survives() {
    let Some(bench) = Bench::new() else { return };
    let log = two_durable_steps(&bench);
    let image = bench.dir().join("torn");
    let last = State {
        position: log.entries.len(),
        kind: Kind::Prefix,
    };
    last.image(&log).unwrap().write(&image).unwrap();
    let first = State {
        position: 0,
        kind: Kind::Prefix,
    };
    let old = first.image(&log).unwrap();
    let node = bench.attach(&image);
    mount(Path::new(&node), &bench.top()).unwrap();
    unmount(&bench.top());
    // Half of it is of the state before.
    let device = File::options().write(true).open(&node).unwrap();
    let start = 64 << 10;
    let block = old.block(start / BLOCK).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&device, &block[..512], start as u64).unwrap();
    device.sync_all().unwrap();
    let refused = mount(Path::new(&node), &bench.top()).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(nix::libc::EINVAL), "{refused}");
}
