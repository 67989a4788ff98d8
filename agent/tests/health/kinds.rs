//! What each kind of check finds, and what follows from not knowing.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use op_dbus_health::settings::Policy;
use op_dbus_health::verdict::{Kind, Report, Verdict};

use crate::{Host, checks, deserted, said, serve};

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
