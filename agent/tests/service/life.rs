//! How the service begins and ends.

use rustix::process::Signal;

use crate::bus::{Bus, object, refusal};
use crate::fake::{LONG, Service, command, is_owned, until};
use crate::operation::receive;

#[test]
fn it_ends_when_nobody_uses_it() {
    let Some(mut service) = Service::idle_after(1) else {
        return;
    };
    assert_eq!(service.ended().code(), Some(0));
    assert!(!is_owned(&service.bus.connect(0)));
}

#[test]
fn it_does_not_end_in_the_middle_of_an_operation() {
    let Some(mut service) = Service::idle_after(1) else {
        return;
    };
    service.put("script", LONG);
    let deploy = object(&service.bus.connect(0));
    let waits = std::thread::scope(|scope| {
        let call = scope.spawn(|| receive(&deploy, &service));
        until("the receive's beginning", || {
            service.bus.path("began").exists().then_some(())
        });
        // Three times as long as it stays without use.
        std::thread::sleep(std::time::Duration::from_secs(3));
        assert!(is_owned(&service.bus.connect(0)));
        service.put("go", "");
        call.join().unwrap()
    });
    assert_eq!(waits.unwrap().1, "received");
    assert_eq!(service.ended().code(), Some(0));
}

#[test]
fn when_it_is_stopped_a_receive_ends_in_order() {
    let Some(mut service) = Service::start() else {
        return;
    };
    service.put("script", LONG);
    let deploy = object(&service.bus.connect(0));
    let refused = std::thread::scope(|scope| {
        let call = scope.spawn(|| receive(&deploy, &service));
        until("the receive's beginning", || {
            service.bus.path("began").exists().then_some(())
        });
        // More than one, as of somebody impatient: the child gets one of them.
        service.signal(Signal::TERM);
        service.signal(Signal::INT);
        service.signal(Signal::TERM);
        call.join().unwrap()
    });
    assert_eq!(refusal(refused).0, "org.opdbus.Deploy1.Error.Interrupted");
    assert_eq!(service.ended().code(), Some(0));
    assert_eq!(service.text("signals"), "TERM\n");
    assert_eq!(service.copies(), Vec::<String>::new());
}

#[test]
fn when_it_is_stopped_a_stage_comes_to_its_end() {
    let Some(mut service) = Service::start() else {
        return;
    };
    service.put("script", "trap 'echo TERM >> signals' TERM; touch began; while [ ! -e go ]; do sleep 0.02; done; echo '{\"result\":\"on-trial\"}'");
    let deploy = object(&service.bus.connect(0));
    let staged = std::thread::scope(|scope| {
        let call = scope.spawn(|| deploy.call::<_, _, String>("Stage", &"v1.1.0"));
        until("the stage's beginning", || {
            service.bus.path("began").exists().then_some(())
        });
        service.signal(Signal::TERM);
        // By then it has been heard: the name is let go first.
        let bus = service.bus.connect(0);
        until("the name's end", || (!is_owned(&bus)).then_some(()));
        service.put("go", "");
        call.join().unwrap()
    });
    assert_eq!(staged.unwrap(), "on-trial");
    assert_eq!(service.ended().code(), Some(0));
    assert_eq!(service.text("signals"), "");
}

#[test]
fn it_ends_with_the_bus() {
    let Some(mut service) = Service::start() else {
        return;
    };
    service.bus.stop();
    assert_eq!(service.ended().code(), Some(1));
}

#[test]
fn a_receive_ends_in_order_when_the_bus_goes() {
    let Some(mut service) = Service::start() else {
        return;
    };
    service.put("script", LONG);
    let deploy = object(&service.bus.connect(0));
    std::thread::scope(|scope| {
        let call = scope.spawn(|| receive(&deploy, &service).is_err());
        until("the receive's beginning", || {
            service.bus.path("began").exists().then_some(())
        });
        // The daemon, of which only this has the process.
        rustix::process::kill_process(service.bus.daemon(), Signal::KILL).unwrap();
        assert!(call.join().unwrap());
    });
    assert_eq!(service.ended().code(), Some(1));
    assert_eq!(service.text("signals"), "TERM\n");
    assert_eq!(service.copies(), Vec::<String>::new());
}

#[test]
fn there_is_one_service() {
    let Some(mut service) = Service::start() else {
        return;
    };
    let second = command(&service.bus, 3600).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("does the service run already"), "{said}");
    assert!(service.is_running());
}

#[test]
fn without_a_bus_it_says_so() {
    let Some(mut bus) = Bus::start() else { return };
    bus.stop();
    std::fs::create_dir(bus.path("run")).unwrap();
    let output = command(&bus, 3600).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is dbus.service running?"), "{said}");
}

#[test]
fn a_directory_that_others_may_enter_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(bus) = Bus::start() else { return };
    let directory = bus.path("run/op-dbus-agent");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    let output = command(&bus, 3600).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("mode 0700"), "{said}");
}
