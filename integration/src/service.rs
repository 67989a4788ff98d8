//! The D-Bus activation files of a version that dbus-daemon gets to see.
//!
//! They are read here and written anew: dbus-daemon waits for ever on a FIFO
//! (seen with 1.14.10), and a file may take over a name of the host's.

use std::collections::BTreeMap;

use crate::words::{is_bus_name, is_plain_path, is_reserved_bus_name, is_user};

/// Bytes of one file.
pub const MAX_BYTES: usize = 4096;

/// The keys there are, in the order they are written.
const KEYS: [&str; 4] = ["Name", "Exec", "User", "SystemdService"];

/// Reads the file `file` and renders it anew. `is_own` knows the version's units.
pub fn filter(file: &str, text: &str, is_own: impl Fn(&str) -> bool) -> Result<String, String> {
    let found = parse(text)?;
    let get = |key: &str| found.get(key).copied();
    let name = get("Name").ok_or("it has no Name=")?;
    if !is_bus_name(name) {
        return Err(format!("{name:?} is no bus name"));
    }
    if is_reserved_bus_name(name) {
        return Err(format!("{name} is a name of the host"));
    }
    if file.strip_suffix(".service") != Some(name) {
        return Err(format!(
            "the system bus wants it to be called {name}.service"
        ));
    }
    if get("User").is_some_and(|user| !is_user(user)) {
        return Err("User= is no plain user name".to_owned());
    }
    let exec = get("Exec").ok_or("it has no Exec=; with SystemdService=, write Exec=/bin/false")?;
    if !is_plain_path(exec.split(' ').next().unwrap_or(exec)) {
        return Err("Exec= begins with no plain absolute path".to_owned());
    }
    match get("SystemdService") {
        Some(unit) if !is_own(unit) => {
            return Err(format!(
                "SystemdService={unit}: no unit that the version brings"
            ));
        }
        None if get("User").is_none() => {
            return Err("neither SystemdService= nor User= says how it is started".to_owned());
        }
        _ => {}
    }
    let lines = KEYS
        .iter()
        .filter_map(|key| Some(format!("{key}={}\n", get(key)?)));
    Ok(format!("[D-BUS Service]\n{}", lines.collect::<String>()))
}

/// One group, each key once.
fn parse(text: &str) -> Result<BTreeMap<&str, &str>, String> {
    let mut found = BTreeMap::new();
    let mut in_group = false;
    for line in text.split('\n') {
        let line = line.trim_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "[D-BUS Service]" && !in_group {
            in_group = true;
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .ok_or("a line is no key=value of [D-BUS Service]")?;
        let (key, value) = (key.trim_end(), value.trim_start());
        if !in_group || !KEYS.contains(&key) {
            return Err(format!(
                "{:?} is not taken; the keys are {}",
                key,
                KEYS.join(", ")
            ));
        }
        let plain = |c: char| c.is_ascii_graphic() || c == ' ';
        if value.is_empty() || value.contains('\\') || !value.chars().all(plain) {
            return Err(format!("{key}= is empty, or not plain text"));
        }
        if found.insert(key, value).is_some() {
            return Err(format!("{key}= is there twice"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(text: &str) -> Result<String, String> {
        filter("org.opdbus.Demo.service", text, |unit| {
            unit == "demo.service"
        })
    }

    const PLAIN: &str = "\
[D-BUS Service]
Name=org.opdbus.Demo
Exec=/bin/false
User=root
SystemdService=demo.service
";

    #[test]
    fn plain_files_pass() {
        let text = format!("# comment\n\n{}", PLAIN.replace("Name=", "Name = "));
        assert_eq!(filtered(&text), Ok(PLAIN.to_owned()));
        let direct =
            "[D-BUS Service]\nName=org.opdbus.Demo\nExec=/opt/op-dbus/bin/demo --bus\nUser=demo\n";
        assert_eq!(filtered(direct), Ok(direct.to_owned()));
    }

    #[test]
    fn others_are_refused() {
        for (from, to) in [
            ("[D-BUS Service]\n", ""),
            ("[D-BUS Service]", "[Other]"),
            ("org.opdbus.Demo", "org.opdbus.Other"),
            ("org.opdbus.Demo", "not a name"),
            ("demo.service", "ssh.service"),
            ("User=root\n", "User=ro ot\n"),
            ("Exec=/bin/false", "Exec=false"),
            ("Exec=/bin/false\n", ""),
            ("Exec=/bin/false\n", "Exec=/bin/false\nExec=/bin/true\n"),
            ("Exec=/bin/false\n", "Exec=/bin/false\nX=1\n"),
            ("Exec=/bin/false\n", "Exec=/bin/false \\n\n"),
            ("User=root\nSystemdService=demo.service\n", ""),
        ] {
            let text = PLAIN.replace(from, to);
            assert!(filtered(&text).is_err(), "{text}");
        }
        let hosts = PLAIN.replace("org.opdbus.Demo", "org.freedesktop.login1");
        assert!(filter("org.freedesktop.login1.service", &hosts, |_| true).is_err());
    }
}
