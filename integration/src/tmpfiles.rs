//! The tmpfiles.d lines of a version that systemd-tmpfiles gets to see.
//!
//! Accepted is what is gone after a reboot, whatever version runs then: things
//! strictly below `/run` and `/tmp`, which every host empties at boot. `/var/tmp`
//! and `/var` outlive a version, and `/usr/local/op-dbus` would hold copies that
//! hide the next version's own files. A line is not passed on but written anew
//! from its fields, of which only the argument may hold any text, so there is
//! nothing that this parser and systemd's (tmpfiles.d(5)) could read differently.

use std::collections::BTreeSet;

use crate::lines;
use crate::words::{is_plain_path, is_user};

/// Lines of one version, comments not counted.
pub const MAX_LINES: usize = 256;
/// Bytes of one line.
pub const MAX_LINE_BYTES: usize = 2048;

/// Where lines may create something.
const ROOTS: [&str; 2] = ["/run/", "/tmp/"];

/// Entries of `/run` in which programs of the host keep their state or look for
/// configuration: a line there could replace a unit or lock a session out.
/// Names that end in `.d`, directories of configuration, are refused as well.
const HOSTS: [&str; 24] = [
    "NetworkManager",
    "agetty.reload",
    "apparmor",
    "console-setup",
    "credentials",
    "dbus",
    "dbus-1",
    "initctl",
    "initramfs",
    "lock",
    "log",
    "lvm",
    "mount",
    "netplan",
    "network",
    "op-dbus",
    "polkit-1",
    "resolvconf",
    "sshd",
    "sudo",
    "systemd",
    "udev",
    "user",
    "utmp",
];

/// A line that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it stands: file and number.
    pub place: String,
    /// The path it creates.
    pub path: String,
    /// Whether it creates a symlink there.
    pub is_link: bool,
    /// The whole line, written anew.
    pub text: String,
}

/// Reads one file, `name` in messages; accepted lines go to `lines`.
pub fn read(name: &str, text: &str, lines: &mut Vec<Line>, notes: &mut Vec<String>) {
    lines::read((name, text), MAX_LINES, lines, notes, |place, line| {
        parse(line).map(|(path, is_link, text)| Line {
            place,
            path,
            is_link,
            text,
        })
    });
}

/// Takes out the lines that would reach through a link of another line to
/// anywhere: systemd-tmpfiles follows links that belong to root.
pub fn settle(lines: Vec<Line>, notes: &mut Vec<String>) -> Vec<Line> {
    let targets: BTreeSet<String> = lines
        .iter()
        .filter(|line| line.is_link)
        .map(|line| line.path.clone())
        .collect();
    lines
        .into_iter()
        .filter(|line| {
            let through = parents(&line.path).find(|parent| targets.contains(*parent));
            if let Some(link) = through {
                notes.push(format!("{}: refused: {link} is a link", line.place));
            }
            through.is_none()
        })
        .collect()
}

/// The directories above a path, the nearest first.
pub fn parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| {
        path.rsplit_once('/').map(|(above, _)| above)
    })
    .skip(1)
    .filter(|above| !above.is_empty())
}

fn parse(line: &str) -> Result<(String, bool, String), String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!("longer than {MAX_LINE_BYTES} bytes"));
    }
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err("it has a control character".to_owned());
    }
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        rest = after.trim_start_matches([' ', '\t']);
        if field.is_empty() { "-" } else { field }
    };
    let (kind, path, mode, user, group, age) =
        (field(), field(), field(), field(), field(), field());
    let argument = rest;
    check_kind(kind)?;
    check_path(path)?;
    check_mode(kind, mode)?;
    for name in [user, group] {
        let plain = name.strip_prefix(':').unwrap_or(name);
        if name != "-" && !is_user(plain) {
            return Err(format!("{name:?} is no plain user or group name"));
        }
    }
    if age != "-" {
        return Err(
            "the age has no effect, since the host's cleaning does not see this file; write \"-\""
                .to_owned(),
        );
    }
    let is_link = kind.starts_with('L');
    if is_link && argument.is_empty() {
        return Err("a link without a target would lead to the host's factory files".to_owned());
    }
    let text = format!("{kind} {path} {mode} {user} {group} - {argument}");
    Ok((path.to_owned(), is_link, text.trim_end().to_owned()))
}

/// Directories, files, links, FIFOs, and modes of these. Not: what copies, writes
/// to, or removes something that is there already, what makes devices or
/// subvolumes, or sets attributes.
fn check_kind(kind: &str) -> Result<(), String> {
    let (letter, modifiers) = kind.split_at_checked(1).unwrap_or((kind, ""));
    let plus = ["f", "L", "p"].contains(&letter);
    let known = modifiers
        .chars()
        .all(|c| "!-=".contains(c) || (c == '+' && plus));
    if !["d", "D", "e", "f", "L", "p", "z", "Z"].contains(&letter) || !known {
        return Err(format!(
            "type {kind:?}; a version's are d, D, e, f, L, p, z, Z, with +, !, -, ="
        ));
    }
    let mut seen = BTreeSet::new();
    if !modifiers.chars().all(|c| seen.insert(c)) {
        return Err(format!("type {kind:?} says a thing twice"));
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), String> {
    if !is_plain_path(path) {
        return Err(format!(
            "{path:?}: a version's paths are absolute and written in full, without quotes, patterns, specifiers or \"..\""
        ));
    }
    let Some(below) = ROOTS.iter().find_map(|root| path.strip_prefix(root)) else {
        return Err(format!(
            "{path} would outlive the version; only what is below /run or /tmp does not"
        ));
    };
    let top = below.split('/').next().unwrap_or(below);
    let is_hosts = HOSTS.contains(&top) || top.rsplit_once('.').is_some_and(|(_, end)| end == "d");
    if path.starts_with("/run/") && is_hosts {
        return Err(format!("/run/{top} is the host's"));
    }
    Ok(())
}

fn check_mode(kind: &str, mode: &str) -> Result<(), String> {
    if mode == "-" {
        return Ok(());
    }
    let digits = mode.trim_start_matches(['~', ':']);
    let bits = Some(digits)
        .filter(|digits| digits.len() <= 4 && digits.chars().all(|c| c.is_ascii_digit()))
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
        .ok_or_else(|| format!("{mode:?} is no mode"))?;
    let is_directory = kind.starts_with(['d', 'D', 'e']);
    let forbidden = if is_directory { 0o4000 } else { 0o6000 };
    if bits & forbidden != 0 {
        return Err(format!("mode {mode}: no setuid or setgid programs"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(text: &str) -> (Vec<String>, Vec<String>) {
        let (mut lines, mut notes) = (Vec::new(), Vec::new());
        read("x.conf", text, &mut lines, &mut notes);
        let lines = settle(lines, &mut notes);
        (lines.into_iter().map(|line| line.text).collect(), notes)
    }

    #[test]
    fn plain_lines_pass() {
        let (lines, notes) = filter(
            "# comment\n\n d  /run/demo\t0750 demo demo\nf+ /run/demo/a 0644 - - - one  two %m\n\
             L /run/demo/now - - - - /opt/op-dbus/share\nd /tmp/demo 2770 :root ~x\nD! /run/x :0755\n",
        );
        assert_eq!(
            lines,
            [
                "d /run/demo 0750 demo demo -",
                "f+ /run/demo/a 0644 - - - one  two %m",
                "L /run/demo/now - - - - /opt/op-dbus/share",
                "D! /run/x :0755 - - -",
            ]
        );
        assert_eq!(
            notes,
            ["x.conf:6: refused: \"~x\" is no plain user or group name"]
        );
    }

    #[test]
    fn what_would_stay_or_hurt_is_refused() {
        for line in [
            "d /var/lib/demo",
            "d /var/tmp/demo",
            "d /usr/local/op-dbus/var",
            "d /etc/demo",
            "d /run",
            "d /run/",
            "d /tmp",
            "d /runner/x",
            "d /run/../etc/x",
            "d \"/run/x y\"",
            "d /run/\\x2e\\x2e/etc",
            "d %t/demo",
            "d /run/*/x",
            "L /run/systemd/system/ssh.service - - - - /dev/null",
            "f /run/sysctl.d/x.conf",
            "d /run/op-dbus/store",
            "r /run/demo",
            "R /run/demo",
            "w /run/demo/x - - - - 1",
            "C /run/demo - - - - /etc",
            "v /tmp/demo",
            "c /run/demo - - - - 1:3",
            "a /run/demo - - - - u:x:rw",
            "f^ /run/demo - - - - x",
            "f~ /run/demo - - - - eA==",
            "d+ /run/demo",
            "f++ /run/demo",
            "f /run/demo 4755",
            "f /run/demo 2755",
            "d /run/demo 4755",
            "f /run/demo 0888",
            "f /run/demo +755",
            "d /run/demo 0755 %u",
            "d /run/demo 0755 - - 10d",
            "L /run/demo",
            "L /run/demo -",
            "d",
            "é /run/x",
            "d /run/demo\u{7f}",
        ] {
            let (lines, notes) = filter(line);
            assert!(lines.is_empty(), "{line}: {lines:?}");
            assert_eq!(notes.len(), 1, "{line}: {notes:?}");
        }
    }

    #[test]
    fn no_line_reaches_through_a_link_of_another() {
        let (lines, notes) = filter(
            "f /run/demo/a/x - - - - 1\nL /run/demo/a - - - - /etc\nd /run/demo\nd /run/demo/ab\n",
        );
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(notes, ["x.conf:1: refused: /run/demo/a is a link"]);
    }

    #[test]
    fn there_is_an_end() {
        let (lines, notes) = filter(&"d /run/demo\n".repeat(MAX_LINES + 10));
        assert_eq!((lines.len(), notes.len()), (MAX_LINES, 1));
        let (lines, notes) = filter(&format!("f /run/x - - - - {}", "x".repeat(MAX_LINE_BYTES)));
        assert_eq!((lines.len(), notes.len()), (0, 1));
    }

    proptest! {
        #[test]
        fn accepted_again_unchanged(text in "([dDeLfpzZ][+!=-]?[ \t]/(run|tmp|etc)/[a-z./]{0,9}[ \t][0-7]{4}[ a-z\"%\\\\-]{0,12}\n){0,4}") {
            let (lines, _) = filter(&text);
            let again = filter(&lines.join("\n"));
            prop_assert_eq!(again, (lines, vec![]));
        }
    }
}
