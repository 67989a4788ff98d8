//! The program against a real dbus-daemon of its own, on which the test plays
//! systemd and the version's service. Skipped where there is no dbus-daemon.

// zbus wants a receiver for every method; helpers are outside of test functions.
#![allow(clippy::unused_self, clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zbus::blocking::{Connection, connection};
use zbus::zvariant::{ObjectPath, OwnedObjectPath};

const NAME: &str = "org.opdbus.Demo";

/// Plays systemd's manager: one unit.
struct Manager;

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn load_unit(&self, name: &str) -> zbus::fdo::Result<OwnedObjectPath> {
        let path = match name {
            "demo.service" => "/unit/demo",
            _ => "/unit/missing",
        };
        OwnedObjectPath::try_from(path).map_err(|why| zbus::fdo::Error::Failed(why.to_string()))
    }

    fn reload(&self) {}
}

/// Plays a unit.
#[derive(Default)]
struct Unit {
    load: &'static str,
    active: &'static str,
    /// Whether it is another run at every look.
    restarting: bool,
    looks: AtomicU64,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn load_state(&self) -> &str {
        self.load
    }
    #[zbus(property)]
    fn active_state(&self) -> &str {
        self.active
    }
    #[zbus(property)]
    fn sub_state(&self) -> &'static str {
        "played"
    }
    #[zbus(property)]
    fn active_enter_timestamp_monotonic(&self) -> u64 {
        if self.restarting {
            self.looks.fetch_add(1, Ordering::Relaxed)
        } else {
            7
        }
    }
    #[zbus(property)]
    fn job(&self) -> (u32, ObjectPath<'static>) {
        (0, ObjectPath::from_static_str_unchecked("/"))
    }
}

/// Plays what only services have.
struct Service;

#[zbus::interface(name = "org.freedesktop.systemd1.Service")]
impl Service {
    #[zbus(property, name = "NRestarts")]
    fn restarts(&self) -> u32 {
        0
    }
    #[zbus(property)]
    fn result(&self) -> &'static str {
        "exit-code"
    }
}

struct Bus {
    daemon: Child,
    address: String,
    directory: TempDir,
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Bus {
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address=1"])
            .arg(format!("--address=unix:dir={}", directory.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        Some(Self {
            daemon,
            address: address.trim().to_owned(),
            directory,
        })
    }

    fn connect(&self) -> connection::Builder<'static> {
        connection::Builder::address(self.address.as_str()).unwrap()
    }

    fn systemd(&self, active: &'static str) -> Connection {
        self.systemd_with(Unit {
            load: "loaded",
            active,
            ..Unit::default()
        })
    }

    fn systemd_with(&self, demo: Unit) -> Connection {
        let missing = Unit {
            load: "not-found",
            active: "inactive",
            ..Unit::default()
        };
        self.connect()
            .name("org.freedesktop.systemd1")
            .and_then(|it| it.serve_at("/org/freedesktop/systemd1", Manager))
            .and_then(|it| it.serve_at("/unit/demo", demo))
            .and_then(|it| it.serve_at("/unit/demo", Service))
            .and_then(|it| it.serve_at("/unit/missing", missing))
            .and_then(|it| it.serve_at("/unit/missing", Service))
            .and_then(connection::Builder::build)
            .unwrap()
    }

    fn health(&self, checks: &str) -> Output {
        let config = self.directory.path().join("deploy.toml");
        let text = format!(
            "[store]\ndevice = \"/dev/vda\"\n[health]\nsettle_seconds = 1\ntimeout_seconds = 2\n\
             deadline_seconds = 60\n{checks}\n"
        );
        std::fs::write(&config, text).unwrap();
        agent(&config, &self.address)
    }
}

fn agent(config: &Path, address: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_op-dbus-agent"))
        .arg("health")
        .arg("--config")
        .arg(config)
        .arg("--run")
        .arg(config.with_file_name("run"))
        .env("DBUS_SYSTEM_BUS_ADDRESS", address)
        .output()
        .unwrap()
}

/// A configuration that waits a second for one unit.
fn impatient(directory: &TempDir) -> PathBuf {
    let config = directory.path().join("deploy.toml");
    let text = "[store]\ndevice = \"/dev/vda\"\n[health]\nunits = [\"a.service\"]\n\
                settle_seconds = 0\ntimeout_seconds = 1\ndeadline_seconds = 60\n";
    std::fs::write(&config, text).unwrap();
    config
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const BOTH: &str = "units = [\"demo.service\"]\nbus_names = [\"org.opdbus.Demo\"]";

#[test]
fn a_running_service_that_answers_is_healthy() {
    let Some(bus) = Bus::start() else { return };
    let _systemd = bus.systemd("active");
    // zbus answers Ping for programs that serve objects.
    let _demo = bus
        .connect()
        .name(NAME)
        .and_then(|it| it.serve_at("/demo", Service))
        .and_then(connection::Builder::build)
        .unwrap();
    let output = bus.health(BOTH);
    assert_eq!(said(&output), "healthy: 2 checks held for 1 s\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn each_failed_check_has_its_line() {
    let Some(bus) = Bus::start() else { return };
    let _systemd = bus.systemd("activating");
    let checks = "units = [\"demo.service\", \"other.service\"]\nbus_names = [\"org.opdbus.Demo\"]";
    let output = bus.health(checks);
    let said = said(&output);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert_eq!(
        lines[0],
        "unhealthy: unit demo.service: activating (played)"
    );
    assert!(lines[1].starts_with("unhealthy: unit other.service: not-found"));
    assert!(lines[2].starts_with("unhealthy: bus name org.opdbus.Demo: no program owns it"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_failed_unit_is_not_waited_for() {
    let Some(bus) = Bus::start() else { return };
    let _systemd = bus.systemd("failed");
    let start = Instant::now();
    let output = bus.health("units = [\"demo.service\"]");
    assert_eq!(
        said(&output),
        "unhealthy: unit demo.service: failed (exit-code)\n"
    );
    assert!(start.elapsed() < Duration::from_secs(2));
}

/// Seen on a crowded host: a service that let go of its bus name was stopped by
/// systemd before it could fail, and the verdict waited for the timeout.
#[test]
fn a_unit_that_stopped_is_not_waited_for() {
    let Some(bus) = Bus::start() else { return };
    let _systemd = bus.systemd("inactive");
    let start = Instant::now();
    let output = bus.health("units = [\"demo.service\"]");
    assert_eq!(
        said(&output),
        "unhealthy: unit demo.service: stopped after it had run (exit-code)\n"
    );
    assert!(start.elapsed() < Duration::from_secs(2));
}

/// A service that dies and is started again, and is up whenever somebody looks.
#[test]
fn a_unit_that_restarts_in_a_loop_is_unhealthy() {
    let Some(bus) = Bus::start() else { return };
    let _systemd = bus.systemd_with(Unit {
        load: "loaded",
        active: "active",
        restarting: true,
        looks: AtomicU64::new(1),
    });
    let output = bus.health("units = [\"demo.service\"]");
    assert_eq!(
        said(&output),
        "unhealthy: unit demo.service: restarted within the settle time, and there is no time for another\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_name_that_is_owned_and_does_not_answer_is_unhealthy() {
    let Some(bus) = Bus::start() else { return };
    // Nobody runs what would read and answer.
    let builder = zbus::connection::Builder::address(bus.address.as_str())
        .and_then(|it| it.name(NAME))
        .unwrap();
    let _stuck = zbus::block_on(builder.internal_executor(false).build()).unwrap();
    let checks =
        "[[health.check]]\nbus_name = \"org.opdbus.Demo\"\ntimeout_seconds = 1\nretries = 0";
    let output = bus.health(checks);
    assert_eq!(
        said(&output),
        "unhealthy: bus name org.opdbus.Demo: no answer within 1 s\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_owner_can_be_asked_something_of_its_own() {
    let Some(bus) = Bus::start() else { return };
    let _demo = bus
        .connect()
        .name(NAME)
        .and_then(|it| it.serve_at("/demo", Manager))
        .and_then(connection::Builder::build)
        .unwrap();
    let ask = |method: &str| {
        bus.health(&format!(
            "[[health.check]]\nbus_name = \"org.opdbus.Demo\"\n\
             call = {{ path = \"/demo\", interface = \"org.freedesktop.systemd1.Manager\", method = \"{method}\" }}"
        ))
    };
    assert_eq!(said(&ask("Reload")), "healthy: 1 check held for 1 s\n");
    let output = ask("NoSuch");
    assert!(said(&output).contains("unhealthy: bus name"), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn without_a_bus_every_check_fails_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let config = impatient(&directory);
    let output = agent(&config, "unix:path=/nonexistent/socket");
    let said = said(&output);
    assert!(said.contains("is dbus.service running?"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_silent_bus_does_not_hold_it_up() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("bus");
    // Accepts connections, for the backlog does, and never answers.
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let config = impatient(&directory);
    let output = agent(&config, &format!("unix:path={}", socket.display()));
    assert_eq!(
        said(&output),
        "unhealthy: unit a.service: no answer within 5 s\n"
    );
}

#[test]
fn a_wrong_configuration_is_no_verdict() {
    let directory = TempDir::new().unwrap();
    let output = agent(&directory.path().join("deploy.toml"), "unix:path=/x");
    assert_eq!(output.status.code(), Some(3));
}
