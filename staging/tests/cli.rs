//! What needs neither root nor a store.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_op-dbus-stage"))
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn help_documents_the_exit_codes() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for line in ["   6  another run holds the lock", "  11  no space left"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(
        !text.contains("orderly-shutdown"),
        "called by its unit only"
    );
}

#[test]
fn manual_and_completions_are_generated() {
    let page = String::from_utf8(run(&["man"]).stdout).unwrap();
    assert!(page.contains(".TH") && page.contains("another run holds the lock"));
    let dir = tempfile::tempdir().unwrap();
    assert!(
        run(&["man", "--dir", dir.path().to_str().unwrap()])
            .status
            .success()
    );
    for command in ["receive", "prune", "pin", "unpin"] {
        let page = dir.path().join(format!("op-dbus-stage-{command}.1"));
        assert!(page.is_file(), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(run(&["completions", shell]).stdout).unwrap();
        assert!(
            script.contains("op-dbus-stage") && script.contains("rollback"),
            "{shell}"
        );
    }
}

#[test]
fn prune_tells_its_two_sides_apart() {
    let help = String::from_utf8(run(&["prune", "--help"]).stdout).unwrap();
    let (device, build) = help.split_once("On a build system").unwrap();
    assert!(device.contains("--keep") && device.contains("--dry-run"));
    assert!(build.contains("--source") && build.contains("--published"));
    for option in ["--build", "--published"] {
        let output = run(&["prune", option, "/x"]);
        assert_eq!(output.status.code(), Some(2), "{option} without --source");
    }
}

#[test]
fn status_works_with_nothing_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let output = run(&["status", "--json", "--sysroot", root, "--run", root]);
    assert_eq!(output.status.code(), Some(0));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["result"], "attention");
    assert_eq!(status["problems"].as_array().unwrap().len(), 2, "{status}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let script = format!("{} --help | true", env!("CARGO_BIN_EXE_op-dbus-stage"));
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", &script])
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
}
