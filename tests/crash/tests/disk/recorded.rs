//! What a log holds: all that was written, and every flush.

use std::fs::{self, File};
use std::path::Path;

use op_dbus_crash::{Entry, Image, Kind, Log, Recorder, State};
use op_dbus_loopback::{sh, unmount};

use crate::bench::{Bench, mount};

/// A file system made and used on the recorder itself, discards and all.
fn formatted(bench: &Bench) -> Log {
    let recorder = Recorder::new(Image::empty(64 << 20)).unwrap();
    let node = recorder.node().to_owned();
    sh(
        "mkfs.btrfs",
        &["-q", "-m", "single", node.to_str().unwrap()],
    );
    let top = bench.top();
    let options = Some("discard=sync");
    nix::mount::mount(
        Some(&node),
        &top,
        Some("btrfs"),
        nix::mount::MsFlags::empty(),
        options,
    )
    .unwrap();
    for round in 0..3 {
        fs::write(top.join("file"), vec![round; 1 << 20]).unwrap();
        nix::unistd::syncfs(File::open(&top).unwrap()).unwrap();
    }
    unmount(&top);
    let log = recorder.finish().unwrap();
    // It is no device any more.
    assert!(mount(&node, &top).is_err());
    log
}

fn end(log: &Log) -> State {
    State {
        position: log.entries.len(),
        kind: Kind::Prefix,
    }
}

#[test]
fn all_that_was_written_is_in_the_log() {
    let Some(bench) = Bench::without_base() else {
        return;
    };
    let log = formatted(&bench);
    let saved = bench.dir().join("log");
    log.save(&saved).unwrap();
    let log = Log::load(&saved).unwrap();
    let image = bench.dir().join("end");
    end(&log).image(&log).unwrap().write(&image).unwrap();
    let node = bench.attach(&image);
    sh("btrfs", &["check", "--check-data-csum", &node]);
    mount(Path::new(&node), &bench.top()).unwrap();
    let content = fs::read(bench.top().join("file")).unwrap();
    assert!(content == vec![2; 1 << 20]);
    // Zeros take no room.
    let size = fs::metadata(&saved).unwrap().len();
    assert!(size < 16 << 20, "{size} bytes");
}

/// Btrfs writes a superblock with a flush before it, and asks for it to be durable
/// by itself (FUA), which the block layer makes another flush of.
#[test]
fn a_superblock_stands_between_two_flushes() {
    let Some(bench) = Bench::without_base() else {
        return;
    };
    let log = formatted(&bench);
    let made = |entry: &Entry| {
        matches!(
            entry,
            Entry::Write {
                offset: 0x1_0000,
                ..
            }
        )
    };
    // The ones of mkfs come from a program, not from the file system.
    let last = log.entries.len() - 1;
    let supers = (1..last).filter(|place| made(&log.entries[*place]));
    let supers: Vec<_> = supers.rev().take(3).collect();
    assert_eq!(supers.len(), 3);
    for place in supers {
        let before = log.entries[..place]
            .iter()
            .rposition(|entry| *entry == Entry::Flush);
        let after = log.entries[place..]
            .iter()
            .position(|entry| *entry == Entry::Flush);
        // Its copies may come beside it.
        assert!(place - before.unwrap() <= 3, "{place}: {before:?}");
        assert!(after.unwrap() <= 3, "{place}: {after:?}");
    }
}
