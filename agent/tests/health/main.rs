//! `op-dbus-agent health` against real sockets, processes that fork and hang, and
//! file systems that are full or frozen. What needs root is skipped without.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used, clippy::panic)]

mod hangs;
mod kinds;

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use op_dbus_activator::layout::Layout;
use op_dbus_health::verdict::Report;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
const BUSY: Duration = Duration::from_secs(60);

const ACTIVATION: &str = r#"{"schema":1,"program":"test","record_formats":[1],
"boot_id":"01010101-0101-0101-0101-010101010101","outcome":"activated","slot":"trial",
"version":"v1.1.0","digest":"DIGEST","counted":true,"source":"record","reason":"a test",
"degraded":[],"failures":[],"record":{"state":"intact","repaired":false},"steps_us":[],"total_us":1}"#;

/// A host in a directory, on which v1.1.0 runs.
struct Host {
    dir: TempDir,
    layout: Layout,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("run"), dir.path());
        let host = Self { dir, layout };
        let activation = ACTIVATION.replace("DIGEST", &"02".repeat(32));
        host.write("run/op-dbus/activation.json", &activation, 0o644);
        host
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn write(&self, below: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn script(&self, below: &str, text: &str) -> String {
        let path = self.write(below, &format!("#!/bin/sh\n{text}\n"), 0o755);
        path.display().to_string()
    }

    /// The agent, with these lines in `[health]`, soon after boot.
    fn command(&self, health: &str) -> Command {
        self.command_at(10, health)
    }

    /// The same, so many seconds after boot.
    fn command_at(&self, uptime: u32, health: &str) -> Command {
        let text = format!(
            "[store]\ndevice = \"/dev/vda\"\n[health]\nsettle_seconds = 1\n\
             timeout_seconds = 3\ndeadline_seconds = 86400\n{health}\n"
        );
        self.write("etc/op-dbus/deploy.toml", &text, 0o644);
        let mut command = Command::new(env!("CARGO_BIN_EXE_op-dbus-agent"));
        command
            .arg("health")
            .arg(format!("--uptime={uptime}"))
            .arg("--sysroot");
        command
            .arg(self.dir.path())
            .arg("--run")
            .arg(self.path("run"));
        command
    }

    fn health(&self, health: &str) -> Output {
        self.command(health).output().unwrap()
    }

    fn report(&self) -> Report {
        Report::read(&self.layout).unwrap().unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sections of `[[health.check]]`.
fn checks<S: AsRef<str>>(lines: &[S]) -> String {
    let sections = lines
        .iter()
        .map(|it| format!("[[health.check]]\n{}\n", it.as_ref()));
    sections.collect()
}

/// Answers every request with what `answer` says, as often as it is asked.
fn serve(answer: impl Fn(&mut dyn std::io::Write) + Send + Sync + Clone + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let answer = answer.clone();
            thread::spawn(move || {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request);
                answer(&mut stream);
            });
        }
    });
    port
}

/// A TCP port of this host where nobody listens.
fn deserted() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn is_there(pid: &str) -> bool {
    // A zombie is no longer anything.
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

fn await_that(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BUSY, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}
