//! Operations: what they say, how they end, and that there is one at a time.

use std::fs::{self, File};
use std::os::fd::OwnedFd as StdFd;
use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags};
use zbus::blocking::{Connection, Proxy};
use zbus::zvariant::OwnedFd;

use crate::bus::{NOBODY, SOMEBODY, object, properties, refusal};
use crate::fake::{Answer, LONG, Polkit, Service, until};

pub(crate) fn receive(deploy: &Proxy<'_>, service: &Service) -> zbus::Result<(String, String)> {
    let file = |name: &str| -> OwnedFd {
        service.put(name, name);
        StdFd::from(File::open(service.bus.path(name)).unwrap()).into()
    };
    let fds = (file("manifest"), file("signature"), file("stream"));
    deploy.call("Receive", &fds)
}

type Receiving = std::thread::JoinHandle<zbus::Result<(String, String)>>;

/// Begins one that waits in the middle.
fn begin(service: &Service, connection: &Connection) -> Receiving {
    begin_with(service, connection, LONG)
}

fn begin_with(service: &Service, connection: &Connection, script: &str) -> Receiving {
    service.put("script", script);
    let file = |name: &str| -> OwnedFd {
        service.put(name, name);
        StdFd::from(File::open(service.bus.path(name)).unwrap()).into()
    };
    let fds = (file("manifest"), file("signature"), file("stream"));
    let deploy = object(connection);
    let call = std::thread::spawn(move || deploy.call("Receive", &fds));
    until("the receive's beginning", || {
        service.bus.path("began").exists().then_some(())
    });
    call
}

fn operation(deploy: &Proxy<'_>) -> (String, u32) {
    deploy.get_property("Operation").unwrap()
}

#[test]
fn a_receive_gets_what_was_handed_over_and_tells_how_far_it_is() {
    let Some(service) = Service::start() else {
        return;
    };
    let watcher = service.bus.connect(SOMEBODY);
    let properties = properties(&watcher);
    let mut changes = properties.receive_properties_changed().unwrap();
    let finished = object(&watcher);
    let mut finished = finished.receive_signal("Finished").unwrap();
    // The manifest's path is the one behind --manifest.
    let script = format!(
        "while [ \"$1\" != --manifest ]; do shift; done\ncat \"$2\" \"$2.asc\" - > got\n{LONG}"
    );
    service.put("script", &script);
    service.put("go", "");
    let deploy = object(&service.bus.connect(0));
    let (version, result) = receive(&deploy, &service).unwrap();
    assert_eq!((version.as_str(), result.as_str()), ("v1.1.0", "received"));
    assert_eq!(service.text("got"), "manifestsignaturestream");
    assert_eq!(service.copies(), Vec::<String>::new());
    let signal = finished.next().unwrap();
    let said: (String, String, String) = signal.body().deserialize().unwrap();
    assert_eq!(
        said,
        ("receive".to_owned(), "v1.1.0".to_owned(), String::new())
    );

    let mut seen = Vec::new();
    while seen.last() != Some(&(String::new(), 0)) {
        let signal = changes.next().unwrap();
        let args = signal.args().unwrap();
        if let Some(now) = args.changed_properties().get("Operation") {
            let now: (String, u32) = now.try_clone().unwrap().try_into().unwrap();
            seen.push(now);
        }
    }
    let seen: Vec<_> = seen
        .iter()
        .map(|(phase, percent)| (phase.as_str(), *percent))
        .collect();
    let expected = [
        ("checking", 0),
        ("receiving", 0),
        ("receiving", 40),
        ("receiving", 80),
        ("writing", 80),
        ("reading-back", 85),
        ("publishing", 99),
        ("", 0),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn only_files_that_the_caller_could_read_are_taken() {
    let Some(service) = Service::start() else {
        return;
    };
    let _polkit = Polkit::start(&service.bus, Answer::Yes);
    let deploy = object(&service.bus.connect(NOBODY));
    service.put("readable", "x");
    let readable =
        || -> OwnedFd { StdFd::from(File::open(service.bus.path("readable")).unwrap()).into() };
    // Anybody may have this one of a file that only root can read.
    let shadow = || -> OwnedFd {
        rustix::fs::open("/etc/shadow", OFlags::PATH, Mode::empty())
            .unwrap()
            .into()
    };
    let device = || -> OwnedFd { StdFd::from(File::open("/dev/zero").unwrap()).into() };
    let (socket, _other) = UnixStream::pair().unwrap();
    let socket = || -> OwnedFd { StdFd::from(socket.try_clone().unwrap()).into() };
    for fds in [
        (shadow(), readable(), readable()),
        (readable(), shadow(), readable()),
        (readable(), readable(), shadow()),
        (device(), readable(), readable()),
        (readable(), readable(), device()),
        (readable(), readable(), socket()),
    ] {
        let (name, text) = refusal(deploy.call::<_, _, ()>("Receive", &fds));
        assert_eq!(name, "org.opdbus.Deploy1.Error.InvalidArgument", "{text}");
    }
    // One that is no file of a release gets as far as op-dbus-stage, which says why.
    assert_eq!(service.calls(), Vec::<String>::new());
    deploy
        .call::<_, _, (String, String)>("Receive", &(readable(), readable(), readable()))
        .unwrap();
    assert_eq!(service.calls().len(), 1);
}

#[test]
fn there_is_one_at_a_time() {
    let Some(service) = Service::start() else {
        return;
    };
    let polkit = Polkit::start(&service.bus, Answer::Yes);
    let call = begin(&service, &service.bus.connect(0));
    let nobody = object(&service.bus.connect(NOBODY));
    for refused in [
        nobody.call::<_, _, ()>("Stage", &"v1.1.0"),
        nobody.call::<_, _, ()>("Cancel", &()),
        receive(&nobody, &service).map(|_| ()),
    ] {
        assert_eq!(refusal(refused).0, "org.opdbus.Deploy1.Error.Busy");
    }
    // Nobody is asked for a password in vain.
    assert_eq!(polkit.questions(), []);
    assert_eq!(operation(&nobody), ("receiving".to_owned(), 40));
    service.put("go", "");
    call.join().unwrap().unwrap();
    service.put("script", "echo '{\"result\":\"on-trial\"}'");
    assert_eq!(
        nobody.call::<_, _, String>("Stage", &"v1.1.0").unwrap(),
        "on-trial"
    );
}

#[test]
fn a_receive_goes_on_without_its_caller() {
    let Some(service) = Service::start() else {
        return;
    };
    let watcher = object(&service.bus.connect(SOMEBODY));
    let mut finished = watcher.receive_signal("Finished").unwrap();
    let connection = service.bus.connect(0);
    let call = begin(&service, &connection);
    connection.close().unwrap();
    assert!(call.join().unwrap().is_err());
    assert_eq!(operation(&watcher), ("receiving".to_owned(), 40));
    service.put("go", "");
    let said: (String, String, String) = finished.next().unwrap().body().deserialize().unwrap();
    assert_eq!(
        said,
        ("receive".to_owned(), "v1.1.0".to_owned(), String::new())
    );
    until("the end", || (operation(&watcher).1 == 0).then_some(()));
}

#[test]
fn whoever_began_it_may_interrupt_it_and_others_are_asked() {
    let Some(service) = Service::start() else {
        return;
    };
    let polkit = Polkit::start(&service.bus, Answer::Yes);
    let nobody = service.bus.connect(NOBODY);
    let idle = refusal(object(&nobody).call::<_, _, ()>("Interrupt", &()));
    assert_eq!(idle.0, "org.opdbus.Deploy1.Error.NothingToInterrupt");
    let call = begin(&service, &nobody);
    polkit.answers(Answer::No);
    let other = object(&service.bus.connect(SOMEBODY));
    let refused = refusal(other.call::<_, _, ()>("Interrupt", &()));
    assert_eq!(refused.0, "org.freedesktop.DBus.Error.AccessDenied");
    // From another connection of the same user's: theirs may have got lost.
    object(&service.bus.connect(NOBODY))
        .call::<_, _, ()>("Interrupt", &())
        .unwrap();
    let (name, text) = refusal(call.join().unwrap());
    assert_eq!(
        (name.as_str(), text.as_str()),
        ("org.opdbus.Deploy1.Error.Interrupted", "interrupted; again")
    );
    assert_eq!(service.text("signals"), "TERM\n");
    let actions: Vec<_> = polkit
        .questions()
        .into_iter()
        .map(|question| question.action)
        .collect();
    assert_eq!(
        actions,
        ["org.opdbus.deploy1.receive", "org.opdbus.deploy1.receive"]
    );
}

#[test]
fn interrupting_twice_is_one_signal() {
    let Some(service) = Service::start() else {
        return;
    };
    // Takes its time to clear away, as one does that deletes much.
    let slow = LONG.replace(
        "echo TERM >> signals;",
        "echo TERM >> signals; while [ ! -e clean ]; do sleep 0.02; done;",
    );
    let call = begin_with(&service, &service.bus.connect(0), &slow);
    let root = object(&service.bus.connect(0));
    root.call::<_, _, ()>("Interrupt", &()).unwrap();
    root.call::<_, _, ()>("Interrupt", &()).unwrap();
    service.put("clean", "");
    let (name, _) = refusal(call.join().unwrap());
    assert_eq!(name, "org.opdbus.Deploy1.Error.Interrupted");
    assert_eq!(service.text("signals"), "TERM\n");
}

#[test]
fn a_stage_can_t_be_interrupted() {
    let Some(service) = Service::start() else {
        return;
    };
    service.put(
        "script",
        "touch began; while [ ! -e go ]; do sleep 0.02; done; echo '{\"result\":\"on-trial\"}'",
    );
    let root = object(&service.bus.connect(0));
    let call = std::thread::spawn({
        let root = root.clone();
        move || root.call::<_, _, String>("Stage", &"v1.1.0")
    });
    until("the stage's beginning", || {
        service.bus.path("began").exists().then_some(())
    });
    assert_eq!(operation(&root), ("staging".to_owned(), 0));
    let refused = refusal(root.call::<_, _, ()>("Interrupt", &()));
    assert_eq!(refused.0, "org.opdbus.Deploy1.Error.NothingToInterrupt");
    fs::write(service.bus.path("go"), "").unwrap();
    assert_eq!(call.join().unwrap().unwrap(), "on-trial");
}
