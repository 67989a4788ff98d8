//! A file system without any room left, of data and of metadata: a boot is counted,
//! blessed, and versions are pruned all the same.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use op_dbus_activator::records::Records;
use op_dbus_activator::reserve::{PARTS, Reserve};
use op_dbus_bootstate::Record;
use op_dbus_bootstate::store::Writer;

use crate::common::noise;
use crate::crash::halfway;
use crate::fixture::{Device, names};
use crate::prune::{deleted, receive};

/// Files in each of the trees that share their metadata, and how many trees.
const FILES: usize = 1500;
const TREES: usize = 20;
/// Failures after which something counts as impossible: space that is freed by a
/// commit is used up by the next tries.
const ENOUGH: usize = 60;

/// Does something again and again until it fails, for good.
fn exhaust(device: &Device, mut step: impl FnMut(usize) -> bool) {
    let mut failed = 0;
    for number in 0.. {
        if !step(number) {
            failed += 1;
            if failed % 10 == 0 {
                let _ = op_dbus_btrfs::sync_filesystem(&device.layout.store);
            }
        }
        if failed > ENOUGH {
            return;
        }
    }
}

/// Fills data and metadata, until not even the time of a file can be changed if
/// that takes a block of its own.
fn fill(device: &Device) {
    let filler = device.store("filler");
    fs::create_dir(&filler).unwrap();
    let tree = filler.join("tree");
    op_dbus_btrfs::create_subvolume(&tree).unwrap();
    for number in 0..FILES {
        fs::write(tree.join(number.to_string()), noise(600)).unwrap();
    }
    op_dbus_btrfs::sync_filesystem(&tree).unwrap();
    let trees: Vec<_> = (0..TREES)
        .map(|number| filler.join(format!("tree.{number}")))
        .collect();
    for copy in &trees {
        op_dbus_btrfs::snapshot(&tree, copy, false).unwrap();
    }
    let mut big = File::create(filler.join("big")).unwrap();
    for length in [1 << 20, 64 << 10, 4 << 10] {
        let block = noise(length);
        while big.write_all(&block).is_ok() {}
    }
    let _ = big.sync_all();
    for length in [1900, 0] {
        let content = noise(length);
        exhaust(device, |number| {
            fs::write(filler.join(format!("{length}.{number}")), &content).is_ok()
        });
    }
    let touch = |path: &Path| {
        let file = File::options().write(true).open(path);
        file.and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH))
            .is_ok()
    };
    exhaust(device, |number| {
        let tree = &trees[number / 100 % TREES];
        touch(&tree.join((number * 13 % FILES).to_string()))
    });
    let _ = op_dbus_btrfs::sync_filesystem(&filler);
}

/// Gives all of it back.
fn empty(device: &Device) {
    let filler = device.store("filler");
    for entry in fs::read_dir(&filler).unwrap() {
        let path = entry.unwrap().path();
        let is_gone = || {
            if path.is_dir() {
                op_dbus_btrfs::delete_subvolume(&path).is_ok()
            } else {
                fs::remove_file(&path).is_ok()
            }
        };
        // Some deletions need the commit of those before.
        if !is_gone() {
            op_dbus_btrfs::sync_filesystem(&filler).unwrap();
            assert!(is_gone(), "{}", path.display());
        }
    }
    fs::remove_dir(filler).unwrap();
}

fn parts(device: &Device) -> usize {
    let reserve = Reserve::new(&device.layout);
    (0..PARTS)
        .filter(|&number| reserve.part(number).exists())
        .count()
}

/// v1.0.0 is good, v1.1.0 on trial, v1.2.0 is there as well.
fn with_a_trial(mib: u64, mkfs: &[&str]) -> Option<Device> {
    let (device, builder) = Device::with_options(mib, mkfs)?.bless_first();
    receive(&device, &builder, "v1.1.0");
    receive(&device, &builder, "v1.2.0");
    device.result(&["stage", "v1.1.0"], "on-trial");
    Some(device)
}

/// Whether the record can be written at all: as a boot does it.
fn is_writable(device: &Device) -> bool {
    let base = device.record();
    let next = Record {
        sequence: base.sequence,
        ..base.clone()
    };
    let mut writer = Writer::new(Records::new(&device.layout));
    writer.load();
    writer.commit(Some(&base), next).is_ok()
}

fn a_full_device_works(mib: u64, mkfs: &[&str]) {
    let Some(mut device) = with_a_trial(mib, mkfs) else {
        return;
    };
    assert_eq!(parts(&device), usize::from(PARTS), "{mkfs:?}");
    fill(&device);
    assert_eq!(device.boot(), "trial v1.1.0", "{mkfs:?}");
    eprintln!("{mkfs:?}: {} parts are left after the boot", parts(&device));
    device.result(&["bless"], "trial");
    eprintln!(
        "{mkfs:?}: {} parts are left after the bless",
        parts(&device)
    );
    // Whatever else the operator may want.
    device.result(&["stage", "v1.2.0"], "on-trial");
    device.result(&["cancel"], "cancelled");
    let pruned = device.result(&["prune", "--keep", "1"], "nothing-to-do");
    let missing = usize::from(PARTS) - parts(&device);
    assert_eq!(pruned["reserve"]["missing"], missing, "{pruned}");
    device.result(&["stage", "v1.2.0"], "on-trial");
    device.boot();
    device.result(&["condemn"], "condemned");
    assert_eq!(device.boot(), "good v1.1.0");
    device.result(&["bless"], "good");
    let pruned = device.result(&["prune", "--keep", "1"], "pruned");
    assert_eq!(deleted(&pruned), ["v1.2.0"]);
    assert_eq!(names(&device.store("deploy")), ["v1.0.0", "v1.1.0"]);
    eprintln!("{mkfs:?}: {} parts are left in the end", parts(&device));

    // With room again, the reserve is made again.
    empty(&device);
    let give_up = Instant::now() + Duration::from_secs(60);
    while parts(&device) < usize::from(PARTS) {
        assert!(Instant::now() < give_up, "{} parts", parts(&device));
        op_dbus_btrfs::free_deleted(&device.layout.store).unwrap();
        device.json(&["prune"]);
    }
    device.result(&["verify", "--deep"], "sound");
    device.result(&["audit", "verify"], "sound");
}

#[test]
fn a_device_without_room_boots_blesses_and_prunes() {
    a_full_device_works(128, &[]);
}

#[test]
fn likewise_with_single_metadata() {
    a_full_device_works(128, &["--metadata", "single"]);
}

#[test]
fn likewise_with_data_and_metadata_mixed() {
    a_full_device_works(128, &["--mixed"]);
}

/// That the others mean something.
#[test]
fn without_a_reserve_a_full_device_counts_nothing() {
    let Some(device) = with_a_trial(128, &[]) else {
        return;
    };
    for number in 0..PARTS {
        fs::remove_file(Reserve::new(&device.layout).part(number)).unwrap();
    }
    assert!(is_writable(&device));
    fill(&device);
    assert!(!is_writable(&device));
    empty(&device);
}

/// What a receive leaves free it was asked for before; then somebody else writes.
#[test]
fn a_receive_leaves_room_while_it_is_applied() {
    let Some((device, builder)) = Device::blessed() else {
        return;
    };
    fs::write(builder.tree("work/big"), noise(2 << 20)).unwrap();
    let release = builder.publish("v1.1.0", &[None]);
    let running = halfway(&device, &release);
    let found = rustix::fs::statvfs(&device.layout.store).unwrap();
    let left = found.f_bavail * found.f_frsize;
    let other = device.store("somebody-s");
    let length = usize::try_from(left - (20 << 20)).unwrap();
    fs::write(&other, noise(length)).unwrap();
    op_dbus_btrfs::sync_filesystem(&device.layout.store).unwrap();
    let (code, said) = running.finish();
    assert_eq!(code, 11, "{said}");
    assert!(said.contains("28 MiB are kept free"), "{said}");
    assert_eq!(names(&device.store("deploy")), ["v1.0.0"]);
    assert_eq!(names(&device.store("incoming")), [""; 0]);
    fs::remove_file(other).unwrap();
    op_dbus_btrfs::sync_filesystem(&device.layout.store).unwrap();
    device.result(&["receive", &release.stream(0)], "received");
}
