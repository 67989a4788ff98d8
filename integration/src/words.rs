//! What names may look like. Narrower than what the programs accept that get to
//! see them, so that no two parsers can read a name differently.

/// A user or group name, as systemd's strict mode has it.
pub fn is_user(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    // 31 bytes: what utmp has room for, systemd's limit.
    name.len() <= 31 && name.starts_with(first) && name.chars().all(rest)
}

/// A well-known bus name: at least two elements, none beginning with a digit.
pub fn is_bus_name(name: &str) -> bool {
    let element = |part: &str| {
        !part.is_empty()
            && !part.starts_with(|c: char| c.is_ascii_digit())
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    name.len() <= 255 && name.contains('.') && name.split('.').all(element)
}

/// Whether a bus name belongs to the bus, to systemd or to another of the host's
/// foundations, which no version takes over or locks away.
pub fn is_reserved_bus_name(name: &str) -> bool {
    const FOUNDATIONS: &str = "org.freedesktop";
    name == FOUNDATIONS
        || name
            .strip_prefix(FOUNDATIONS)
            .is_some_and(|rest| rest.starts_with('.'))
}

/// An absolute path of plain characters and components, not the root itself.
pub fn is_plain_path(path: &str) -> bool {
    const MARKS: &str = "/._-+@=,:";
    let plain = |c: char| c.is_ascii_alphanumeric() || MARKS.contains(c);
    // PATH_MAX, with the terminator.
    path.len() < 4096
        && path.chars().all(plain)
        && path.strip_prefix('/').is_some_and(|below| {
            below
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        for name in ["demo", "_demo", "op-dbus", "a1"] {
            assert!(is_user(name), "{name}");
        }
        let long = "a".repeat(32);
        for name in [
            "",
            "1a",
            "-a",
            "a.b",
            "a b",
            "%u",
            "ä",
            "a:b",
            long.as_str(),
        ] {
            assert!(!is_user(name), "{name:?}");
        }
    }

    #[test]
    fn bus_names() {
        for name in ["org.opdbus.Demo", "a.b", "a._1-b"] {
            assert!(is_bus_name(name), "{name}");
        }
        for name in ["", "a", "*", "a.", ".a", "a..b", "a.1b", ":1.2", "a.b c"] {
            assert!(!is_bus_name(name), "{name:?}");
        }
        assert!(is_reserved_bus_name("org.freedesktop.systemd1"));
        assert!(is_reserved_bus_name("org.freedesktop"));
        assert!(!is_reserved_bus_name("org.freedesktopper.X"));
    }

    #[test]
    fn paths() {
        for path in ["/run/a", "/run/a-b/c.d@1"] {
            assert!(is_plain_path(path), "{path}");
        }
        for path in [
            "",
            "/",
            "run",
            "/run/",
            "//run",
            "/run/../etc",
            "/run/./a",
            "/run/*",
            "/run/%t",
            "/a b",
        ] {
            assert!(!is_plain_path(path), "{path:?}");
        }
    }
}
