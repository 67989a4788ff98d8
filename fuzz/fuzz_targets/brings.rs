//! Text files of a version that the host's programs get to see, in any text:
//! D-Bus policies and activation files, tmpfiles and sysusers lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use op_dbus_integration::policy::Policy;
use op_dbus_integration::words::is_plain_path;
use op_dbus_integration::{service, sysusers, tmpfiles};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    policy(text);
    activation(text);
    tmpfiles_lines(text);
    sysusers_lines(text);
});

fn policy(text: &str) {
    let Ok(policy) = Policy::parse(text) else {
        return;
    };
    let written = policy.render();
    assert_eq!(Policy::parse(&written), Ok(policy), "understood as it was");
    for line in written.lines() {
        let tag = line.trim_start().split([' ', '>', '/']).next();
        let known = ["<busconfig", "<policy", "<allow", "<deny", "<"];
        assert!(tag.is_some_and(|tag| known.contains(&tag)), "{line}");
        assert!(line.chars().all(|c| c.is_ascii() && c != '&'), "{line}");
        assert!(!line.contains("context=\"mandatory\""), "{line}");
    }
}

fn activation(text: &str) {
    let file = "org.opdbus.Demo.service";
    let filter = |text: &str| service::filter(file, text, |unit| unit == "demo.service");
    if let Ok(written) = filter(text) {
        assert_eq!(filter(&written), Ok(written.clone()));
        assert!(written.lines().count() <= 5);
    }
}

fn tmpfiles_lines(text: &str) {
    let filter = |text: &str| {
        let (mut lines, mut notes) = (Vec::new(), Vec::new());
        tmpfiles::read("x", text, &mut lines, &mut notes);
        (tmpfiles::settle(lines, &mut notes), notes)
    };
    let (lines, _) = filter(text);
    assert!(lines.len() <= tmpfiles::MAX_LINES);
    for line in &lines {
        let path = &line.path;
        assert!(
            path.starts_with("/run/") || path.starts_with("/tmp/"),
            "{path}"
        );
        assert!(is_plain_path(path) && !line.text.contains(['\n', '\r', '\0']));
        assert_eq!(line.text.split(' ').nth(1), Some(path.as_str()));
    }
    let texts = |lines: &[tmpfiles::Line]| {
        let texts: Vec<_> = lines.iter().map(|line| line.text.clone()).collect();
        texts.join("\n")
    };
    let written = texts(&lines);
    let (again, notes) = filter(&written);
    assert_eq!(texts(&again), written);
    assert!(notes.is_empty(), "{notes:?}");
}

fn sysusers_lines(text: &str) {
    let filter = |text: &str| {
        let (mut lines, mut notes) = (Vec::new(), Vec::new());
        sysusers::read("x", text, &mut lines, &mut notes);
        (sysusers::settle(&lines, &mut notes), notes)
    };
    let (written, _) = filter(text);
    assert!(written.lines().count() <= sysusers::MAX_LINES);
    for line in written.lines() {
        assert!(
            ["u ", "g ", "m "].iter().any(|kind| line.starts_with(kind)),
            "{line}"
        );
        assert!(!line.contains(['%', '\\', '\'', '\r']), "{line}");
    }
    let (again, notes) = filter(&written);
    assert_eq!((again, notes), (written, Vec::new()));
}
