//! The tracer, on a shell.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::process::Command;

#[test]
fn calls_of_children_are_told_in_order_and_failed_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mkdir made; (echo text > made/file); mkdir made 2> /dev/null; mv made/file made/moved; exit 3";
    let traced = op_dbus_calls::trace(
        Command::new("sh")
            .args(["-c", script])
            .current_dir(dir.path()),
    );
    assert_eq!(traced.code, 3, "{}", traced.stderr);
    let root = dir.path().canonicalize().unwrap();
    let mut calls = Vec::new();
    for call in &traced.calls {
        if let Ok(path) = call.path.strip_prefix(&root) {
            calls.push((call.name.trim_end_matches("at"), path.display().to_string()));
        }
    }
    let expected = [
        ("mkdir", "made"),
        ("cre", "made/file"),
        ("write", "made/file"),
        ("rename", "made/file"),
    ];
    let expected = expected.map(|(name, path)| (name, path.to_owned()));
    assert_eq!(calls, expected);
}

#[test]
fn what_a_program_prints_is_kept() {
    let traced = op_dbus_calls::trace(Command::new("sh").args(["-c", "echo out; echo err >&2"]));
    assert_eq!(
        (traced.stdout.as_str(), traced.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn a_program_is_killed_after_so_many_calls_and_its_children_too() {
    let script = "mkdir one; (mkdir two; mkdir three; sleep 1000) & mkdir four; wait";
    let run = |calls| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(dir.path());
        let traced = op_dbus_calls::kill_after(&mut command, calls);
        assert_eq!(traced.code, 128 + 9);
        std::fs::read_dir(dir.path()).unwrap().count()
    };
    assert_eq!(run(1), 1);
    assert_eq!(run(4), 4);
}
