use super::*;
use Kind::{Infrastructure as I, Required as R, Wanted as W};

fn parse(health: &str) -> Result<Settings, String> {
    Settings::parse(&format!(
        "[store]\ndevice = \"/dev/vda\"\n[health]\n{health}\n"
    ))
}

#[test]
fn nothing_configured_is_nothing_to_check() {
    let found = parse("").unwrap();
    assert_eq!(found.checks, []);
    assert_eq!(found.unknown, Policy::Retry);
    assert_eq!(found.deadline, Duration::from_secs(300));
}

#[test]
fn every_kind_is_read() {
    let found = parse(
        "units = [\"a.service\"]\nbus_names = [\"org.a\"]\nunknown = \"condemn\"\n\
         [[health.check]]\nunit = \"b.service\"\nname = \"b\"\nretries = 0\n\
         [[health.check]]\nbus_name = \"org.b\"\ncall = { path = \"/b\", interface = \"org.b\", method = \"Get\" }\n\
         [[health.check]]\ntcp = \"127.0.0.1:80\"\ntimeout_seconds = 2\ninterval_seconds = 3\n\
         [[health.check]]\nunix = \"/run/x\"\nwanted = true\n\
         [[health.check]]\nhttp = \"http://127.0.0.1/h\"\nstatus = 204\n\
         [[health.check]]\nwritable = \"/var\"\n\
         [[health.check]]\nfree = \"/var\"\nmin_mib = 64\ninfrastructure = true\n\
         [[health.check]]\ndns = \"example.org\"\n\
         [[health.check]]\ncommand = [\"/bin/true\", \"x\"]",
    )
    .unwrap();
    let names: Vec<_> = found
        .checks
        .iter()
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "unit a.service",
            "bus name org.a",
            "b",
            "bus name org.b",
            "tcp 127.0.0.1:80",
            "unix /run/x",
            "http http://127.0.0.1/h",
            "writable /var",
            "free /var",
            "dns example.org",
            "command /bin/true",
        ]
    );
    let kinds: Vec<_> = found.checks.iter().map(|check| check.kind).collect();
    assert_eq!(kinds, [R, R, R, R, R, W, R, R, I, I, R]);
    assert_eq!(found.unknown, Policy::Condemn);
    assert_eq!(found.checks[2].retries, 0);
    assert_eq!(found.checks[4].timeout, Duration::from_secs(2));
    assert_eq!(found.checks[4].interval, Duration::from_secs(3));
    assert_eq!(found.checks[10].timeout, Duration::from_secs(10));
}

#[test]
fn what_is_usual_can_be_said_otherwise() {
    let dns = |more: &str| {
        let found = parse(&format!("[[health.check]]\ndns = \"a.b\"\n{more}")).unwrap();
        found.checks[0].kind
    };
    assert_eq!(dns(""), Kind::Infrastructure);
    assert_eq!(dns("infrastructure = false"), Kind::Required);
    assert_eq!(dns("wanted = true"), Kind::Wanted);
}

#[test]
fn mistakes_name_their_line() {
    for (line, words) in [
        ("", "exactly one of unit, bus_name"),
        (
            "unit = \"a.service\"\ntcp = \"127.0.0.1:1\"",
            "and this one has 2",
        ),
        ("unti = \"a.service\"", "unknown field"),
        ("unit = \"a\"", "must be a full name"),
        (
            "bus_name = \"org.a\"\ncall = { path = \"x\", interface = \"a.b\", method = \"M\" }",
            "call.path",
        ),
        (
            "tcp = \"example.org:80\"",
            "tcp = \"example.org:80\" must be an IP address",
        ),
        ("unix = \"x\"", "unix = \"x\": must be an absolute path"),
        ("http = \"https://127.0.0.1/\"", "must begin with http://"),
        (
            "http = \"http://127.0.0.1/\"\nstatus = 42",
            "status: must be",
        ),
        ("free = \"/\"", "how much must be left"),
        ("free = \"/\"\nmin_mib = 0", "how much must be left"),
        ("dns = \"a b\"", "must be a name"),
        ("command = []", "must be an absolute path"),
        ("command = \"/bin/true\"", "invalid type"),
        (
            "writable = \"/a\"\nstatus = 200",
            "status: goes with http only",
        ),
        (
            "writable = \"/a\"\nmin_mib = 2",
            "min_mib: goes with free only",
        ),
        (
            "writable = \"/a\"\ntimeout_seconds = 0",
            "timeout_seconds = 0: must be 1 to 300",
        ),
        (
            "writable = \"/a\"\ninterval_seconds = 301",
            "must be 1 to 300",
        ),
        ("writable = \"/a\"\nretries = 101", "must be 0 to 100"),
        ("writable = \"/a\"\nname = \"\"", "must be one line"),
        (
            "writable = \"/a\"\nwanted = true\ninfrastructure = true",
            "choose one",
        ),
    ] {
        let why = parse(&format!("[[health.check]]\n{line}")).unwrap_err();
        assert!(why.contains(words), "{line}: {why}");
        assert!(
            why.starts_with("line ") && !why.contains('\n'),
            "{line}: {why}"
        );
    }
}

#[test]
fn mistakes_beside_the_checks_are_found() {
    for (health, words) in [
        ("unknown = \"maybe\"", "line 4: "),
        (
            "units = [\"a.service\"]\n[[health.check]]\nunit = \"a.service\"",
            "two checks are called",
        ),
        ("deadline_seconds = 1", "health.deadline_seconds"),
        ("check = 5", "line 4: "),
    ] {
        let why = parse(health).unwrap_err();
        assert!(
            why.contains(words) && !why.contains('\n'),
            "{health}: {why}"
        );
    }
    let many = "[[health.check]]\nwritable = \"/a\"\n".repeat(MAX_CHECKS + 1);
    assert!(parse(&many).unwrap_err().contains("more than 64"));
}
