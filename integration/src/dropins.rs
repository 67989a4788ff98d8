//! Drop-ins of a version, `lib/systemd/system/<unit>.d/*.conf`, for its own units.
//!
//! Never for the host's: a version that changes how the SSH daemon runs could
//! lock the operator out, and `service.d` would change every service there is.
//! An administrator's drop-in of the same name in /etc takes the place of one
//! here, as with any other unit.

use crate::tree::{Directory, shown};
use crate::units::{MAX_UNIT_BYTES, Units};

/// Drop-ins of one version.
pub const MAX_DROP_INS: usize = 64;

/// A drop-in to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropIn {
    /// The unit it is for; may be an instance of a template of the version.
    pub unit: String,
    /// File name.
    pub name: String,
    /// Its text, unchanged.
    pub text: String,
}

/// Reads the drop-in directories `names` beside the units `own`.
pub(crate) fn read(
    directory: &Directory,
    names: &[Vec<u8>],
    own: &Units,
    notes: &mut Vec<String>,
) -> Vec<DropIn> {
    let mut found = Vec::new();
    for name in names {
        let opened = unit_of(name, own).and_then(|unit| {
            let opened = directory.subdirectory(&format!("{unit}.d"));
            Ok((unit, opened.map_err(|why| why.to_string())?))
        });
        let (unit, drop_ins) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                notes.push(format!(
                    "{}: not published: {why}",
                    directory.shown_in(name)
                ));
                continue;
            }
        };
        for name in drop_ins.names(notes) {
            if found.len() == MAX_DROP_INS {
                notes.push(format!(
                    "{}: more than {MAX_DROP_INS} drop-ins; those from here on are not published",
                    drop_ins.shown_in(&name)
                ));
                return found;
            }
            let text = check_name(&name).and_then(|name| {
                let text = drop_ins.text(name, MAX_UNIT_BYTES)?;
                Ok((name.to_owned(), text))
            });
            match text {
                Ok((name, text)) => found.push(DropIn {
                    unit: unit.to_owned(),
                    name,
                    text,
                }),
                Err(why) => {
                    notes.push(format!(
                        "{}: not published: {why}",
                        drop_ins.shown_in(&name)
                    ));
                }
            }
        }
    }
    found
}

/// The unit of the version that a directory is for.
fn unit_of<'a>(name: &'a [u8], own: &Units) -> Result<&'a str, String> {
    let unit = std::str::from_utf8(name)
        .ok()
        .and_then(|name| name.strip_suffix(".d"));
    match unit {
        Some(unit) if own.has(unit) => Ok(unit),
        _ => Err(format!(
            "{} is no unit that the version brings, and drop-ins are for its own only",
            shown(name.strip_suffix(b".d").unwrap_or(name))
        )),
    }
}

fn check_name(name: &[u8]) -> Result<&str, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.@+".contains(c);
    std::str::from_utf8(name)
        .ok()
        .filter(|name| {
            name.strip_suffix(".conf").is_some()
                && !name.starts_with('.')
                && name.chars().all(plain)
        })
        .ok_or_else(|| "a drop-in is called <name>.conf, in plain characters".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn read(files: &[&str]) -> (Vec<String>, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        let units = root.path().join("opt/op-dbus/lib/systemd/system");
        for file in files {
            let file = units.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "[Unit]\n").unwrap();
        }
        let mut notes = Vec::new();
        let found = crate::units::read(root.path(), Path::new("/opt/op-dbus"), &mut notes);
        let names = found
            .drop_ins
            .iter()
            .map(|found| format!("{}.d/{}", found.unit, found.name));
        (names.collect(), notes)
    }

    #[test]
    fn only_the_versions_own_units_have_drop_ins() {
        let (found, notes) = read(&[
            "demo.service",
            "demo.service.d/50-a.conf",
            "each@.service",
            "each@.service.d/a.conf",
            "each@1.service.d/a.conf",
        ]);
        let expected = [
            "demo.service.d/50-a.conf",
            "each@.service.d/a.conf",
            "each@1.service.d/a.conf",
        ];
        assert_eq!(found, expected);
        assert_eq!(notes, [""; 0]);
        for foreign in [
            "ssh.service.d",
            "service.d",
            "demo-.service.d",
            "getty@tty1.service.d",
            ".d",
            "a\nb.d",
        ] {
            let (found, notes) = read(&["demo.service", &format!("{foreign}/a.conf")]);
            assert_eq!(found, [""; 0], "{foreign}");
            assert_eq!(notes.len(), 1, "{notes:?}");
            assert!(notes[0].contains("for its own only"), "{notes:?}");
        }
    }

    #[test]
    fn names_and_numbers_are_bounded() {
        for name in [
            "x",
            ".conf",
            "a b.conf",
            "a\n.conf",
            "a.conf~",
            "sub/x.conf",
        ] {
            let (found, notes) = read(&["a.service", &format!("a.service.d/{name}")]);
            assert_eq!((found.len(), notes.len()), (0, 1), "{name:?}: {notes:?}");
        }
        let many: Vec<_> = (0..=MAX_DROP_INS)
            .map(|n| format!("a.service.d/{n:03}.conf"))
            .collect();
        let mut files: Vec<_> = many.iter().map(String::as_str).collect();
        files.push("a.service");
        let (found, notes) = read(&files);
        assert_eq!((found.len(), notes.len()), (MAX_DROP_INS, 1), "{notes:?}");
    }
}
