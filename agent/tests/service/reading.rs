//! What everybody may see.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use zbus::blocking::fdo::IntrospectableProxy;
use zbus::zvariant::{OwnedValue, Value};

use crate::bus::{NOBODY, SOMEBODY, object, properties, refusal};
use crate::fake::{STATUS, Service, until};

#[test]
fn everybody_may_look() {
    let Some(service) = Service::start() else {
        return;
    };
    let deploy = object(&service.bus.connect(NOBODY));
    let text = |name| deploy.get_property::<String>(name).unwrap();
    assert_eq!(text("State"), "ok");
    assert_eq!(
        (text("Running"), text("RunningSlot")),
        ("v1.0.0".to_owned(), "good".to_owned())
    );
    assert_eq!(
        (text("Good"), text("Fallback")),
        ("v1.0.0".to_owned(), "v0.8.0".to_owned())
    );
    assert_eq!(text("DaemonVersion"), env!("CARGO_PKG_VERSION"));
    assert_eq!(deploy.get_property::<u32>("TriesLeft").unwrap(), 0);
    let quarantine: Vec<(String, String)> = deploy.get_property("Quarantine").unwrap();
    assert_eq!(quarantine, [("v0.9.0".to_owned(), "condemned".to_owned())]);
    let operation: (String, u32) = deploy.get_property("Operation").unwrap();
    assert_eq!(operation, (String::new(), 0));
    // And nobody may write.
    let written = deploy.set_property("Good", "v9.9.9");
    assert!(written.is_err());
    let (name, _) = refusal(deploy.call::<_, _, ()>("Refresh", &()));
    assert_eq!(name, "org.freedesktop.DBus.Error.AccessDenied");
}

#[test]
fn what_changed_is_told_once_and_alone() {
    let Some(service) = Service::start() else {
        return;
    };
    let watcher = service.bus.connect(SOMEBODY);
    let properties = properties(&watcher);
    let mut told = properties.receive_properties_changed().unwrap();
    service.put(
        "status.json",
        &STATUS.replace(
            "\"trial\":null",
            "\"trial\":{\"version\":\"v1.1.0\",\"tries_left\":3}",
        ),
    );
    let root = object(&service.bus.connect(0));
    root.call::<_, _, ()>("Refresh", &()).unwrap();
    root.call::<_, _, ()>("Refresh", &()).unwrap();
    service.put("status.json", &STATUS.replace("attention", "ok"));
    root.call::<_, _, ()>("Refresh", &()).unwrap();
    let mut next = || -> HashMap<String, OwnedValue> {
        let signal = told.next().unwrap();
        let args = signal.args().unwrap();
        let changed = args.changed_properties();
        changed
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.try_to_owned().unwrap()))
            .collect()
    };
    let staged = next();
    assert_eq!(staged.len(), 2);
    assert_eq!(*staged["Trial"], Value::from("v1.1.0"));
    assert_eq!(*staged["TriesLeft"], Value::from(3_u32));
    let back = next();
    assert_eq!((back.len(), &*back["Trial"]), (2, &Value::from("")));
}

#[test]
fn what_happened_is_told_once_also_across_runs_of_the_service() {
    let Some(mut service) = Service::start() else {
        return;
    };
    let line = |n: u64, event: &str, detail: &str| {
        let zeros = "0".repeat(64);
        format!(
            r#"{{"n":{n},"prev":"{zeros}","time":"2026-01-01T00:00:00Z","boot":"00000000-0000-0000-0000-000000000001","actor":"a","event":"{event}","version":"v1.1.0","digest":"{zeros}","detail":"{detail}"}}"#
        )
    };
    let log = |lines: &[String]| format!(r#"{{"lines":[{}]}}"#, lines.join(","));
    let watcher = object(&service.bus.connect(NOBODY));
    let mut signals = watcher.receive_all_signals().unwrap();
    let root = object(&service.bus.connect(0));
    // Old news, of another boot.
    service.put("audit.json", &log(&[line(1, "staged", "x")]));
    root.call::<_, _, ()>("Refresh", &()).unwrap();
    let lines = [line(1, "staged", "x"), line(2, "blessed", "was trial")];
    service.put("audit.json", &log(&lines));
    root.call::<_, _, ()>("Refresh", &()).unwrap();
    let signal = signals.next().unwrap();
    assert_eq!(signal.header().member().unwrap().as_str(), "Blessed");
    assert_eq!(signal.body().deserialize::<String>().unwrap(), "v1.1.0");

    service.signal(rustix::process::Signal::TERM);
    assert!(service.ended().success());
    let lines = [
        lines[0].clone(),
        lines[1].clone(),
        line(3, "staged", "again"),
    ];
    service.put("audit.json", &log(&lines));
    let mut again = crate::fake::command(&service.bus, 3600).spawn().unwrap();
    let signal = signals.next().unwrap();
    assert_eq!(signal.header().member().unwrap().as_str(), "Staged");
    again.kill().unwrap();
    again.wait().unwrap();
}

#[test]
fn a_flood_of_readers_reads_the_device_once() {
    let Some(service) = Service::start() else {
        return;
    };
    // The bus lets a connection wait for 128 answers.
    let connections: Vec<_> = (0..5).map(|_| service.bus.connect(NOBODY)).collect();
    // All at once: none waits for the answer to another.
    let calls: Vec<_> = (0..500)
        .map(|at| {
            let connection = connections[at % 5].clone();
            std::thread::spawn(move || object(&connection).get_property::<String>("Good").unwrap())
        })
        .collect();
    for call in calls {
        assert_eq!(call.join().unwrap(), "v1.0.0");
    }
    let read = service
        .text("calls")
        .lines()
        .filter(|line| line.ends_with(" status"))
        .count();
    // However slow this machine is, not once for each.
    assert!(read < 100, "{read}");
}

#[test]
fn a_status_that_can_t_be_had_is_not_known() {
    let Some(service) = Service::start() else {
        return;
    };
    let root = object(&service.bus.connect(0));
    for broken in ["", "no json", "{\"a\":", "[]"] {
        service.put("status.json", broken);
        root.call::<_, _, ()>("Refresh", &()).unwrap();
        assert_eq!(
            root.get_property::<String>("State").unwrap(),
            "unknown",
            "{broken:?}"
        );
        assert_eq!(root.get_property::<String>("Good").unwrap(), "");
    }
    service.put("status.json", STATUS);
    root.call::<_, _, ()>("Refresh", &()).unwrap();
    assert_eq!(root.get_property::<String>("Good").unwrap(), "v1.0.0");
}

/// Another program changes things, and nobody tells the service.
#[test]
fn what_is_read_is_never_old() {
    let Some(service) = Service::start() else {
        return;
    };
    let deploy = object(&service.bus.connect(NOBODY));
    service.put("status.json", &STATUS.replace("v0.8.0", "v0.8.1"));
    until("the new fallback", || {
        let fallback: String = deploy.get_property("Fallback").unwrap();
        (fallback == "v0.8.1").then_some(())
    });
}

/// The documentation is what the bus says. `OP_DBUS_WRITE=1` writes it anew.
#[test]
fn the_interface_is_documented_as_it_is() {
    let Some(service) = Service::start() else {
        return;
    };
    let connection = service.bus.connect(NOBODY);
    let proxy = IntrospectableProxy::builder(&connection)
        .destination("org.opdbus.Deploy1")
        .and_then(|it| it.path("/org/opdbus/Deploy1"))
        .and_then(zbus::blocking::proxy::Builder::build);
    let xml = proxy.unwrap().introspect().unwrap();
    let begin = xml
        .find("  <interface name=\"org.opdbus.Deploy1\">")
        .unwrap();
    let length = xml[begin..].find("</interface>\n").unwrap() + "</interface>\n".len();
    let found = format!(
        "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node name=\"/org/opdbus/Deploy1\">\n{}</node>\n",
        &xml[begin..begin + length]
    );
    let path = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/dbus/org.opdbus.Deploy1.xml"
    ));
    if std::env::var_os("OP_DBUS_WRITE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &found).unwrap();
    }
    let documented = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(documented, found, "run this test with OP_DBUS_WRITE=1");
}
