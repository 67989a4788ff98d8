//! `op-dbus-agent health` against real sockets, processes that fork and hang, and
//! file systems that are full or frozen. What needs root is skipped without.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use op_dbus_activator::layout::Layout;
use op_dbus_health::settings::{Policy, Settings};
use op_dbus_health::subject::Subject;
use op_dbus_health::verdict::{Kind, Report, Verdict};
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

#[test]
fn every_kind_can_be_well() {
    let host = Host::new();
    let http = serve(|to| {
        let _ = to.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
    });
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = tcp.local_addr().unwrap().port();
    let tcp_listener = TcpListener::bind(("127.0.0.1", tcp));
    let socket = host.path("socket");
    let _unix = UnixListener::bind(&socket).unwrap();
    let state = host.path("state");
    fs::create_dir(&state).unwrap();
    let output = host.health(&checks(&[
        format!("tcp = \"127.0.0.1:{tcp}\""),
        format!("unix = \"{}\"", socket.display()),
        format!("http = \"http://127.0.0.1:{http}/health\"\nstatus = 204"),
        format!("writable = \"{}\"", state.display()),
        "free = \"/\"\nmin_mib = 1".to_owned(),
        "command = [\"/bin/sh\", \"-c\", \"exit 0\"]".to_owned(),
    ]));
    drop(tcp_listener);
    assert_eq!(said(&output), "healthy: 6 checks held for 1 s\n");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    let report = host.report();
    assert_eq!(report.verdict, Verdict::Healthy);
    assert_eq!(report.version.unwrap().as_str(), "v1.1.0");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(report.boot_id.unwrap().to_string(), boot.trim());
    assert!(report.decided_ms >= 11_000 && report.waited_ms >= 1000);
}

#[test]
fn every_kind_says_what_is_wrong() {
    let host = Host::new();
    let broken = serve(|to| {
        let _ = to.write_all(b"HTTP/1.1 500 Oops\r\n\r\n");
    });
    let foreign = serve(|to| {
        let _ = to.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
    });
    let full = host.path("full");
    let _full = UnixListener::bind(&full).unwrap();
    let _queue: Vec<_> = fill(&full);
    let port = deserted();
    let mut command = host.command(&checks(&[
        format!("name = \"1\"\ntcp = \"127.0.0.1:{port}\""),
        format!("name = \"2\"\nunix = \"{}\"", host.path("none").display()),
        format!("name = \"3\"\nunix = \"{}\"", full.display()),
        format!("name = \"4\"\nhttp = \"http://127.0.0.1:{broken}/\""),
        format!("name = \"5\"\nhttp = \"http://127.0.0.1:{foreign}/\""),
        "name = \"6\"\nwritable = \"/proc/self\"".to_owned(),
        "name = \"7\"\nfree = \"/\"\nmin_mib = 99999999999".to_owned(),
        "name = \"8\"\ncommand = [\"/bin/sh\", \"-c\", \"echo one; echo the disk is on fire; exit 3\"]".to_owned(),
        "name = \"9\"\ncommand = [\"/nonexistent\"]".to_owned(),
    ]));
    let output = command.arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report = host.report();
    assert_eq!(Report::parse(&output.stdout).unwrap(), report);
    assert_eq!(report.verdict, Verdict::Unhealthy);
    let expected = [
        "connection refused",
        "is not there",
        "queue is full",
        "status 500",
        "speaks no HTTP",
        "",
        "99999999999 are asked for",
        "the disk is on fire",
        "could not be started",
    ];
    assert_eq!(report.failures.len(), expected.len(), "{report:?}");
    for (failure, words) in report.failures.iter().zip(expected) {
        assert!(failure.reason.contains(words), "{failure:?}");
        assert!(!failure.reason.is_empty(), "{failure:?}");
        assert_eq!(failure.kind, Kind::Required);
    }
}

/// Connections until no more fit in the queue of a listener that accepts none.
fn fill(path: &Path) -> Vec<std::os::unix::net::UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let address = SocketAddrUnix::new(path).unwrap();
    let mut queue = Vec::new();
    loop {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        match rustix::net::connect(&socket, &address) {
            Ok(()) => queue.push(socket.into()),
            Err(rustix::io::Errno::AGAIN) => return queue,
            Err(why) => panic!("{why}"),
        }
    }
}

#[test]
fn what_is_not_known_ends_by_policy_before_the_deadline() {
    let policies = [("retry", 75), ("bless", 0), ("condemn", 1)];
    let runs = policies.map(|(policy, code)| {
        thread::spawn(move || {
            let host = Host::new();
            let config = format!(
                "unknown = \"{policy}\"\n{}",
                checks(&["command = [\"/bin/sh\", \"-c\", \"echo no carrier; exit 75\"]"])
            );
            // So late that little is left.
            let output = host.command_at(86_390, &config).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{output:?}");
            let report = host.report();
            assert_eq!(report.verdict, Verdict::Unknown);
            let known: Policy = serde_json::from_str(&format!("\"{policy}\"")).unwrap();
            assert_eq!(report.policy, known);
            assert_eq!(report.failures[0].reason, "no carrier");
            assert!(said(&output).contains("not known yet: command /bin/sh: no carrier"));
        })
    });
    for run in runs {
        run.join().unwrap();
    }
}

#[test]
fn a_name_server_that_is_silent_decides_nothing() {
    let host = Host::new();
    // Needs root: the port is the one of DNS.
    let Ok(socket) = UdpSocket::bind("127.53.53.1:53") else {
        return;
    };
    host.write("etc/resolv.conf", "nameserver 127.53.53.1\n", 0o644);
    let health = checks(&["dns = \"example.org\"\ntimeout_seconds = 1"]);
    let output = host.command_at(86_390, &health).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    let report = host.report();
    assert_eq!(report.failures[0].reason, "no answer from 127.53.53.1");
    assert_eq!(report.failures[0].kind, Kind::Infrastructure);

    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            // One answer: a pointer to the name asked for, A, IN, an address.
            let mut answer = question[..length].to_vec();
            answer[2] |= 0x80;
            answer[7] = 1;
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
            let _ = socket.send_to(&answer, from);
        }
    });
    let output = host.health(&health);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

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

#[test]
fn executables_of_version_and_operator_are_run() {
    if !op_dbus_loopback::is_root() {
        return;
    }
    let host = Host::new();
    let of_version = "opt/op-dbus/lib/op-dbus/health.d";
    host.script(&format!("{of_version}/required/10-well"), "exit 0");
    host.script(
        &format!("{of_version}/wanted/10-nice"),
        "echo not so nice; exit 9",
    );
    host.script(
        "etc/op-dbus/health.d/required/50-uplink",
        "echo no uplink; exit 1",
    );
    host.write("etc/op-dbus/health.d/required/60-off", "#!/bin/sh\n", 0o644);
    let output = host.health("");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = said(&output);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert_eq!(
        lines[0],
        "unhealthy: /etc/op-dbus/health.d/required/50-uplink: no uplink"
    );
    assert_eq!(
        lines[1],
        "wanted: /opt/op-dbus/lib/op-dbus/health.d/wanted/10-nice: not so nice"
    );
    assert!(lines[2].contains("60-off: is not executable"), "{said}");

    // Where no version is active, only the host's are looked at.
    fs::remove_file(host.path("run/op-dbus/activation.json")).unwrap();
    let output = host.command("").arg("--check-config").output().unwrap();
    let said = self::said(&output);
    assert!(
        said.contains("50-uplink") && !said.contains("10-well"),
        "{said}"
    );
}

#[test]
fn a_mistake_is_no_verdict_and_names_its_line() {
    let host = Host::new();
    let output = host.health(&checks(&["unit = \"demo\""]));
    assert_eq!(output.status.code(), Some(3));
    let report = host.report();
    assert_eq!(report.verdict, Verdict::None);
    assert_eq!(report.failures[0].check, "configuration");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        complaint.contains("line 7: unit = \"demo\": must be a full name"),
        "{complaint}"
    );
    let output = host
        .command(&checks(&["unit = \"demo\""]))
        .arg("--check-config")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let output = host
        .command(&checks(&["unit = \"demo.service\"\nname = \"demo\""]))
        .arg("--check-config")
        .output()
        .unwrap();
    assert_eq!(
        said(&output),
        "required: demo (unit demo.service): every 1 s, at most 5 s, 3 retries\n"
    );
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
