//! Whatever `op-dbus-stage` says, or does not say.

use op_dbus_agent::service::error::BY_CODE;

use crate::bus::{object, refusal};
use crate::fake::Service;

#[test]
fn each_exit_code_has_its_name() {
    let Some(service) = Service::start() else {
        return;
    };
    let root = object(&service.bus.connect(0));
    for (code, expected) in BY_CODE.into_iter().enumerate().skip(1) {
        let script = format!(
            "echo '{{\"error\":{{\"code\":{code},\"message\":\"a: b; c\"}}}}' >&2; exit {code}"
        );
        service.put("script", &script);
        let (name, text) = refusal(root.call::<_, _, ()>("Stage", &"v1.0.0"));
        assert_eq!((name.as_str(), text.as_str()), (expected, "a: b; c"));
    }
}

#[test]
fn a_child_that_says_nothing_or_nonsense_is_a_failure_and_no_more() {
    let Some(service) = Service::start() else {
        return;
    };
    let root = object(&service.bus.connect(0));
    for (script, words) in [
        ("exit 0", "printed no JSON"),
        ("echo nonsense", "printed no JSON"),
        ("exit 3", "exit code 3 without a word"),
        ("exit 200", "exit code 200 without a word"),
        ("kill -KILL $BASHPID", "killed by signal 9"),
        // Beyond every limit, on both sides.
        ("head -c 20000000 /dev/zero", "printed too much"),
        (
            "head -c 20000000 /dev/zero >&2; exit 1",
            "exit code 1 without a word",
        ),
        (
            "yes warning | head -n 200000 >&2; exit 1",
            "exit code 1 without a word",
        ),
        (
            "echo '{\"error\":7}' >&2; exit 8",
            "exit code 8 without a word",
        ),
        (
            "echo '{\"progress\":{\"phase\":\"x\"}}' >&2; exit 8",
            "exit code 8 without a word",
        ),
    ] {
        service.put("script", script);
        let (name, text) = refusal(root.call::<_, _, ()>("Stage", &"v1.0.0"));
        assert!(
            name.starts_with("org.opdbus.Deploy1.Error."),
            "{script}: {name}"
        );
        assert!(text.contains(words), "{script}: {text}");
    }
    // A long message is cut, and stays one that the bus takes.
    service.put(
        "script",
        "printf '{\"error\":{\"message\":\"%0100000d\"}}\\n' 1 | head -c 15000 >&2; exit 8",
    );
    refusal(root.call::<_, _, ()>("Stage", &"v1.0.0"));
    service.put("script", "echo '{\"result\":\"on-trial\"}'");
    assert_eq!(
        root.call::<_, _, String>("Stage", &"v1.0.0").unwrap(),
        "on-trial"
    );
}

/// What a child leaves running is not waited for, though it holds the pipes.
#[test]
fn who_stays_behind_holds_nobody_up() {
    let Some(service) = Service::start() else {
        return;
    };
    let root = object(&service.bus.connect(0));
    service.put(
        "script",
        "(while [ ! -e go ]; do sleep 0.1; done) & echo '{\"result\":\"on-trial\"}'",
    );
    assert_eq!(
        root.call::<_, _, String>("Stage", &"v1.0.0").unwrap(),
        "on-trial"
    );
}

#[test]
fn a_child_gets_nothing_of_the_services_surroundings() {
    let Some(service) = Service::start() else {
        return;
    };
    let root = object(&service.bus.connect(0));
    let script = "env > env; readlink /proc/$$/fd/* > fds; echo '{\"result\":\"x\"}'";
    service.put("script", script);
    root.call::<_, _, String>("Stage", &"v1.0.0").unwrap();
    let env = service.text("env");
    assert!(
        !env.contains("DBUS") && env.contains("LC_ALL=C.UTF-8"),
        "{env}"
    );
    // Neither the bus nor anything else of the service's: its own three, and what
    // a shell keeps of its script and of them.
    let fds = service.text("fds");
    assert!(
        fds.contains("/dev/null") && !fds.contains("socket"),
        "{fds}"
    );
}
