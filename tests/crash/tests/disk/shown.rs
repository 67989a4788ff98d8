//! A state is shown as it is, whatever was shown before it, and beside others.

use std::fs::{self, File};
use std::io::Read as _;
use std::sync::{Arc, Barrier, mpsc};

use nix::mount::MntFlags;
use op_dbus_crash::states::enumerate;
use op_dbus_crash::{BLOCK, Replayer};
use op_dbus_loopback::unmount;

use crate::bench::{Bench, mount, mounts_clones};
use crate::cuts::{found, two_durable_steps};

#[test]
fn no_block_of_another_state_is_served() {
    let Some(bench) = Bench::new() else { return };
    let log = Arc::new(bench.record(|top, _| {
        for round in 0..6_u8 {
            for file in 0..8 {
                let path = top.join(format!("file{file}"));
                fs::write(path, vec![round; 40_000 + 500 * usize::from(round)]).unwrap();
            }
            File::open(top).unwrap().sync_all().unwrap();
            nix::unistd::syncfs(File::open(top).unwrap()).unwrap();
        }
    }));
    let mut states = enumerate(&log, 3, 24);
    // Forwards and backwards, near and far.
    let middle = states.len() / 2;
    let (early, late) = states.split_at_mut(middle);
    early.reverse();
    let order = early
        .iter()
        .zip(late)
        .flat_map(|(early, late)| [*early, *late]);
    let mut replayer = Replayer::new(log.clone(), "op-dbus test").unwrap();
    let other = bench.dir().join("image");
    for (number, state) in order.enumerate() {
        let expected = state.image(&log).unwrap();
        let node = replayer.present(&state).unwrap().to_owned();
        let content = fs::read(&node).unwrap();
        assert_eq!(content.len() as u64, expected.size());
        for (number, found) in content.chunks(BLOCK).enumerate() {
            let same = found == expected.block(number).unwrap();
            assert!(same, "{state}: block {number} is of another state");
        }
        if number % 8 == 0 {
            replayer.image_to(&other).unwrap();
            assert_eq!(op_dbus_crash::Image::read(&other).unwrap(), expected);
        }
        // Btrfs clears the buffer cache of a device: not every state has a mount.
        if number % 3 == 1 {
            continue;
        }
        // Now everything is in the caches, and what is written next changes it.
        mount(&node, &bench.top()).unwrap();
        fs::write(
            bench.top().join("scratch"),
            vec![u8::try_from(number).unwrap(); 300_000],
        )
        .unwrap();
        let mut file = File::open(bench.top().join("scratch")).unwrap();
        file.sync_all().unwrap();
        file.read_to_end(&mut Vec::new()).unwrap();
        drop(file);
        for entry in fs::read_dir(bench.top()).unwrap() {
            fs::read(entry.unwrap().path()).unwrap();
        }
        unmount(&bench.top());
        assert_ne!(
            fs::read(&node).unwrap(),
            content,
            "{state}: nothing was written"
        );
    }
}

#[test]
fn a_state_that_is_mounted_stays() {
    let Some(bench) = Bench::new() else { return };
    let log = Arc::new(two_durable_steps(&bench));
    let states = enumerate(&log, 1, 5);
    let mut replayer = Replayer::new(log, "op-dbus test").unwrap();
    let node = replayer.present(&states[0]).unwrap().to_owned();
    mount(&node, &bench.top()).unwrap();
    let refused = replayer.present(&states[1]).unwrap_err().to_string();
    assert!(refused.contains("still in use"), "{refused}");
    unmount(&bench.top());
    replayer.present(&states[1]).unwrap();
}

#[test]
fn two_workers_look_at_two_states_at_once() {
    let Some(bench) = Bench::new() else { return };
    if !mounts_clones() {
        eprintln!("SKIPPED: kernels before 6.7 mount no two clones of a file system at once");
        return;
    }
    let log = Arc::new(two_durable_steps(&bench));
    let mut states = enumerate(&log, 1, 60);
    // Each round has two.
    states.truncate(states.len() / 2 * 2);
    let both = Arc::new(Barrier::new(2));
    let (send, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (log, both, send, states) = (log.clone(), both.clone(), send.clone(), &states);
            scope.spawn(move || {
                // A mount namespace and a directory for each.
                let bench = Bench::without_base().unwrap();
                let mut replayer = Replayer::new(log, "op-dbus test").unwrap();
                for state in states.iter().skip(worker).step_by(2) {
                    let node = replayer.present(state).unwrap();
                    let mounted = mount(node, &bench.top());
                    both.wait();
                    send.send(mounted.map(|()| (*state, found(&bench.top()))))
                        .unwrap();
                    both.wait();
                    nix::mount::umount2(&bench.top(), MntFlags::empty()).unwrap();
                }
                replayer.close().unwrap();
            });
        }
    });
    drop(send);
    let mut count = 0;
    for result in results {
        let (state, there) = result.unwrap();
        let acknowledged = log.step_at(state.position).acknowledged.unwrap_or(0);
        assert!(there[0] || acknowledged < 1, "{state}");
        assert!(there[1] || acknowledged < 2, "{state}");
        count += 1;
    }
    assert_eq!(count, states.len());
    assert!(count > 40);
}
