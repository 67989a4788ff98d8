//! A system bus of the test's own, with the policy that is shipped, and callers
//! on it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Gid, Uid};
use tempfile::TempDir;
use zbus::blocking::connection::Builder;
use zbus::blocking::fdo::PropertiesProxy;
use zbus::blocking::{Connection, Proxy};

/// A user that is not root.
pub(crate) const NOBODY: u32 = 65534;
/// Another one: the bus lets only those in that the host knows.
pub(crate) const SOMEBODY: u32 = 1;

/// As the host's bus has it: nothing is allowed that no file allows.
const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=@DIR@/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <policy user="root">
    <allow own="org.freedesktop.PolicyKit1"/>
    <allow send_destination="org.freedesktop.PolicyKit1"/>
  </policy>
  <include>@POLICY@</include>
</busconfig>
"#;

pub(crate) struct Bus {
    daemon: Child,
    pub(crate) directory: TempDir,
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Bus {
    /// None without root or dbus-daemon, loudly.
    pub(crate) fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root, to call as different users");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let policy = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/dbus-1/org.opdbus.Deploy1.conf"
        );
        let text = CONFIG
            .replace("@DIR@", directory.path().to_str().unwrap())
            .replace("@POLICY@", policy);
        let config = directory.path().join("bus.conf");
        fs::write(&config, text).unwrap();
        let started = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--print-address=1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut daemon) = started else {
            eprintln!("SKIPPED: there is no dbus-daemon");
            return None;
        };
        // The address is printed once it listens.
        let mut address = String::new();
        let stdout = daemon.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut address).unwrap();
        Some(Self { daemon, directory })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}", self.path("bus").display())
    }

    pub(crate) fn daemon(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.daemon)
    }

    pub(crate) fn stop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    /// A connection of a user's: the bus goes by who connected.
    pub(crate) fn connect(&self, uid: u32) -> Connection {
        let socket = self.path("bus");
        let connected = std::thread::spawn(move || as_user(uid, &socket)).join();
        let builder = Builder::unix_stream(connected.unwrap());
        builder.user_id(uid).build().unwrap()
    }
}

/// Only this thread becomes that user, and it ends with this.
fn as_user(uid: u32, socket: &Path) -> UnixStream {
    if uid != 0 {
        let (group, user) = (Gid::from_raw(uid), Uid::from_raw(uid));
        rustix::thread::set_thread_res_gid(group, group, group).unwrap();
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
    }
    UnixStream::connect(socket).unwrap()
}

/// The service's object, without any of its properties kept.
pub(crate) fn object(connection: &Connection) -> Proxy<'static> {
    zbus::blocking::proxy::Builder::new(connection)
        .destination("org.opdbus.Deploy1")
        .and_then(|it| it.path("/org/opdbus/Deploy1"))
        .and_then(|it| it.interface("org.opdbus.Deploy1"))
        .map(|it| it.cache_properties(zbus::proxy::CacheProperties::No))
        .and_then(zbus::blocking::proxy::Builder::build)
        .unwrap()
}

/// What tells of changes of its properties.
pub(crate) fn properties(connection: &Connection) -> PropertiesProxy<'static> {
    PropertiesProxy::builder(connection)
        .destination("org.opdbus.Deploy1")
        .and_then(|it| it.path("/org/opdbus/Deploy1"))
        .and_then(zbus::blocking::proxy::Builder::build)
        .unwrap()
}

/// An error's name and text.
#[track_caller]
pub(crate) fn refusal<T: std::fmt::Debug>(result: zbus::Result<T>) -> (String, String) {
    match result.unwrap_err() {
        zbus::Error::MethodError(name, text, _) => (name.to_string(), text.unwrap_or_default()),
        other => panic!("{other}"),
    }
}
