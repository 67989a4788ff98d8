//! The units of the active version, from `lib/systemd/system` in its tree.
//!
//! They are taken from the read-only mount, not from the overlay: that is the
//! deployment whose identity was checked, and an edit made over an older version
//! would stay in front of the new one's unit. Administrators change a version's
//! unit as any other, by drop-ins or a unit of that name in /etc.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Units of one version that are published.
pub const MAX_UNITS: usize = 64;
/// Bytes of one unit.
pub const MAX_UNIT_BYTES: u64 = 64 * 1024;
/// Bytes of a unit's name, as systemd has it (`UNIT_NAME_MAX`).
const MAX_NAME: usize = 255;
/// Directory entries looked at, so that a huge directory takes no time.
const MAX_ENTRIES: usize = 1024;

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

/// Reads the units below the mount `lower` (absolute, in the host at `root`),
/// sorted by name. What is skipped is noted.
pub fn read(root: &Path, lower: &Path, notes: &mut Vec<String>) -> Vec<VersionUnit> {
    let mut directory = root.join(lower.strip_prefix("/").unwrap_or(lower));
    for part in ["lib", "systemd", "system"] {
        directory.push(part);
        // Not following links keeps this inside the version's tree.
        match directory.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                notes.push(format!(
                    "{}: not a directory, so the version's units are not published; ship a real directory",
                    directory.display()
                ));
                return Vec::new();
            }
            Err(error) => {
                notes.push(format!(
                    "{}: {error}; the version brings no units",
                    directory.display()
                ));
                return Vec::new();
            }
        }
    }
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) => {
            notes.push(format!("list {}: {error}", directory.display()));
            return Vec::new();
        }
    };
    let mut names: Vec<_> = entries
        .take(MAX_ENTRIES)
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
        .collect();
    names.sort();
    let mut units = Vec::new();
    for name in &names {
        let published = check_name(name)
            .and_then(|name| refuse_vendor(root, name))
            .and_then(|name| load(&directory, name));
        match published {
            Ok(_) if units.len() == MAX_UNITS => {
                notes.push(format!(
                    "{}: more than {MAX_UNITS} units; those from {} on are not published",
                    directory.display(),
                    name.to_string_lossy()
                ));
                break;
            }
            Ok(unit) => units.push(unit),
            Err(reason) => notes.push(format!(
                "{}: not published: {reason}",
                directory.join(name).display()
            )),
        }
    }
    units
}

/// A plain unit name: systemd's characters, a kind a version may bring.
fn check_name(name: &OsStr) -> Result<&str, String> {
    let name = name.to_str().ok_or("its name is not UTF-8")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.len() > MAX_NAME || name.starts_with(['.', '-', '@']) || !name.chars().all(plain) {
        return Err("its name is not a unit name".to_owned());
    }
    match name.rsplit_once('.') {
        Some((_, suffix)) if SUFFIXES.contains(&suffix) => Ok(name),
        _ => Err(format!("a version brings only .{}", SUFFIXES.join(", ."))),
    }
}

fn refuse_vendor<'a>(root: &Path, name: &'a str) -> Result<&'a str, String> {
    for directory in VENDOR_DIRECTORIES {
        let vendor = root.join(directory).join(name);
        if vendor.symlink_metadata().is_ok() {
            return Err(format!(
                "/{directory}/{name} is the host's; rename the version's unit"
            ));
        }
    }
    Ok(name)
}

fn load(directory: &Path, name: &str) -> Result<VersionUnit, String> {
    let path = directory.join(name);
    let metadata = path.symlink_metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    let file = fs::File::open(&path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let read = file
        .take(MAX_UNIT_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if u64::try_from(read).map_or(true, |read| read > MAX_UNIT_BYTES) {
        return Err(format!("larger than {MAX_UNIT_BYTES} bytes"));
    }
    Ok(VersionUnit {
        name: name.to_owned(),
        text,
    })
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
            "",
        ] {
            assert!(check_name(OsStr::new(name)).is_err(), "{name:?}");
        }
        let long = format!("{}.service", "x".repeat(MAX_NAME));
        assert!(check_name(OsStr::new(&long)).is_err());
        for name in ["op-dbus-demo.service", "a@b.socket", r"a\x2db.timer"] {
            assert!(check_name(OsStr::new(name)).is_ok(), "{name:?}");
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
    fn large_units_and_too_many_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("opt/op-dbus/lib/systemd/system");
        fs::create_dir_all(&directory).unwrap();
        for number in 0..=MAX_UNITS {
            fs::write(directory.join(format!("u{number:03}.service")), "[Unit]\n").unwrap();
        }
        let size = usize::try_from(MAX_UNIT_BYTES).unwrap();
        fs::write(directory.join("a-fits.service"), "x".repeat(size)).unwrap();
        fs::write(directory.join("a-large.service"), "x".repeat(size + 1)).unwrap();
        let mut notes = Vec::new();
        let units = read(root.path(), Path::new("/opt/op-dbus"), &mut notes);
        assert_eq!(units.len(), MAX_UNITS);
        assert_eq!(units[0].name, "a-fits.service");
        assert_eq!(notes.len(), 2, "{notes:?}");
    }
}
