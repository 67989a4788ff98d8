//! Takes up what the active version brings beside units: checked, written anew
//! below `/run/op-dbus/import`, where the host's programs look for it.
//!
//! ```text
//! /run/op-dbus/import/sysusers.conf              for op-dbus-sysusers.service
//! /run/op-dbus/import/tmpfiles.conf              for op-dbus-tmpfiles.service
//! /run/op-dbus/import/dbus-1/system.d            included by dbus-daemon
//! /run/op-dbus/import/dbus-1/system-services     likewise
//! ```
//!
//! All of it is gone with the boot, so what another version brought is never
//! there. Within a boot it is replaced in one step.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use op_dbus_activator::files::{self, Durable};
use op_dbus_activator::layout::Layout;
use rustix::fs::{CWD, RenameFlags, StatVfsMountFlags};

use crate::policy::{self, Policy};
use crate::report::Report;
use crate::tree::{Directory, Error as TreeError};
use crate::units::{self, Units};
use crate::{service, sysusers, tmpfiles};

/// Files of one kind that are looked at.
const MAX_FILES: usize = 32;
/// Bytes of one file of lines.
const MAX_LINES_BYTES: usize = 64 * 1024;

/// Bytes read of the host's `passwd` and `group`.
const MAX_ACCOUNTS: usize = 1024 * 1024;

/// Where the host's packages keep activation files, in dbus-daemon's order.
const HOST_SERVICES: [&str; 3] = [
    "/usr/local/share/dbus-1/system-services",
    "/usr/share/dbus-1/system-services",
    "/lib/dbus-1/system-services",
];

/// The import could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}; is /run full?", path.display())]
pub struct Error {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// A file to be written below the import's directory.
type Output = (String, String);

/// Imports from the version mounted at `lower`. Returns the report, and as lines
/// all that is new in it: what concerns units was said by the generator.
pub fn import(
    layout: &Layout,
    lower: &Path,
    version: &str,
) -> Result<(Report, Vec<String>), Error> {
    let (mut unit_notes, mut notes) = (Vec::new(), Vec::new());
    let units = units::read(&layout.sysroot, lower, &mut unit_notes);
    let source = Source {
        layout,
        tree: layout.host(lower),
        units,
    };
    let mut report = Report {
        version: version.to_owned(),
        ..Report::default()
    };
    let outputs = source.gather(&mut report, &mut notes);
    put(layout, &outputs)?;
    let report = report.refusing(notes.iter().chain(&unit_notes).cloned().collect());
    report
        .write(layout)
        .map_err(fail("write", &Report::path(layout)))?;
    Ok((report, notes))
}

/// What an import from a version would say, and the units it brings, before it is
/// mounted anywhere: `tree` is where this process sees it. Writes nothing.
pub fn inspect(layout: &Layout, tree: &Path, version: &str) -> (Report, Units) {
    let mut notes = Vec::new();
    let units = units::read_tree(&layout.sysroot, tree, &mut notes);
    let source = Source {
        layout,
        tree: tree.to_owned(),
        units,
    };
    let mut report = Report {
        version: version.to_owned(),
        ..Report::default()
    };
    source.gather(&mut report, &mut notes);
    (report.refusing(notes), source.units)
}

/// Takes away what an import of this boot left, for a boot that runs no version.
pub fn clear(layout: &Layout) -> Result<(), Error> {
    for path in [directory(layout), unfinished(layout)] {
        remove(&path)?;
    }
    let path = Report::path(layout);
    match fs::remove_file(&path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(fail("remove", &path)(why)),
        _ => Ok(()),
    }
}

/// What is read from.
struct Source<'a> {
    layout: &'a Layout,
    tree: PathBuf,
    units: Units,
}

impl Source<'_> {
    fn gather(&self, report: &mut Report, notes: &mut Vec<String>) -> Vec<Output> {
        let mut outputs = Vec::new();

        let mut lines = Vec::new();
        for (place, text) in self.files("lib/sysusers.d", ".conf", MAX_LINES_BYTES, notes) {
            sysusers::read(&place, &text, &mut lines, notes);
        }
        let text = sysusers::settle(&lines, notes);
        self.note_missing(&lines, notes);
        report.sysusers = text.lines().count();
        outputs.push(("sysusers.conf".to_owned(), text));

        let mut lines = Vec::new();
        for (place, text) in self.files("lib/tmpfiles.d", ".conf", MAX_LINES_BYTES, notes) {
            tmpfiles::read(&place, &text, &mut lines, notes);
        }
        let mut lines = tmpfiles::settle(lines, notes);
        lines.retain(|line| self.stays_in_place(line, notes));
        report.tmpfiles = lines.len();
        let text = lines
            .iter()
            .flat_map(|line| [line.text.as_str(), "\n"])
            .collect();
        outputs.push(("tmpfiles.conf".to_owned(), text));

        for (place, text) in self.files("share/dbus-1/system.d", ".conf", policy::MAX_BYTES, notes)
        {
            match Policy::parse(&text) {
                Ok(policy) => {
                    report.policies += 1;
                    outputs.push((format!("dbus-1/system.d/{}", last(&place)), policy.render()));
                }
                Err(why) => notes.push(format!("{place}: refused: {why}")),
            }
        }
        let found = self.files(
            "share/dbus-1/system-services",
            ".service",
            service::MAX_BYTES,
            notes,
        );
        for (place, text) in found {
            let name = last(&place);
            let filtered = self
                .refuse_host_service(name)
                .and_then(|()| service::filter(name, &text, |unit| self.units.has(unit)));
            match filtered {
                Ok(text) => {
                    report.services += 1;
                    outputs.push((format!("dbus-1/system-services/{name}"), text));
                }
                Err(why) => notes.push(format!("{place}: refused: {why}")),
            }
        }
        outputs
    }

    /// On a read-only root nobody can be added: op-dbus-sysusers.service does
    /// nothing there.
    fn note_missing(&self, lines: &[sysusers::Line], notes: &mut Vec<String>) {
        let etc = self.layout.host("/etc");
        let is_read_only = rustix::fs::statvfs(&etc)
            .is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
        if !is_read_only {
            return;
        }
        let text = |name: &str| files::read_text(&etc.join(name), MAX_ACCOUNTS).unwrap_or_default();
        let (passwd, group) = (text("passwd"), text("group"));
        for name in sysusers::missing(lines, &passwd, &group) {
            notes.push(format!(
                "{name}: refused: /etc is read-only, so this account can't be made; have it in the host's image"
            ));
        }
    }

    /// The texts of the files in `below` that end in `suffix`, with their paths.
    fn files(
        &self,
        below: &str,
        suffix: &str,
        max: usize,
        notes: &mut Vec<String>,
    ) -> Vec<(String, String)> {
        let directory = match Directory::open(&self.tree, below) {
            Ok(directory) => directory,
            Err(TreeError::Missing(_)) => return Vec::new(),
            Err(why) => {
                notes.push(format!("{why}; nothing in it is taken up"));
                return Vec::new();
            }
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
        let mut found = Vec::new();
        for name in directory.names(notes) {
            let place = directory.shown_in(&name);
            if found.len() == MAX_FILES {
                notes.push(format!("{place}: refused: more than {MAX_FILES} files; those from here on are not looked at"));
                break;
            }
            let text = std::str::from_utf8(&name)
                .ok()
                .filter(|name| name.ends_with(suffix) && !name.starts_with('.'))
                .filter(|name| name.chars().all(plain))
                .ok_or_else(|| format!("files here are called <name>{suffix}, in plain characters"))
                .and_then(|name| directory.text(name, max));
            match text {
                Ok(text) => found.push((place, text)),
                Err(why) => notes.push(format!("{place}: refused: {why}")),
            }
        }
        found
    }

    /// Whether no link of the host leads a line to elsewhere.
    fn stays_in_place(&self, line: &tmpfiles::Line, notes: &mut Vec<String>) -> bool {
        let through = tmpfiles::parents(&line.path).find(|parent| {
            let there = match parent.strip_prefix("/run") {
                Some(below) => self.layout.run.join(below.trim_start_matches('/')),
                None => self.layout.host(parent),
            };
            there
                .symlink_metadata()
                .is_ok_and(|found| found.is_symlink())
        });
        if let Some(link) = through {
            notes.push(format!(
                "{}: refused: {link} is a link of the host",
                line.place
            ));
        }
        through.is_none()
    }

    fn refuse_host_service(&self, name: &str) -> Result<(), String> {
        for directory in HOST_SERVICES {
            if self
                .layout
                .host(directory)
                .join(name)
                .symlink_metadata()
                .is_ok()
            {
                return Err(format!("{directory}/{name} is the host's"));
            }
        }
        Ok(())
    }
}

/// The last component of a shown path.
fn last(place: &str) -> &str {
    place.rsplit_once('/').map_or(place, |(_, name)| name)
}

/// `<run>/op-dbus/import`
pub fn directory(layout: &Layout) -> PathBuf {
    layout.run_dir().join("import")
}

fn unfinished(layout: &Layout) -> PathBuf {
    layout.run_dir().join(".import.new")
}

/// Writes everything beside, then puts it in place in one step.
fn put(layout: &Layout, outputs: &[Output]) -> Result<(), Error> {
    let (place, new) = (directory(layout), unfinished(layout));
    remove(&new)?;
    for below in ["", "dbus-1", "dbus-1/system.d", "dbus-1/system-services"] {
        let path = new.join(below);
        fs::create_dir(&path).map_err(fail("make", &path))?;
        open_to_all(&path, 0o755)?;
    }
    for (name, text) in outputs {
        let path = new.join(name);
        files::replace(&path, text.as_bytes(), 0o644, Durable::No).map_err(fail("write", &path))?;
        open_to_all(&path, 0o644)?;
    }
    let flags = match place.symlink_metadata() {
        Ok(_) => RenameFlags::EXCHANGE,
        Err(_) => RenameFlags::NOREPLACE,
    };
    rustix::fs::renameat_with(CWD, &new, CWD, &place, flags)
        .map_err(|why| fail("replace", &place)(why.into()))?;
    // The one before, if any.
    remove(&new)
}

/// Not secret, and dbus-daemon reloads as a user of its own, whatever the umask
/// of who imported.
fn open_to_all(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(fail("open", path))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(fail("remove", path)(why)),
        _ => Ok(()),
    }
}

fn fail<'a>(operation: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + use<'a> {
    move |source| Error {
        operation,
        path: path.to_owned(),
        source,
    }
}
