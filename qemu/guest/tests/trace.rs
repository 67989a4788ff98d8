//! The tracer, through the program, on programs every machine has.

#![allow(clippy::unwrap_used)] // a helper of tests, outside a test function

use std::process::Command;

use serde_json::Value;

fn trace(moment: &str, script: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_op-dbus-vm-guest"))
        .args(["trace", moment, "sh", "-c", script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn stops_a_grandchild_before_and_after_its_call() {
    let dir = std::env::temp_dir().join(format!("op-dbus-trace-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (side, made) in [("entry", false), ("exit", true)] {
        let target = dir.join(side);
        let event = trace(
            &format!("mkdir@{side}:1:{side}"),
            &format!(
                "true; (mkdir {}; echo never > {}/after)",
                target.display(),
                target.display()
            ),
        );
        assert_eq!(event["event"], "paused");
        assert_eq!(event["subject"], target.display().to_string());
        assert_eq!(target.exists(), made, "{side}");
        assert!(!target.join("after").exists());
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn counts_only_calls_about_the_named_file() {
    let event = trace(
        "write@/dev/null:2:exit",
        "echo a; echo b >/dev/null; echo c >/dev/null; echo d",
    );
    assert_eq!(event["event"], "paused");
    assert_eq!(event["subject"], "/dev/null");
}

#[test]
fn says_so_when_the_moment_never_comes() {
    let event = trace("syncfs:1:entry", "echo out; exit 7");
    assert_eq!(event["event"], "missed");
    assert_eq!(event["code"], 7);
    assert_eq!(event["stdout"], "out\n");
}
