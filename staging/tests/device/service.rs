//! The D-Bus service of `op-dbus-agent` in front of the real program, on a bus of
//! its own. Skipped, loudly, where the agent is not built yet, or has no bus.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd as StdFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use zbus::blocking::connection::Builder as Connect;
use zbus::blocking::{Connection, Proxy};
use zbus::zvariant::OwnedFd;

use crate::common::PROGRAM;
use crate::fixture::Device;

const FAILED: &str = "org.opdbus.Deploy1.Error.";

struct Service {
    agent: Child,
    daemon: Child,
    bus: Connection,
}

impl Drop for Service {
    fn drop(&mut self) {
        for child in [&mut self.agent, &mut self.daemon] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Service {
    fn start(device: &Device) -> Option<Self> {
        let agent = Path::new(PROGRAM).with_file_name("op-dbus-agent");
        if !agent.exists() {
            eprintln!("SKIPPED: there is no {}", agent.display());
            return None;
        }
        let listen = format!("--address=unix:path={}", device.path("bus").display());
        let daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address=1", &listen])
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut daemon) = daemon else {
            eprintln!("SKIPPED: there is no dbus-daemon");
            return None;
        };
        let mut address = String::new();
        let mut stdout = BufReader::new(daemon.stdout.take().unwrap());
        stdout.read_line(&mut address).unwrap();
        let address = address.trim();
        let agent = Command::new(agent)
            .args(["serve", "--stage", PROGRAM, "--idle=3600", "--run"])
            .arg(&device.layout.run)
            .arg("--sysroot")
            .arg(&device.layout.sysroot)
            .arg("--boot-id")
            .arg(device.path("boot_id"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", address)
            .spawn()
            .unwrap();
        let bus = Connect::address(address).and_then(Connect::build).unwrap();
        let service = Self { agent, daemon, bus };
        until("the service's name", || {
            let daemon = zbus::blocking::fdo::DBusProxy::new(&service.bus).unwrap();
            let name = "org.opdbus.Deploy1".try_into().unwrap();
            daemon.name_has_owner(name).unwrap()
        });
        Some(service)
    }

    fn object(&self) -> Proxy<'static> {
        zbus::blocking::proxy::Builder::new(&self.bus)
            .destination("org.opdbus.Deploy1")
            .and_then(|it| it.path("/org/opdbus/Deploy1"))
            .and_then(|it| it.interface("org.opdbus.Deploy1"))
            .map(|it| it.cache_properties(zbus::proxy::CacheProperties::No))
            .and_then(zbus::blocking::proxy::Builder::build)
            .unwrap()
    }

    /// Whatever the service says is never of more than a few seconds ago; this has
    /// it look now.
    fn property<T>(&self, name: &str) -> T
    where
        T: TryFrom<zbus::zvariant::OwnedValue>,
        T::Error: Into<zbus::Error>,
    {
        let object = self.object();
        object.call::<_, _, ()>("Refresh", &()).unwrap();
        object.get_property(name).unwrap()
    }
}

#[track_caller]
fn until(what: &str, look: impl Fn() -> bool) {
    let begun = Instant::now();
    while !look() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "never came: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn open(path: impl AsRef<Path>) -> OwnedFd {
    StdFd::from(File::open(path).unwrap()).into()
}

/// A release's files, of which the last one may be another.
fn files(manifest: &str, stream: OwnedFd) -> (OwnedFd, OwnedFd, OwnedFd) {
    (open(manifest), open(format!("{manifest}.asc")), stream)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: zbus::Result<T>) -> (String, String) {
    match result.unwrap_err() {
        zbus::Error::MethodError(name, text, _) => {
            let name = name.strip_prefix(FAILED).unwrap().to_owned();
            (name, text.unwrap_or_default())
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_release_goes_all_the_way_over_the_bus() {
    let Some((device, builder)) = Device::blessed() else {
        return;
    };
    let stream = builder.release("v1.1.0", Some("v1.0.0"));
    let manifest = builder.manifest("v1.1.0");
    let Some(service) = Service::start(&device) else {
        return;
    };
    let deploy = service.object();
    let mut staged = deploy.receive_signal("Staged").unwrap();
    assert_eq!(service.property::<String>("Good"), "v1.0.0");
    assert_eq!(service.property::<String>("RunningSlot"), "trial");

    let said = deploy.call::<_, _, (String, String)>("Receive", &files(&manifest, open(&stream)));
    assert_eq!(said.unwrap(), ("v1.1.0".to_owned(), "received".to_owned()));
    let again = deploy.call::<_, _, (String, String)>("Receive", &files(&manifest, open(&stream)));
    assert_eq!(again.unwrap().1, "already-there");
    assert_eq!(
        service.property::<Vec<String>>("Versions"),
        ["v1.1.0", "v1.0.0"]
    );

    let said: String = deploy.call("Stage", &"v1.1.0").unwrap();
    assert_eq!(said, "on-trial");
    let signal = staged.next().unwrap();
    assert_eq!(signal.body().deserialize::<String>().unwrap(), "v1.1.0");
    assert_eq!(service.property::<String>("Trial"), "v1.1.0");
    assert_eq!(service.property::<u32>("TriesLeft"), 3);
    let said: (String, String) = deploy.call("Cancel", &()).unwrap();
    assert_eq!(said, ("v1.1.0".to_owned(), "cancelled".to_owned()));

    let unknown = refused(deploy.call::<_, _, ()>("Stage", &"v9.9.9"));
    assert_eq!(unknown.0, "UnknownVersion");
    assert!(unknown.1.contains("receive it first"), "{}", unknown.1);
    let lacking = refused(deploy.call::<_, _, ()>("Rollback", &""));
    assert_eq!(lacking.0, "Refused");
    // Another release's stream.
    builder.release("v1.2.0", None);
    let mixed = files(&builder.manifest("v1.2.0"), open(&stream));
    let mixed = refused(deploy.call::<_, _, ()>("Receive", &mixed));
    assert_eq!(mixed.0, "Verification");

    let log = device.json(&["audit", "log"]);
    let lines = log["lines"].as_array().unwrap();
    let by = |event: &str| {
        let line = lines.iter().rfind(|line| line["event"] == event).unwrap();
        line["actor"].as_str().unwrap().to_owned()
    };
    for event in ["received", "staged", "cancelled", "refused"] {
        assert!(by(event).ends_with(" for uid 0"), "{event}: {}", by(event));
    }
}

/// Hands over a pipe with half of a stream in it.
fn half(stream: &str) -> (OwnedFd, File) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let writer = File::from(writer);
    let bytes = fs::read(stream).unwrap();
    let half = bytes.get(..bytes.len() / 2).unwrap().to_owned();
    let mut copy = writer.try_clone().unwrap();
    // Longer than what a pipe holds.
    std::thread::spawn(move || {
        let _ = copy.write_all(&half);
    });
    (reader.into(), writer)
}

fn leftovers(device: &Device) -> Vec<String> {
    let entries = fs::read_dir(device.store("incoming")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "lock").collect()
}

#[test]
fn a_receive_that_is_interrupted_leaves_nothing() {
    let Some((device, builder)) = Device::blessed() else {
        return;
    };
    let Some(mut service) = Service::start(&device) else {
        return;
    };
    let deploy = service.object();
    for (version, by_signal) in [("v1.1.0", false), ("v1.2.0", true)] {
        let stream = builder.release(version, None);
        let manifest = builder.manifest(version);
        let before = leftovers(&device);
        let (reader, writer) = half(&stream);
        let fds = files(&manifest, reader);
        let call = std::thread::spawn({
            let deploy = deploy.clone();
            move || deploy.call::<_, _, ()>("Receive", &fds)
        });
        until("the receive's middle", || {
            let (phase, percent): (String, u32) = deploy.get_property("Operation").unwrap();
            phase == "receiving" && percent > 0 && leftovers(&device) != before
        });
        if by_signal {
            let agent = rustix::process::Pid::from_child(&service.agent);
            rustix::process::kill_process(agent, rustix::process::Signal::TERM).unwrap();
        } else {
            deploy.call::<_, _, ()>("Interrupt", &()).unwrap();
        }
        let (name, text) = refused(call.join().unwrap());
        assert_eq!(name, "Interrupted", "{text}");
        assert_eq!(leftovers(&device), before);
        drop(writer);
        // Nothing is in the way of another one.
        if by_signal {
            assert!(service.agent.wait().unwrap().success());
            device.result(&["receive", &stream], "received");
        } else {
            let files = files(&manifest, open(&stream));
            let said: (String, String) = deploy.call("Receive", &files).unwrap();
            assert_eq!(said.1, "received");
        }
    }
}
