//! What hangs, forks, flaps, drips or is stopped.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use op_dbus_health::settings::Settings;
use op_dbus_health::subject::Subject;
use op_dbus_health::verdict::Verdict;

use crate::{Host, await_that, checks, is_there, said, serve};

#[test]
fn a_command_that_hangs_goes_with_its_children() {
    let host = Host::new();
    let pids = host.path("pids");
    let shown = pids.display();
    // Its child leaves the group and the session, and ignores what it can.
    let script = host.script(
        "hang",
        &format!(
            "echo $$ >> {shown}\nsetsid sh -c 'trap \"\" TERM HUP; echo $$ >> {shown}; sleep 1000' &\nsleep 1000"
        ),
    );
    let check =
        format!("name = \"hang\"\ncommand = [\"{script}\"]\ntimeout_seconds = 2\nretries = 0");
    let output = host.health(&checks(&[check]));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        said(&output),
        "unhealthy: hang: still ran after 2 s, and was killed\n"
    );
    let pids = fs::read_to_string(pids).unwrap();
    assert!(pids.lines().count() >= 2, "{pids}");
    for pid in pids.lines() {
        await_that("all of it is gone", || !is_there(pid));
    }
}

#[test]
fn what_hangs_and_is_only_wanted_is_told() {
    let host = Host::new();
    let output = host.health(&checks(&[
        "command = [\"/bin/true\"]",
        "command = [\"/bin/sleep\", \"1000\"]\nwanted = true\ntimeout_seconds = 1",
    ]));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        said(&output),
        "healthy: 1 check held for 1 s\nwanted: command /bin/sleep: still ran after 1 s, and was killed\n"
    );
}

#[test]
fn what_flaps_is_unhealthy() {
    let host = Host::new();
    let count = host.path("count");
    fs::write(&count, "0").unwrap();
    let shown = count.display();
    let script = host.script(
        "flap",
        &format!("read n < {shown}; echo $((n+1)) > {shown}; echo now and then; exit $((n % 2))"),
    );
    let output = host.health(&checks(&[format!("command = [\"{script}\"]")]));
    assert_eq!(output.status.code(), Some(1));
    let reason = &host.report().failures[0].reason;
    assert!(reason.starts_with("comes and goes"), "{reason}");
}

#[test]
fn a_server_that_answers_too_slowly_does_not_answer() {
    let port = serve(|to| {
        while to.write_all(b"H").and_then(|()| to.flush()).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let text = format!(
        "[store]\ndevice = \"/dev/vda\"\n[[health.check]]\nhttp = \"http://127.0.0.1:{port}/\"\n"
    );
    let settings = Settings::parse(&text).unwrap();
    let Subject::Http(url) = &settings.checks[0].subject else {
        panic!("{settings:?}");
    };
    let found = op_dbus_agent::health::http::look(url, Duration::from_secs(1));
    let words = "no answer within 1 s".to_owned();
    assert_eq!(found, op_dbus_agent::health::judge::Finding::NotYet(words));
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn stopping_it_is_no_verdict() {
    let host = Host::new();
    // Of the boot before, or of a run by hand.
    let old = host.write("run/op-dbus/health.json", "{}", 0o644);
    let pid = host.path("pid");
    let script = host.script("wait", &format!("echo $$ > {}; sleep 1000", pid.display()));
    let health = checks(&[format!("command = [\"{script}\"]\ntimeout_seconds = 300")]);
    let mut command = host.command(&health);
    let mut agent = Running(command.stdout(Stdio::null()).spawn().unwrap());
    await_that("the check runs", || {
        fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n'))
    });
    assert!(!old.exists(), "an old verdict is none of this run");
    let number = agent.0.id().to_string();
    let kill = Command::new("kill").args(["-TERM", &number]).status();
    assert!(kill.unwrap().success());
    let status = agent.0.wait().unwrap();
    assert_eq!(status.signal(), Some(15), "neither well nor bad: {status}");
    let report = host.report();
    assert_eq!(report.verdict, Verdict::None);
    let pid = fs::read_to_string(pid).unwrap();
    await_that("the check is gone", || !is_there(&pid));
}

/// Frozen, so that whoever writes waits in the kernel and can't be killed.
struct Frozen<'a>(&'a Path);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(self.0).status();
    }
}

#[test]
fn a_file_system_that_hangs_holds_up_nothing() {
    let Some(dir) = op_dbus_loopback::private_dir("op-dbus-health-") else {
        return;
    };
    let volume = op_dbus_loopback::Volume::new(&dir.path().join("volume"), 128);
    let freeze = Command::new("fsfreeze")
        .arg("-f")
        .arg(volume.top())
        .status();
    if !freeze.is_ok_and(|status| status.success()) {
        return;
    }
    let frozen = Frozen(volume.top());
    let host = Host::new();
    let output = host.health(&checks(&[
        format!(
            "name = \"state\"\nwritable = \"{}\"\ntimeout_seconds = 1\nretries = 0",
            volume.top().display()
        ),
        "command = [\"/bin/true\"]".to_owned(),
    ]));
    drop(frozen);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        said(&output).starts_with("unhealthy: state: no answer within 1 s"),
        "{output:?}"
    );
}
