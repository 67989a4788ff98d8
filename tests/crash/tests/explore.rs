//! The exploring itself: the shipped programs leave nothing to be found, and
//! planted bugs are found.
//!
//! With `OP_DBUS_CRASH_STATES=n` the static programs are tried in so many states,
//! as `make test` does; else those of the debug build are in a few.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use op_dbus_crash::explorer::{Depth, Explorer};
use op_dbus_crash::host::enter_namespace;
use op_dbus_crash::recording::{Elsewhere, Recording};
use op_dbus_crash::{Entry, Kind, Log, Mark, State};
use op_dbus_loopback::is_root;
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_op-dbus-crash");
/// States without an order from outside: some ten seconds.
const FEW: usize = 150;

/// One at a time: each has a worker for every core.
static TURN: Mutex<()> = Mutex::new(());

/// The programs under test, and in how many states.
struct Plan {
    programs: [String; 2],
    states: usize,
    _turn: MutexGuard<'static, ()>,
}

/// None without root or programs, loudly.
fn plan() -> Option<Plan> {
    if !is_root() {
        return None;
    }
    let debug = Path::new(PROGRAM).parent().unwrap();
    let target =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/x86_64-unknown-linux-gnu");
    let ordered = std::env::var("OP_DBUS_CRASH_STATES").ok();
    let (stage, activate) = match ordered {
        Some(_) => (target.join("release"), target.join("boot")),
        None => (debug.to_owned(), debug.to_owned()),
    };
    let programs = [
        stage.join("op-dbus-stage"),
        activate.join("op-dbus-activate"),
    ];
    if let Some(missing) = programs.iter().find(|program| !program.exists()) {
        let why = format!("{}: not built", missing.display());
        assert!(ordered.is_none(), "{why}; run: make build");
        eprintln!("SKIPPED: {why}; test the workspace, or run: make crash-test");
        return None;
    }
    Some(Plan {
        programs: programs.map(|program| program.to_str().unwrap().to_owned()),
        states: ordered.map_or(FEW, |states| states.parse().unwrap()),
        _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner),
    })
}

impl Plan {
    fn run(&self, command: &str, args: &[&str]) -> Output {
        let [stage, activate] = &self.programs;
        Command::new(PROGRAM)
            .arg(command)
            .args(["--stage", stage, "--activate", activate])
            .args(args)
            .output()
            .unwrap()
    }

    /// A recording of the story.
    fn recorded(&self) -> Recorded {
        let dir = tempfile::Builder::new().prefix("opc").tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (prepared, log) = (path("prepared"), path("log"));
        succeeded(&self.run("prepare", &[&prepared]));
        succeeded(&self.run("record", &["--prepared", &prepared, "--log", &log]));
        Recorded {
            log: log.into(),
            dir,
        }
    }
}

struct Recorded {
    log: PathBuf,
    dir: TempDir,
}

#[track_caller]
fn succeeded(output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

#[test]
fn nothing_is_found_in_what_the_shipped_programs_leave() {
    let Some(plan) = plan() else { return };
    let dir = tempfile::Builder::new().prefix("opc").tempdir().unwrap();
    let states = plan.states.to_string();
    let args = [
        "--json",
        "--states",
        &states,
        "--dir",
        dir.path().to_str().unwrap(),
    ];
    let output = plan.run("run", &args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // The evidence is worth more than a clean /tmp.
    let fine = output.status.success();
    assert!(fine, "kept: {}\n{stderr}", dir.keep().display());
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{summary:#}");
    assert_eq!(summary["states"], plan.states);
    assert_eq!(summary["violations"].as_array().unwrap().len(), 0);
}

#[test]
fn an_acknowledgement_that_comes_too_early_is_found_at_every_step() {
    let Some(plan) = plan() else { return };
    let recorded = plan.recorded();
    let mut recording = Recording::load(&recorded.log, &Elsewhere::default()).unwrap();
    let log = Arc::get_mut(&mut recording.log).unwrap();
    // Each program says that it is done before it has done anything.
    acknowledge_at_once(log);
    let recording = Arc::new(recording);
    let place = recorded.dir.path().join("place");
    std::fs::create_dir(&place).unwrap();
    enter_namespace().unwrap();
    let mut explorer = Explorer::new(Arc::clone(&recording), &place).unwrap();
    let mut missed = Vec::new();
    for (number, step) in recording.steps.iter().enumerate() {
        // Damage is no promise, and this boot only brings what the next one would.
        let promises = number
            .checked_sub(1)
            .is_none_or(|before| differ(&recording.steps[before].facts, &step.facts));
        if !promises {
            continue;
        }
        let is_here = |entry: &Entry| matches!(entry, Entry::Mark(Mark::Acknowledged(found)) if *found as usize == number);
        let position = 1 + recording.log.entries.iter().position(is_here).unwrap();
        let state = State {
            position,
            kind: Kind::Prefix,
        };
        let outcome = explorer.explore(&state, Depth::Boot).unwrap();
        if outcome.violations.is_empty() {
            missed.push(format!("{number} {}", step.name));
        }
    }
    explorer.leave().unwrap();
    assert_eq!(missed, Vec::<String>::new());
}

/// Whether a step promises anything that can be seen.
fn differ(before: &op_dbus_crash::facts::Facts, after: &op_dbus_crash::facts::Facts) -> bool {
    let after = op_dbus_crash::facts::Facts {
        sequence: before.sequence,
        // The configuration is not on the disk.
        fresh: before.fresh,
        ..after.clone()
    };
    *before != after
}

fn acknowledge_at_once(log: &mut Log) {
    let mut entries = Vec::new();
    for entry in std::mem::take(&mut log.entries) {
        match entry {
            Entry::Mark(Mark::Acknowledged(_)) => {}
            Entry::Mark(Mark::Begin(step)) => {
                entries.push(entry);
                entries.push(Entry::Mark(Mark::Acknowledged(step)));
            }
            other => entries.push(other),
        }
    }
    log.entries = entries;
}

#[test]
fn a_disk_that_ignores_flushes_is_found_out() {
    let Some(plan) = plan() else { return };
    let recorded = plan.recorded();
    let mut recording = Recording::load(&recorded.log, &Elsewhere::default()).unwrap();
    let log = Arc::get_mut(&mut recording.log).unwrap();
    log.entries.retain(|entry| !matches!(entry, Entry::Flush));
    let path = recorded.dir.path().join("lying");
    recording.save(&path).unwrap();
    let path = path.to_str().unwrap();
    let args = [
        "--json",
        "--log",
        path,
        "--states",
        "40",
        "--max-violations",
        "3",
    ];
    let output = plan.run("explore", &args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = summary["violations"].as_array().unwrap();
    assert_eq!(found.len(), 3, "{summary:#}");

    // The line that is printed shows it again, and the evidence is there.
    let found = &found[0];
    let words = found["reproduce"].as_str().unwrap();
    assert!(stderr.contains(words), "{stderr}");
    let mut words = words.split_whitespace();
    assert_eq!(words.next(), Some("op-dbus-crash"));
    let output = Command::new(PROGRAM).args(words).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let evidence = Path::new(found["evidence"].as_str().unwrap());
    for name in ["disk.img", "report.txt"] {
        assert!(evidence.join(name).exists(), "{name}");
    }
}

#[test]
fn a_worker_that_takes_too_long_is_told_of_and_replaced() {
    let Some(plan) = plan() else { return };
    let recorded = plan.recorded();
    let log = recorded.log.to_str().unwrap();
    let args = [
        "--json",
        "--log",
        log,
        "--states",
        "5",
        "--workers",
        "1",
        "--limit",
        "0",
        "--max-violations",
        "2",
    ];
    let output = plan.run("explore", &args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = summary["violations"].as_array().unwrap();
    assert_eq!(found.len(), 2, "{summary:#}");
    for found in found {
        assert_eq!(found["violations"][0]["check"], "hung");
        let evidence = Path::new(found["evidence"].as_str().unwrap());
        assert!(evidence.join("stacks.txt").exists());
    }
}

#[test]
fn wrong_usage_is_told_from_violations() {
    let wrong = |args: &[&str]| {
        let output = Command::new(PROGRAM).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    };
    wrong(&["explore"]);
    wrong(&["explore", "--log", "/nonexistent"]);
    wrong(&["replay", "--log", "/nonexistent", "12:prefix"]);
    wrong(&["replay", "--log", "/nonexistent", "12:halfway"]);
    wrong(&["run", "--stage", "/nonexistent"]);
}
