//! `op-dbus-agent import` on a host in a directory, and a real dbus-daemon that
//! reads what comes of it through the shipped op-dbus.conf. What needs the daemon
//! is skipped where there is none.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use zbus::blocking::Connection;
use zbus::blocking::connection::Builder;
use zbus::fdo::RequestNameFlags;

const DEMO: &str = "org.opdbus.Demo";

const ACTIVATION: &str = r#"{"schema":1,"program":"test","record_formats":[1],"boot_id":null,
"outcome":"OUTCOME","slot":"trial","version":"v1.1.0","digest":null,"counted":true,"source":"record",
"reason":"a test","degraded":[],"failures":[],"record":{"state":"intact","repaired":false},
"steps_us":[],"total_us":1}"#;

const POLICY: &str = r#"<busconfig>
  <policy user="root"><allow own="org.opdbus.Demo"/></policy>
  <policy context="default"><allow send_destination="org.opdbus.Demo"/></policy>
</busconfig>"#;

const SERVICE: &str = "[D-BUS Service]\nName=org.opdbus.Demo\nExec=/bin/false\nUser=root\nSystemdService=demo.service\n";

/// What system.conf says that matters here: nobody owns a name by default.
const SYSTEM: &str = r#"<busconfig>
  <type>custom</type><listen>unix:path=DIR/bus</listen><auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><deny own="*"/><deny send_type="method_call"/>
    <allow send_destination="org.freedesktop.DBus"/><allow receive_sender="*"/>
  </policy>
  <include>DIR/op-dbus.conf</include>
</busconfig>"#;

struct Host {
    dir: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        host.write(
            "etc/op-dbus/deploy.toml",
            "[store]\ndevice = \"/dev/vda\"\n",
        );
        host.outcome("activated");
        host
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn version(&self, below: &str, text: &str) {
        self.write(&format!("opt/op-dbus/{below}"), text);
    }

    fn outcome(&self, outcome: &str) {
        self.write(
            "run/op-dbus/activation.json",
            &ACTIVATION.replace("OUTCOME", outcome),
        );
    }

    fn import(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_op-dbus-agent"))
            .arg("import")
            .arg("--sysroot")
            .arg(self.dir.path())
            .arg("--run")
            .arg(self.path("run"))
            .output()
            .unwrap()
    }

    /// Imports and returns what was refused.
    fn refused(&self) -> String {
        let output = self.import();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn imported(&self, below: &str) -> String {
        fs::read_to_string(self.path("run/op-dbus/import").join(below)).unwrap_or_default()
    }

    fn names(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path("run/op-dbus/import").join(below)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn fifo(&self, below: &str) {
        let path = self.path("opt/op-dbus").join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    /// Starts the bus as the host would. None: there is no dbus-daemon here.
    fn bus(&self) -> Option<Bus> {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("dbus-1/op-dbus.conf");
        let shipped = fs::read_to_string(shipped).unwrap();
        let dir = self.dir.path().display().to_string();
        let ours = shipped.replace("/run/op-dbus", &format!("{dir}/run/op-dbus"));
        self.write("op-dbus.conf", &ours);
        self.write("system.conf", &SYSTEM.replace("DIR", &dir));
        Bus::start(&self.path("system.conf"), &format!("unix:path={dir}/bus"))
    }
}

struct Bus {
    daemon: Child,
    address: String,
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Bus {
    fn start(config: &Path, address: &str) -> Option<Self> {
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--print-address=1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let output = daemon.stdout.take().unwrap();
        let bus = Self {
            daemon,
            address: address.to_owned(),
        };
        // A daemon that waits for a FIFO never says so.
        let (ready, said) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(output).read_line(&mut line);
            let _ = ready.send(line);
        });
        let line = said.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(!line.is_empty(), "dbus-daemon did not start");
        Some(bus)
    }

    fn connect(&self) -> Connection {
        Builder::address(self.address.as_str())
            .unwrap()
            .build()
            .unwrap()
    }

    fn may_own(&self, name: &str) -> bool {
        let flags = RequestNameFlags::DoNotQueue.into();
        self.connect().request_name_with_flags(name, flags).is_ok()
    }

    fn activatable(&self) -> Vec<String> {
        let connection = self.connect();
        let proxy = zbus::blocking::fdo::DBusProxy::new(&connection).unwrap();
        let names = proxy.list_activatable_names().unwrap();
        names.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn what_a_version_brings_is_there_and_goes_with_it() {
    let host = Host::new();
    if let Some(bus) = host.bus() {
        assert!(!bus.may_own(DEMO), "directories that are missing");
    }
    host.version("lib/systemd/system/demo.service", "[Service]\n");
    host.version("lib/sysusers.d/demo.conf", "u demo -\n");
    host.version("lib/tmpfiles.d/demo.conf", "d /run/demo 0755 demo demo\n");
    host.version("share/dbus-1/system.d/org.opdbus.Demo.conf", POLICY);
    host.version(
        "share/dbus-1/system-services/org.opdbus.Demo.service",
        SERVICE,
    );
    assert_eq!(host.refused(), "");
    assert_eq!(host.imported("sysusers.conf"), "u demo - \"-\" - -\n");
    assert_eq!(
        host.imported("tmpfiles.conf"),
        "d /run/demo 0755 demo demo -\n"
    );
    if let Some(bus) = host.bus() {
        assert!(bus.may_own(DEMO) && !bus.may_own("org.opdbus.Other"));
        assert!(bus.activatable().contains(&DEMO.to_owned()));
    }

    // Another version, with other files, in the same boot.
    fs::remove_dir_all(host.path("opt/op-dbus/share")).unwrap();
    host.version("lib/tmpfiles.d/demo.conf", "d /run/other\n");
    let other = POLICY.replace("Demo", "Other");
    host.version("share/dbus-1/system.d/org.opdbus.Other.conf", &other);
    assert_eq!(host.refused(), "");
    assert_eq!(host.names("dbus-1/system.d"), ["org.opdbus.Other.conf"]);
    assert_eq!(host.names("dbus-1/system-services"), [""; 0]);
    assert_eq!(host.imported("tmpfiles.conf"), "d /run/other - - - -\n");
    if let Some(bus) = host.bus() {
        assert!(!bus.may_own(DEMO) && bus.may_own("org.opdbus.Other"));
        assert!(!bus.activatable().contains(&DEMO.to_owned()));
    }

    host.outcome("rescue");
    assert_eq!(host.refused(), "");
    let left = fs::read_dir(host.path("run/op-dbus")).unwrap().count();
    assert_eq!(left, 1, "only activation.json is left");
}

/// Each of these kept dbus-daemon 1.14.10 from starting, or made a bus nobody
/// could use, when it read the version's own directory.
#[test]
fn no_file_of_a_version_takes_the_bus_down() {
    let host = Host::new();
    let policies = [
        "<busconfig><user>nosuch</user></busconfig>",
        "<busconfig><listen>unix:path=/nonexistent/x</listen></busconfig>",
        "<busconfig><listen>x:y</listen></busconfig>",
        "<busconfig><auth>NOPE</auth></busconfig>",
        "<busconfig><pidfile>/nonexistent/x</pidfile></busconfig>",
        "<busconfig><limit name=\"max_completed_connections\">0</limit></busconfig>",
        "<busconfig><policy context=\"mandatory\"><deny send_destination=\"*\"/></policy></busconfig>",
        "<busconfig><policy context=\"mandatory\"><deny user=\"*\"/></policy></busconfig>",
        "<busconfig><policy",
        "",
    ];
    for (number, policy) in policies.iter().enumerate() {
        host.version(&format!("share/dbus-1/system.d/{number}.conf"), policy);
    }
    host.version("share/dbus-1/system.d/z.conf", POLICY);
    host.fifo("share/dbus-1/system.d/fifo.conf");
    host.fifo("share/dbus-1/system-services/fifo.service");
    host.version("share/dbus-1/system-services/b.service", "garbage");
    symlink(
        "/dev/zero",
        host.path("opt/op-dbus/share/dbus-1/system.d/zero.conf"),
    )
    .unwrap();
    let refused = host.refused();
    assert_eq!(refused.lines().count(), policies.len() + 4, "{refused}");
    for line in refused.lines() {
        assert!(line.contains(": refused: "), "{line}");
    }
    if let Some(bus) = host.bus() {
        assert!(bus.may_own(DEMO), "the file that is right counts");
    }
}

#[test]
fn a_hostile_tree_is_refused_line_by_line() {
    let host = Host::new();
    fs::create_dir_all(host.path("opt/op-dbus/lib")).unwrap();
    symlink("/etc", host.path("opt/op-dbus/lib/sysusers.d")).unwrap();
    host.version("lib/tmpfiles.d/a\nb.conf", "d /run/x\n");
    host.fifo("lib/tmpfiles.d/fifo.conf");
    fs::create_dir_all(host.path("opt/op-dbus/lib/tmpfiles.d/dir.conf")).unwrap();
    symlink("/etc", host.path("run/there")).unwrap();
    host.version(
        "lib/tmpfiles.d/x.conf",
        "d /var/lib/x\nf /run/there/passwd - - - - x\nd /run/fine\n",
    );
    host.version("share/dbus-1/system-services/org.host.X.service", SERVICE);
    host.write("usr/share/dbus-1/system-services/org.host.X.service", "");
    let refused = host.refused();
    assert_eq!(host.imported("tmpfiles.conf"), "d /run/fine - - - -\n");
    assert_eq!(host.imported("sysusers.conf"), "");
    let root = host.dir.path().display().to_string();
    let refused = refused.replace(&root, "");
    for line in [
        "/opt/op-dbus/lib/sysusers.d: not a directory; ship a real directory; nothing in it is taken up",
        "/opt/op-dbus/lib/tmpfiles.d/a\\nb.conf: refused: files here are called <name>.conf, in plain characters",
        "/opt/op-dbus/lib/tmpfiles.d/dir.conf: refused: not a regular file",
        "/opt/op-dbus/lib/tmpfiles.d/fifo.conf: refused: not a regular file",
        "/opt/op-dbus/lib/tmpfiles.d/x.conf:1: refused: /var/lib/x would outlive the version; only what is below /run or /tmp does not",
        "/opt/op-dbus/lib/tmpfiles.d/x.conf:2: refused: /run/there is a link of the host",
        "/opt/op-dbus/share/dbus-1/system-services/org.host.X.service: refused: /usr/share/dbus-1/system-services/org.host.X.service is the host's",
    ] {
        assert!(
            refused.lines().any(|refused| refused == line),
            "{line}\nin\n{refused}"
        );
    }
    let report = fs::read_to_string(host.path("run/op-dbus/import.json")).unwrap();
    assert!(report.contains(r#""version":"v1.1.0""#), "{report}");
}

#[test]
fn exit_codes_tell_whose_fault_it_is() {
    let host = Host::new();
    fs::remove_file(host.path("etc/op-dbus/deploy.toml")).unwrap();
    assert_eq!(host.import().status.code(), Some(3));
    let host = Host::new();
    host.write("run/op-dbus/import", "a file is in the way");
    let output = host.import();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
