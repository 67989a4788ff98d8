use super::*;

const UUID: &str = "7c0c1de1-2c5f-4c9b-b1a8-5a1d2f3e4b5c";

fn with(rest: &str) -> Result<Config, String> {
    Config::parse(&format!("[store]\ndevice = \"UUID={UUID}\"\n{rest}"))
}

#[track_caller]
fn refused(rest: &str, part: &str) {
    let why = with(rest).unwrap_err();
    assert!(why.contains(part), "{why:?} does not say {part:?}");
    assert!(!why.contains('\n'), "{why:?} is more than one line");
}

#[test]
fn only_the_store_is_required() {
    let config = with("").unwrap();
    assert_eq!(config.store.device, Device::Uuid(UUID.parse().unwrap()));
    assert_eq!(config.store.device.to_string(), format!("UUID={UUID}"));
    assert_eq!(config.store.subvolume, "@op-dbus");
    assert_eq!(config.store.wait(), Duration::from_secs(10));
    assert_eq!(config.activation.way, Way::Initrd);
    assert_eq!(config.limits(), Limits::default());
    assert_eq!(config.mounts.lower, Path::new("/opt/op-dbus"));
    assert_eq!(config.mounts.overlay, Path::new("/usr/local/op-dbus"));
    assert_eq!(config.health.deadline_seconds, 300);
    assert!(Config::parse("").is_err());
    assert!(Config::parse("[limits]\ntries = 3\n").is_err());
}

#[test]
fn a_full_file_is_understood() {
    let config = with(
        r#"
        subvolume = "data/@op-dbus"
        wait_seconds = 0
        [activation]
        way = "generator"
        [limits]
        tries = 2
        refunds = 0
        good_boots = 7
        [mounts]
        lower = "/opt/x"
        overlay = "/srv/x"
        [[link]]
        path = "/usr/local/bin/demo"
        target = "bin/demo"
        [overlay]
        mode = "fresh"
        shared_paths = ["var/lib/db", "var/lib/db2"]
        [lint]
        default = "keep-mine"
        [[lint.rule]]
        path = "etc/**"
        policy = "take-new"
        [prune]
        keep = 3
        [audit]
        rotate_kib = 1024
        [metrics]
        textfile = "/var/lib/x.prom"
        [health]
        units = ["demo@1.service"]
        bus_names = ["org.opdbus.Demo"]
        settle_seconds = 1
        timeout_seconds = 2
        deadline_seconds = 3
        unknown = "retry"
        [[health.check]]
        tcp = "127.0.0.1:80"
        "#,
    )
    .unwrap();
    assert_eq!(config.activation.way, Way::Generator);
    assert_eq!(config.limits().tries, 2);
    assert_eq!(config.overlay.mode, Mode::Fresh);
    assert_eq!(config.overlay.shared_paths, ["var/lib/db", "var/lib/db2"]);
    let [link] = config.links.as_slice() else {
        panic!("one link");
    };
    assert_eq!(config.link_target(link), Path::new("/srv/x/bin/demo"));
}

#[test]
fn unknown_keys_are_errors_everywhere_and_name_their_line() {
    refused("sub = 1", "line 3");
    refused("[typo]\nx = 1", "typo");
    for section in ["activation", "limits", "mounts", "overlay", "health"] {
        refused(&format!("[{section}]\ntypo = 1"), "typo");
    }
    refused("[[link]]\npath=\"/a\"\ntarget=\"b\"\ntypo=1", "typo");
}

#[test]
fn shared_paths_are_few_plain_and_apart() {
    let shared = |paths: &str| format!("[overlay]\nshared_paths = [{paths}]");
    for path in ["", "/var", "a/../b", "./a", "a//b", "a/", "a\\nb"] {
        refused(&shared(&format!("\"{path}\"")), "overlay.shared_paths");
    }
    // Four bytes each, escaped.
    refused(
        &shared(&format!("\"{}\"", "-".repeat(64))),
        "overlay.shared_paths",
    );
    refused(&shared("\"a/b\", \"a\""), "within the other");
    refused(&shared("\"a\", \"a\""), "within the other");
    refused(&shared(&"\"a\", ".repeat(9)), "more than 8");
    refused("[overlay]\nmode = \"none\"", "line 4");
}

#[test]
fn numbers_have_ranges() {
    refused(
        "wait_seconds = 61",
        "store.wait_seconds = 61: must be 0 to 60",
    );
    refused("wait_seconds = -1", "line 3");
    refused("[limits]\ntries = 0", "limits.tries");
    refused("[limits]\nrefunds = 11", "limits.refunds");
    refused("[limits]\ngood_boots = 101", "limits.good_boots");
    refused("[health]\ntimeout_seconds = 0", "health.timeout_seconds");
    refused("[health]\ndeadline_seconds = 64", "at least");
}

#[test]
fn paths_are_plain() {
    for path in [
        "opt",
        "/",
        "/opt/../etc",
        "/opt//x",
        "/opt/./x",
        "/opt/",
        "/opt/a\\nb",
    ] {
        refused(&format!("[mounts]\nlower = \"{path}\""), "mounts.lower");
    }
    refused("[mounts]\nlower = \"/opt\"\noverlay = \"/opt/x\"", "within");
    for subvolume in ["", "/@x", "../x", "a,b", "a/../b"] {
        refused(&format!("subvolume = \"{subvolume}\""), "store.subvolume");
    }
    for device in [
        "",
        "sda",
        "/etc/passwd",
        "/dev/../etc/x",
        "UUID=",
        "UUID=1234",
        "LABEL=x",
    ] {
        let text = format!("[store]\ndevice = \"{device}\"");
        assert!(Config::parse(&text).is_err(), "{device:?} was accepted");
    }
    for target in ["/bin/x", "../x", "", "a/../../b"] {
        refused(
            &format!("[[link]]\npath = \"/a\"\ntarget = \"{target}\""),
            "link.target",
        );
    }
    refused(
        "[[link]]\npath = \"/opt/op-dbus/x\"\ntarget = \"x\"",
        "within the version",
    );
    let one = "[[link]]\npath = \"/a\"\ntarget = \"b\"\n";
    refused(&format!("{one}{one}"), "twice");
}

#[test]
fn names_are_full_names() {
    for name in [
        "demo",
        "",
        "a b.service",
        "../x.service",
        ".service",
        "--x.service",
    ] {
        refused(&format!("[health]\nunits = [\"{name}\"]"), "health.units");
    }
    refused("[health]\nbus_names = [\":1.5\"]", "health.bus_names");
}

#[test]
fn files_that_are_none_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deploy.toml");
    let missing = Config::load(&path).unwrap_err();
    assert!(matches!(missing, ConfigError::Missing { .. }));
    std::fs::write(&path, vec![b'#'; MAX_LEN + 1]).unwrap();
    let large = Config::load(&path).unwrap_err();
    assert!(matches!(large, ConfigError::Unreadable { .. }));
    std::fs::write(&path, b"\xff").unwrap();
    assert!(matches!(
        Config::load(&path),
        Err(ConfigError::Unreadable { .. })
    ));
    std::fs::write(&path, "[store\n").unwrap();
    let invalid = Config::load(&path).unwrap_err().to_string();
    assert!(invalid.contains("deploy.toml: line 1: "), "{invalid}");
    assert!(!invalid.contains('\n'), "{invalid}");
}

#[test]
fn a_boot_takes_what_it_needs_where_that_is_beyond_doubt() {
    let good = format!("[store]\ndevice = \"UUID={UUID}\"\n");
    for mistake in [
        "typo = 1\n",
        "wait_seconds = 99\n",
        "[limits]\ntries = 0\n",
        "[health]\nunits = 7\n",
        "[health]\nunits = [\"x\"\n",
        "[mounts]\nlower = \"/opt/x\"\ntypo = 1\n",
    ] {
        let text = format!("{good}{mistake}");
        assert!(Config::parse(&text).is_err(), "{mistake:?} was accepted");
        let config = salvage::salvage(&text).expect(mistake);
        assert_eq!(config.store.device, Device::Uuid(UUID.parse().unwrap()));
        let lower = if mistake.contains("/opt/x") {
            "/opt/x"
        } else {
            "/opt/op-dbus"
        };
        assert_eq!(config.mounts.lower, Path::new(lower));
    }
    for doubt in [
        String::new(),
        "[store]\n".to_owned(),
        "[store]\ndevice = 5\n".to_owned(),
        "[store]\ndevice = \"sda\"\n".to_owned(),
        format!("{good}subvolume = 5\n"),
        format!("{good}subvolume = \"../x\"\n"),
        format!("{good}[mounts]\nlower = \"opt\"\n"),
        format!("{good}[mounts]\nlower = []\n"),
        good.replace('"', ""),
    ] {
        assert_eq!(salvage::salvage(&doubt), None, "{doubt:?}");
    }
}

#[test]
fn what_only_receive_needs_is_its_own_affair() {
    let good = format!("[store]\ndevice = \"UUID={UUID}\"\n");
    for section in ["[receive]\n", "[receive]\nproduct = 5\n[receive.x]\n"] {
        let text = format!("{good}{section}");
        assert_eq!(Config::parse(&text), Config::parse(&good), "{section:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_configuration_or_a_one_line_error(text in "(\\PC|\n|[a-z]+ = |\\[[a-z]+\\]\n){0,40}") {
        if let Err(why) = Config::parse(&text) {
            let _ = salvage::salvage(&text);
            proptest::prop_assert!(!why.is_empty() && !why.contains('\n'), "{:?}", why);
        }
    }
}
