//! Executables that misbehave, really run: whatever they do, the call returns and
//! nothing of them is left.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use op_dbus_agent::child::{Ended, How, Job, Runner};
use tempfile::TempDir;

const AGENT: &str = env!("CARGO_BIN_EXE_op-dbus-agent");
/// Never reached by what is meant to end by itself.
const LONG: Duration = Duration::from_secs(120);
/// For what is meant to hang.
const SHORT: Duration = Duration::from_millis(300);
/// What a busy machine may need in its place.
const BUSY: Duration = Duration::from_secs(40);

fn job(script: &str, limit: Duration) -> Job {
    Job {
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
        stdin: Vec::new(),
        limit,
        keep: 1000,
    }
}

fn run(script: &str, limit: Duration) -> Ended {
    Runner::with(AGENT).run(&job(script, limit))
}

/// Runs what hangs, with more and more time until it got as far as the test is
/// about, whatever else the machine does.
fn hang(script: &str, far_enough: impl Fn(&Ended) -> bool) -> Ended {
    let mut limit = SHORT;
    loop {
        let ended = run(script, limit);
        assert_eq!((&ended.how, ended.stuck), (&How::TimedOut, 0), "{ended:?}");
        if far_enough(&ended) || limit > BUSY {
            return ended;
        }
        limit *= 2;
    }
}

/// A place where scripts leave the numbers of their processes, a file each.
struct Pids(TempDir);

impl Pids {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// `script` with `PID name` replaced by writing down the shell's number.
    /// `$$` would be the outer shell's.
    fn script(&self, script: &str) -> String {
        let note = format!(
            "read me rest </proc/self/stat; echo $me >{dir}/tmp.$me; mv {dir}/tmp.$me {dir}/",
            dir = self.path().display()
        );
        script.replace("PID ", &note)
    }

    fn get(&self, name: &str) -> u32 {
        let path = self.path().join(name);
        fs::read_to_string(&path).unwrap().trim().parse().unwrap()
    }

    fn has(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.path().join(name).exists())
    }

    /// None of them is there any more, not as a zombie either.
    fn assert_gone(&self, names: &[&str]) {
        for name in names {
            assert!(!there(self.get(name)), "{name} is left");
        }
    }
}

fn there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits for what another process does; the bound is only for a test that fails.
fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < LONG, "waited in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_exit_code_and_both_streams_come_back() {
    let ended = run("echo out; echo err >&2; exit 75", LONG);
    assert_eq!(ended.how, How::Exited(75));
    assert_eq!(ended.output, "out\nerr\n");
    assert_eq!((ended.dropped, ended.swept, ended.stuck), (0, 0, 0));
}

#[test]
fn a_signal_of_its_own_is_told_from_the_limit() {
    assert_eq!(run("kill -9 $$", LONG).how, How::Signalled(9));
}

#[test]
fn standard_input_arrives_whole_and_ends() {
    let mut job = job("wc -c", LONG);
    job.stdin = vec![b'x'; 300_000];
    let ended = Runner::with(AGENT).run(&job);
    assert_eq!((ended.how, ended.output.trim()), (How::Exited(0), "300000"));
}

#[test]
fn standard_input_nobody_reads_holds_nobody_up() {
    let mut job = job("exit 3", LONG);
    job.stdin = vec![b'x'; 300_000];
    assert_eq!(Runner::with(AGENT).run(&job).how, How::Exited(3));
    job.argv[2] = "exec <&-; exit 4".into();
    assert_eq!(Runner::with(AGENT).run(&job).how, How::Exited(4));
}

#[test]
fn what_cannot_be_executed_says_why() {
    let dir = TempDir::new().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    for (path, word) in [
        (dir.path().join("missing"), "No such file"),
        (plain, "Permission denied"),
    ] {
        let mut job = job("", LONG);
        job.argv = vec![path.into()];
        let How::NotStarted(reason) = Runner::with(AGENT).run(&job).how else {
            panic!("started");
        };
        assert!(reason.contains(word), "{reason}");
    }
}

#[test]
fn one_that_hangs_and_ignores_sigterm_is_killed() {
    let pids = Pids::new();
    let script = pids.script("trap '' TERM; echo before; PID a; while :; do sleep 1000; done");
    let ended = hang(&script, |_| pids.has(&["a"]));
    assert_eq!(ended.output, "before\n");
    pids.assert_gone(&["a"]);
}

#[test]
fn one_that_minds_sigterm_may_clean_up() {
    let script = "trap 'echo cleaned; exit 0' TERM; sleep 1000 & wait $!";
    let ended = hang(script, |ended| !ended.output.is_empty());
    // Before that a shell may say that its sleep was terminated as well.
    assert!(ended.output.ends_with("cleaned\n"), "{}", ended.output);
}

#[test]
fn a_daemon_that_forked_twice_is_found() {
    let pids = Pids::new();
    let daemon = pids.script("trap \"\" TERM HUP; PID daemon; exec sleep 1000");
    let script = format!(
        "(setsid sh -c '{daemon}' >/dev/null 2>&1 </dev/null &); \
         while ! [ -e {}/daemon ]; do sleep 0.01; done; {}",
        pids.path().display(),
        pids.script("PID main; exit 0"),
    );
    let ended = run(&script, LONG);
    assert_eq!(ended.how, How::Exited(0));
    // The mv(1) that told of it may still be there.
    assert!(ended.swept >= 1, "{ended:?}");
    pids.assert_gone(&["daemon", "main"]);
}

#[test]
fn a_whole_tree_goes_at_the_limit() {
    let pids = Pids::new();
    let script = pids.script(
        "trap '' TERM; PID a; \
         (PID b; (PID c; setsid sh -c 'sleep 1000 & sleep 1000') & sleep 1000) & wait",
    );
    hang(&script, |_| pids.has(&["a", "b", "c"]));
    pids.assert_gone(&["a", "b", "c"]);
}

#[test]
fn one_that_forks_on_and_on_is_caught() {
    let pids = Pids::new();
    let script = pids.script("trap '' TERM; f() { sleep 0.05; PID a; f & }; f; sleep 1000");
    hang(&script, |_| pids.has(&["a"]));
    pids.assert_gone(&["a"]);
}

#[test]
fn closed_output_does_not_hide_a_hang() {
    let pids = Pids::new();
    let script = pids.script("PID a; exec >&- 2>&- <&-; sleep 1000");
    let ended = hang(&script, |_| pids.has(&["a"]));
    assert_eq!(ended.output, "");
    pids.assert_gone(&["a"]);
}

#[test]
fn a_flood_is_cut_to_its_end() {
    let script = "i=0; while [ $i -lt 5000 ]; do echo 0123456789 $i; i=$((i+1)); done; echo last";
    let ended = run(script, LONG);
    assert_eq!(ended.how, How::Exited(0));
    assert_eq!(ended.output.len(), 1000);
    assert!(ended.output.ends_with("4999\nlast\n"));
    assert!(ended.dropped > 50_000);
    // One without end does not reach past its limit.
    let ended = hang("trap '' TERM; exec yes", |ended| ended.dropped > 0);
    assert_eq!(ended.output.len(), 1000);
}

#[test]
fn a_sweep_leaves_the_children_of_a_neighbour_alone() {
    let pids = Pids::new();
    let daemon = pids.script("PID daemon; exec sleep 1000");
    let slow = format!(
        "(setsid sh -c '{daemon}' &); while ! [ -e {0}/over ]; do sleep 0.01; done; \
         kill -0 $(cat {0}/daemon) && echo lives",
        pids.path().display(),
    );
    let slow = thread::spawn(move || run(&slow, LONG));
    until(|| pids.path().join("daemon").exists());
    let others: Vec<_> = (0..8)
        .map(|_| thread::spawn(|| run("(setsid sleep 1000 &); sleep 1000", SHORT)))
        .collect();
    for other in others {
        assert_eq!(other.join().unwrap().how, How::TimedOut);
    }
    assert!(there(pids.get("daemon")));
    fs::write(pids.path().join("over"), "0").unwrap();
    let ended = slow.join().unwrap();
    assert_eq!(
        (ended.how, ended.output.as_str()),
        (How::Exited(0), "lives\n")
    );
    assert!(!there(pids.get("daemon")));
}

#[test]
fn an_agent_that_dies_takes_everything_along() {
    let pids = Pids::new();
    let script = pids.script("trap '' TERM; PID a; (setsid sleep 1000 &); sleep 1000");
    let mut supervisor = Command::new(AGENT)
        .args(["run-child", "--limit-ms=3600000", "--keep=10", "--"])
        .args(["/bin/sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until(|| pids.path().join("a").exists());
    // What is left of a caller that was killed: nobody reads any more.
    drop(supervisor.stdout.take());
    supervisor.wait().unwrap();
    pids.assert_gone(&["a"]);
}

#[test]
fn a_supervisor_that_is_killed_is_no_answer() {
    let ended = run("kill -9 $PPID; sleep 1000 & sleep 0.1; kill $!", LONG);
    assert!(
        matches!(&ended.how, How::Lost(reason) if reason.contains("signal: 9")),
        "{ended:?}"
    );
}

#[test]
fn no_supervisor_stays_behind() {
    let ended = run("echo $PPID", LONG);
    assert!(!there(ended.output.trim().parse().unwrap()));
    let ended = hang("echo $PPID; sleep 1000", |ended| !ended.output.is_empty());
    assert!(!there(ended.output.trim().parse().unwrap()));
}

#[test]
fn systemds_own_variables_are_not_handed_on() {
    let mut agent = Command::new(AGENT)
        .args(["run-child", "--limit-ms=60000", "--keep=100", "--"])
        .args(["/bin/sh", "-c", "echo \"$NOTIFY_SOCKET:$MINE:$PWD\""])
        .env("NOTIFY_SOCKET", "/run/systemd/notify")
        .env("MINE", "mine")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    agent
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    agent.wait().unwrap();
    let ended: Ended = serde_json::from_str(&said).unwrap();
    assert_eq!(ended.output, ":mine:/\n");
}
