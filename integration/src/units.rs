//! The units of the active version, from `lib/systemd/system` in its tree.
//!
//! They are taken from the read-only mount, not from the overlay: that is the
//! deployment whose identity was checked, and an edit made over an older version
//! would stay in front of the new one's unit. Administrators change a version's
//! unit as any other, by drop-ins or a unit of that name in /etc.

use std::path::Path;

use crate::dropins::{self, DropIn};
use crate::tree::{Directory, Error, shown};

/// Units of one version that are published.
pub const MAX_UNITS: usize = 64;
/// Bytes of one unit.
pub const MAX_UNIT_BYTES: usize = 64 * 1024;
/// Bytes of a unit's name, as systemd has it (`UNIT_NAME_MAX`).
const MAX_NAME: usize = 255;
/// Where units are in a version's tree.
pub const DIRECTORY: &str = "lib/systemd/system";

/// What a version may bring. No mounts, swaps or devices: those are the host's.
const SUFFIXES: [&str; 5] = ["service", "socket", "timer", "path", "target"];

/// Where the host's packages keep their units. A version never takes the place
/// of one of these: replacing the SSH daemon's unit, say, could lock the
/// operator out. Units in /etc need no check, systemd prefers them anyway.
const VENDOR_DIRECTORIES: [&str; 3] = [
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "usr/local/lib/systemd/system",
];

/// A unit to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionUnit {
    /// File name, checked to be a plain unit name.
    pub name: String,
    /// The unit file's text, unchanged.
    pub text: String,
}

/// The units of a version, and the drop-ins for them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Units {
    /// Sorted by name.
    pub units: Vec<VersionUnit>,
    /// Sorted by unit, then by name.
    pub drop_ins: Vec<DropIn>,
}

impl Units {
    /// Whether the version brings this unit, or the template it is of.
    pub fn has(&self, name: &str) -> bool {
        let template = template_of(name);
        let mut names = self.units.iter().map(|unit| unit.name.as_str());
        names.any(|own| own == name || template.as_deref() == Some(own))
    }
}

/// Reads the units below the mount `lower` (absolute, in the host at `root`).
/// What is skipped is noted.
pub fn read(root: &Path, lower: &Path, notes: &mut Vec<String>) -> Units {
    let tree = root.join(lower.strip_prefix("/").unwrap_or(lower));
    read_tree(root, &tree, notes)
}

/// Likewise of a version that is mounted nowhere yet: its tree as this process
/// sees it, and the host it is for.
pub fn read_tree(root: &Path, tree: &Path, notes: &mut Vec<String>) -> Units {
    let directory = match Directory::open(tree, DIRECTORY) {
        Ok(directory) => directory,
        Err(error @ Error::Missing(_)) => {
            notes.push(format!("{error}; the version brings no units"));
            return Units::default();
        }
        Err(error) => {
            notes.push(format!("{error}; the version's units are not published"));
            return Units::default();
        }
    };
    let (drop_ins, names): (Vec<_>, Vec<_>) = directory
        .names(notes)
        .into_iter()
        .partition(|name| name.ends_with(b".d") && directory.is_directory(name));
    let mut units = Vec::new();
    for name in &names {
        let published = check_kind(&directory, name)
            .and_then(check_name)
            .and_then(|name| refuse_vendor(root, name))
            .and_then(|name| load(&directory, name));
        match published {
            Ok(_) if units.len() == MAX_UNITS => {
                notes.push(format!(
                    "{}: more than {MAX_UNITS} units; those from {} on are not published",
                    directory.shown(),
                    shown(name)
                ));
                break;
            }
            Ok(unit) => units.push(unit),
            Err(reason) => notes.push(format!(
                "{}: not published: {reason}",
                directory.shown_in(name)
            )),
        }
    }
    let mut found = Units {
        units,
        drop_ins: Vec::new(),
    };
    found.drop_ins = dropins::read(&directory, &drop_ins, &found, notes);
    found
}

/// What is no file at all gets its own words.
fn check_kind<'a>(directory: &Directory, name: &'a [u8]) -> Result<&'a [u8], String> {
    if directory.is_directory(name) {
        return Err("a directory; op-dbus.target wants all units of the version, and others want none of them".to_owned());
    }
    Ok(name)
}

/// The template that an instance is made from.
fn template_of(name: &str) -> Option<String> {
    let (stem, suffix) = name.rsplit_once('.')?;
    let (template, instance) = stem.split_once('@')?;
    (!instance.is_empty()).then(|| format!("{template}@.{suffix}"))
}

/// A plain unit name: systemd's characters, a kind a version may bring.
fn check_name(name: &[u8]) -> Result<&str, String> {
    let name = std::str::from_utf8(name).map_err(|_| "its name is not UTF-8")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.len() > MAX_NAME || name.starts_with(['.', '-', '@']) || !name.chars().all(plain) {
        return Err("its name is not a unit name".to_owned());
    }
    match name.rsplit_once('.') {
        // What lies in a-.service.d counts for every unit that begins with a-.
        Some((stem, _)) if stem.ends_with('-') => {
            Err("its name ends in a dash, which means many units".to_owned())
        }
        Some((_, suffix)) if SUFFIXES.contains(&suffix) => Ok(name),
        _ => Err(format!("a version brings only .{}", SUFFIXES.join(", ."))),
    }
}

/// An instance takes the place of the host's template as well.
fn refuse_vendor<'a>(root: &Path, name: &'a str) -> Result<&'a str, String> {
    let template = template_of(name);
    for directory in VENDOR_DIRECTORIES {
        for name in [Some(name), template.as_deref()].into_iter().flatten() {
            let vendor = root.join(directory).join(name);
            if vendor.symlink_metadata().is_ok() {
                return Err(format!(
                    "/{directory}/{name} is the host's; rename the version's unit"
                ));
            }
        }
    }
    Ok(name)
}

fn load(directory: &Directory, name: &str) -> Result<VersionUnit, String> {
    let text = directory.text(name, MAX_UNIT_BYTES)?;
    let name = name.to_owned();
    Ok(VersionUnit { name, text })
}

/// Whether op-dbus.target wants the unit by itself. Templates have no instance to
/// start, and what a socket, timer or path of the same name starts is left to it.
pub fn is_wanted(unit: &VersionUnit, all: &[VersionUnit]) -> bool {
    let Some((stem, suffix)) = unit.name.rsplit_once('.') else {
        return false;
    };
    let has_starter = || {
        ["socket", "timer", "path"].iter().any(|kind| {
            all.iter()
                .any(|other| other.name.strip_prefix(stem) == Some(&format!(".{kind}")))
        })
    };
    let is_template = stem.ends_with('@');
    !is_template && (suffix != "service" || !has_starter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn unit(name: &str) -> VersionUnit {
        VersionUnit {
            name: name.to_owned(),
            text: String::new(),
        }
    }

    #[test]
    fn names_that_are_no_unit_names_are_refused() {
        for name in [
            "a/b.service",
            "..",
            ".hidden.service",
            "-f.service",
            "@.service",
            "a b.service",
            "a\n.service",
            "x.mount",
            "service",
            "a-.service",
            "",
        ] {
            assert!(check_name(name.as_bytes()).is_err(), "{name:?}");
        }
        let long = format!("{}.service", "x".repeat(MAX_NAME));
        assert!(check_name(long.as_bytes()).is_err());
        for name in ["op-dbus-demo.service", "a@b.socket", r"a\x2db.timer"] {
            assert!(check_name(name.as_bytes()).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_starter_starts_its_service() {
        let all = [
            unit("a.service"),
            unit("a.socket"),
            unit("ab.service"),
            unit("t@.service"),
            unit("t@1.service"),
        ];
        let wanted: Vec<_> = all
            .iter()
            .filter(|unit| is_wanted(unit, &all))
            .map(|unit| unit.name.as_str())
            .collect();
        assert_eq!(wanted, ["a.socket", "ab.service", "t@1.service"]);
    }

    #[test]
    fn an_instance_of_the_hosts_template_is_the_hosts() {
        let root = tempfile::tempdir().unwrap();
        let vendor = root.path().join("lib/systemd/system");
        fs::create_dir_all(&vendor).unwrap();
        fs::write(vendor.join("getty@.service"), "").unwrap();
        let refused = |name| refuse_vendor(root.path(), name).is_err();
        assert!(refused("getty@.service") && refused("getty@tty1.service"));
        assert!(!refused("getty.service") && !refused("demo@tty1.service"));
    }

    #[test]
    fn large_units_and_too_many_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("opt/op-dbus/lib/systemd/system");
        fs::create_dir_all(&directory).unwrap();
        for number in 0..=MAX_UNITS {
            fs::write(directory.join(format!("u{number:03}.service")), "[Unit]\n").unwrap();
        }
        let size = MAX_UNIT_BYTES;
        fs::write(directory.join("a-fits.service"), "x".repeat(size)).unwrap();
        fs::write(directory.join("a-large.service"), "x".repeat(size + 1)).unwrap();
        let mut notes = Vec::new();
        let units = read(root.path(), Path::new("/opt/op-dbus"), &mut notes).units;
        assert_eq!(units.len(), MAX_UNITS);
        assert_eq!(units[0].name, "a-fits.service");
        assert_eq!(notes.len(), 2, "{notes:?}");
    }
}
