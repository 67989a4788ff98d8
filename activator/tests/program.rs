//! What the program does before and around `main`, which is its own.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_op-dbus-activate"))
}

#[test]
fn arguments_arrive() {
    let output = program().arg("--version").output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"op-dbus-activate "));
    let output = program().arg("--nonsense").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn descriptors_that_are_closed_are_opened() {
    let script = r#"exec "$0" --dry-run --config /proc/self/fd/2 <&- 2>&-"#;
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_op-dbus-activate")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // The configuration is read from there: an empty one, not one that is missing.
    assert!(text.contains("missing field `store`"), "{text}");
}

#[test]
fn a_reader_that_has_gone_away_ends_nothing() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let status = program()
        .arg("--help")
        .stdout(Stdio::from(writer))
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}
