//! `op-dbus-agent reboot` without a bus, and with a systemctl that refuses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

/// A systemctl that notes what it is asked, and refuses what `refused` matches.
fn systemctl(dir: &Path, refused: &str) -> std::path::PathBuf {
    let path = dir.join("systemctl");
    let asked = dir.join("asked");
    let text = format!(
        "#!/bin/sh\necho \"$*\" >> {}\ncase \"$*\" in {refused}) exit 1;; esac\n",
        asked.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn reboot(dir: &Path, systemctl: &Path) -> (Output, String) {
    reboot_within(1000, dir, systemctl)
}

fn reboot_within(limit: u32, dir: &Path, systemctl: &Path) -> (Output, String) {
    // One that hangs is to fail the test, not to hold it up.
    let output = Command::new("timeout")
        .args(["60", env!("CARGO_BIN_EXE_op-dbus-agent"), "reboot"])
        .args(["--limit", &limit.to_string(), "--systemctl"])
        .arg(systemctl)
        .env(
            "DBUS_SYSTEM_BUS_ADDRESS",
            format!("unix:path={}/bus", dir.display()),
        )
        .output()
        .unwrap();
    let asked = fs::read_to_string(dir.join("asked")).unwrap_or_default();
    (output, asked)
}

const POLITE: &str = "--check-inhibitors=no reboot";
const PLAIN: &str = "--job-mode=replace-irreversibly --no-block start reboot.target";

/// Whatever becomes of the agent, a device leaves a version that was judged bad.
#[test]
fn the_unit_reboots_by_itself_and_later_than_the_agent_would() {
    let unit = include_str!("../../systemd-generator/units/op-dbus-reboot.service");
    let lines: Vec<_> = unit.lines().collect();
    assert!(lines.contains(&"FailureAction=reboot"));
    let number = |before: &str| -> u32 {
        let mut found = lines.iter().filter_map(|line| line.strip_prefix(before));
        found.next().unwrap().parse().unwrap()
    };
    let limit = number("ExecStart=/usr/libexec/op-dbus/op-dbus-agent reboot --limit ");
    assert!(limit < number("TimeoutStartSec="));
}

#[test]
fn without_a_bus_it_reboots_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let program = systemctl(dir.path(), "nothing");
    let (output, asked) = reboot(dir.path(), &program);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(asked, format!("{POLITE}\n"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("it is not known who inhibits"), "{said}");
}

#[test]
fn a_bus_that_takes_a_connection_and_says_nothing_is_no_bus() {
    let dir = tempfile::tempdir().unwrap();
    let _silent = UnixListener::bind(dir.path().join("bus")).unwrap();
    let program = systemctl(dir.path(), "nothing");
    let (output, asked) = reboot_within(1, dir.path(), &program);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(asked, format!("{POLITE}\n"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("does not answer"), "{said}");
}

#[test]
fn what_logind_refuses_systemd_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let program = systemctl(dir.path(), "*check-inhibitors*");
    let (output, asked) = reboot(dir.path(), &program);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(asked, format!("{POLITE}\n{PLAIN}\n"));
}

#[test]
fn a_reboot_that_nobody_grants_fails_so_that_the_unit_reboots() {
    let dir = tempfile::tempdir().unwrap();
    let program = systemctl(dir.path(), "*");
    let (output, asked) = reboot(dir.path(), &program);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(asked, format!("{POLITE}\n{PLAIN}\n"));

    let (output, _) = reboot(dir.path(), &dir.path().join("missing"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
