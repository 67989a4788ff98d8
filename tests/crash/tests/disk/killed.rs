//! A process that is killed takes its disk along, whatever it was doing with it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use op_dbus_crash::{Kind, Recorder, Replayer, State, Tape};

use crate::bench::{Bench, mount};

/// What the child is to do; it is the same test, started again.
const ROLE: &str = "OP_DBUS_CRASH_TEST_ROLE";

/// Writes to what is mounted, from two threads, until killed.
fn write_for_ever(top: &Path) -> ! {
    let write = |name: &str| {
        let mut number = 0_usize;
        loop {
            let mut file = File::create(top.join(name)).unwrap();
            file.write_all(&vec![7; 200_000 + number % 1000]).unwrap();
            if number % 2 == 0 {
                file.sync_all().unwrap();
            } else {
                nix::unistd::syncfs(&file).unwrap();
            }
            number += 1;
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| -> ! { write("one") });
        write("two")
    })
}

/// Says which device it uses once it writes to it.
fn child(role: &str) -> ! {
    let bench = Bench::new().unwrap();
    let ready = |node: &Path| {
        mount(node, &bench.top()).unwrap();
        println!("node {}", node.display());
    };
    if role == "record" {
        let recorder = Recorder::new(bench.base()).unwrap();
        ready(recorder.node());
        write_for_ever(&bench.top());
    } else {
        let log = Arc::new(Tape::new(bench.base()).into_log());
        let mut replayer = Replayer::new(log, "op-dbus test").unwrap();
        let state = State {
            position: 0,
            kind: Kind::Prefix,
        };
        ready(replayer.present(&state).unwrap());
        write_for_ever(&bench.top());
    }
}

/// The child's temporary directory is in this one, as it can't clear it away.
fn start(role: &str, dir: &Path) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "killed::nothing_of_a_killed_process_stays",
            "--nocapture",
        ])
        .env(ROLE, role)
        .env("TMPDIR", dir)
        .stdout(Stdio::piped())
        // It can be killed with all it may have started.
        .process_group(0)
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let node = lines
        .map(Result::unwrap)
        .find_map(|line| Some(line.split_once("node ")?.1.to_owned()));
    (child, node.unwrap())
}

fn within(limit: Duration, mut is: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if is() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn nothing_of_a_killed_process_stays() {
    if let Ok(role) = std::env::var(ROLE) {
        child(&role);
    }
    if !op_dbus_loopback::is_root() {
        return;
    }
    let limit = Duration::from_secs(20);
    let dir = tempfile::tempdir().unwrap();
    for (nth, role) in ["record", "replay"].repeat(4).into_iter().enumerate() {
        let (mut child, node) = start(role, dir.path());
        std::thread::sleep(Duration::from_millis(37 * nth as u64));
        child.kill().unwrap();
        let ended = within(limit, || child.try_wait().unwrap().is_some());
        assert!(ended, "{role} {nth}: the process hangs");
        // The last of its threads may still unmount.
        let backing = Path::new("/sys/block")
            .join(&node[5..])
            .join("loop/backing_file");
        // The name ends with the process; another may have the device by now.
        let process = format!(" {}", child.id());
        // Of a file in memory more is said.
        let uses = |file: String| {
            file.trim_end()
                .trim_end_matches(" (deleted)")
                .ends_with(&process)
        };
        let stays = || fs::read_to_string(&backing).is_ok_and(uses);
        assert!(within(limit, || !stays()), "{role} {nth}: {node} stays");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&format!(" {node} ")), "{mounts}");
    }
}
