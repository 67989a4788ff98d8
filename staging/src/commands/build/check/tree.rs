//! Whether golden holds what a version needs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use op_dbus_activator::files;
use op_dbus_bootstate::Uuid;
use op_dbus_release::tree;

use super::scan::{self, Scan};
use super::units;
use crate::commands::build::epoch;
use crate::commands::build::size;
use crate::findings::Findings;

/// Where a version's units are, from the root of its tree.
const UNITS: &str = "lib/systemd/system";
/// Where its programs are.
const PROGRAMS: &str = "bin";
/// Where a device shows a version.
const MOUNTS: [&str; 2] = ["/usr/local/op-dbus", "/opt/op-dbus"];
/// What a unit's name ends in.
const UNIT_SUFFIXES: [&str; 6] = [
    ".service", ".socket", ".timer", ".path", ".target", ".mount",
];
/// Longest unit file that is read, in bytes.
const UNIT_MAX: usize = 1 << 20;
/// Links that are followed one after the other.
const LINKS_MAX: usize = 8;
/// How many privileged files are named.
const LISTED_MAX: usize = 20;

/// Whether golden is a subvolume that versions can be made of.
pub(crate) fn subvolume(golden: &Path, findings: &mut Findings) -> bool {
    let shown = golden.display();
    match op_dbus_btrfs::is_subvolume(golden) {
        Ok(true) => {}
        Ok(false) if golden.symlink_metadata().is_err() => {
            findings.problem(
                "golden",
                format!("{shown} is not there"),
                format!("make it and install into it: btrfs subvolume create {shown}"),
            );
            return false;
        }
        Ok(false) => {
            findings.problem(
                "golden",
                format!("{shown} is not a Btrfs subvolume"),
                "make it a subvolume (btrfs subvolume create) and move its content there",
            );
            return false;
        }
        Err(why) => {
            findings.problem(
                "golden",
                why.to_string(),
                "look at it with: btrfs subvolume show",
            );
            return false;
        }
    }
    match op_dbus_btrfs::info_of(golden) {
        // A read-only snapshot keeps the received UUID of what it is made of, even
        // when that was written to since: all versions would have the same.
        Ok(info) if !info.is_read_only() && !Uuid(info.received_uuid).is_nil() => findings.problem(
            "golden",
            format!("{shown} was received from elsewhere and made writable: every version would carry the same UUID in streams"),
            "put a writable snapshot in its place: btrfs subvolume snapshot",
        ),
        Ok(_) => findings.ok("golden", format!("{shown} is a subvolume")),
        Err(why) => findings.problem("golden", why.to_string(), "run it as root"),
    }
    true
}

/// What no stream can carry. None: the tree can't be walked.
pub(crate) fn content(golden: &Path, findings: &mut Findings) -> Option<Scan> {
    let found = match scan::scan(golden) {
        Ok(found) => found,
        Err((path, why)) => {
            findings.problem(
                "content",
                format!("{}: {why}", path.display()),
                "correct it",
            );
            return None;
        }
    };
    findings.ok(
        "content",
        format!("{} in {} entries", size(found.bytes), found.entries),
    );
    if !found.nested.is_empty() {
        findings.problem(
            "content",
            format!(
                "subvolumes within, which no stream carries: {}",
                found.nested.text()
            ),
            "make plain directories of them",
        );
    }
    if !found.overlay.is_empty() {
        findings.problem(
            "content",
            format!("overlayfs would act on: {}", found.overlay.text()),
            "remove the attribute or the file; copy from the overlay's mount, not from its upper directory",
        );
    }
    Some(found)
}

/// Whether what a release is made for is there.
pub(crate) fn expected(golden: &Path, expect: &[PathBuf], findings: &mut Findings) {
    if !expect.is_empty() {
        for path in expect {
            let relative = path.strip_prefix("/").unwrap_or(path);
            let shown = relative.display();
            if golden.join(relative).symlink_metadata().is_ok() {
                findings.ok("expected", format!("{shown} is there"));
            } else {
                findings.problem(
                    "expected",
                    format!("{shown} is not in the tree"),
                    "install it into golden",
                );
            }
        }
        return;
    }
    match names(&golden.join(PROGRAMS), is_program) {
        0 => findings.problem(
            "programs",
            format!("no executable in {PROGRAMS}/"),
            "install the programs into golden, or say what must be there: --expect PATH",
        ),
        count => findings.ok("programs", format!("{count} in {PROGRAMS}/")),
    }
    match names(&golden.join(UNITS), is_unit) {
        0 => findings.problem(
            "units",
            format!("no unit in {UNITS}/"),
            "install the units into golden, or say what must be there: --expect PATH",
        ),
        count => findings.ok("units", format!("{count} in {UNITS}/")),
    }
}

fn names(dir: &Path, wanted: impl Fn(&Path) -> bool) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| wanted(&entry.path())).count()
}

fn is_program(path: &Path) -> bool {
    let found = path.metadata();
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn is_unit(path: &Path) -> bool {
    let name = path.to_string_lossy();
    UNIT_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Whether the programs that units start from the version are in it.
pub(crate) fn unit_programs(golden: &Path, findings: &mut Findings) {
    let dir = golden.join(UNITS);
    let mut paths: Vec<_> = fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_unit(path))
        .collect();
    paths.sort();
    for path in paths {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // Another unit's name, and a unit that is switched off.
        if path
            .symlink_metadata()
            .is_ok_and(|found| found.is_symlink())
        {
            continue;
        }
        let text = match files::read_bounded(&path, UNIT_MAX) {
            Ok(text) => text,
            Err(why) => {
                findings.problem("units", format!("{name}: {why}"), "correct the unit");
                continue;
            }
        };
        for (program, why) in unstartable(golden, &String::from_utf8_lossy(&text)) {
            findings.problem(
                "units",
                format!("{name} starts {program}, which {why}"),
                "install the program into golden, or correct the unit",
            );
        }
    }
}

/// The programs that a unit would start and that the version lacks, with what is
/// wrong with them.
pub(crate) fn unstartable(tree: &Path, unit: &str) -> Vec<(String, String)> {
    let programs = units::programs(unit).into_iter();
    programs
        .filter_map(|program| {
            let why = starts(tree, &program).err()?;
            Some((program, why))
        })
        .collect()
}

/// The path within the version, if a device has it there.
fn within(path: &Path) -> Option<&Path> {
    MOUNTS
        .iter()
        .find_map(|mount| path.strip_prefix(mount).ok())
}

/// Whether a program can be started, as far as the version decides that.
fn starts(golden: &Path, program: &str) -> Result<(), String> {
    let Some(relative) = within(Path::new(program)) else {
        return Ok(());
    };
    let mut path = golden.join(relative);
    for _ in 0..LINKS_MAX {
        let found = match path.symlink_metadata() {
            Ok(found) => found,
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                return Err("is not in the tree".to_owned());
            }
            Err(why) => return Err(format!("can't be looked at: {why}")),
        };
        if found.is_file() {
            let executable = found.permissions().mode() & 0o111 != 0;
            return if executable {
                Ok(())
            } else {
                Err("is not executable".to_owned())
            };
        }
        if !found.is_symlink() {
            return Err("is not a file".to_owned());
        }
        let target = fs::read_link(&path).map_err(|why| why.to_string())?;
        path = match within(&target) {
            Some(relative) => golden.join(relative),
            // The host's.
            None if target.is_absolute() => return Ok(()),
            None => path.parent().unwrap_or(golden).join(target),
        };
    }
    Err("is a link that leads nowhere".to_owned())
}

/// The security epoch.
pub(crate) fn epoch(golden: &Path, findings: &mut Findings) {
    match epoch::read(golden) {
        Ok(epoch) => findings.ok("epoch", epoch.to_string()),
        Err(why) => findings.problem(
            "epoch",
            why,
            format!(
                "make {} a file that holds a number, or remove it",
                epoch::PATH
            ),
        ),
    }
}

/// What needs permission.
pub(crate) fn privileged(golden: &Path, findings: &mut Findings) {
    let found = match tree::survey(golden) {
        Ok(found) => found,
        Err(why) => {
            findings.problem("privileged", why.to_string(), "correct it, or take it out");
            return;
        }
    };
    if found.is_empty() {
        findings.ok("privileged", "no setuid, device or capability");
        return;
    }
    let remedy = "send refuses it unless you want it: --allow-privileged";
    for entry in found.iter().take(LISTED_MAX) {
        findings.warning(
            "privileged",
            format!("{} is {}", entry.path.escape_ascii(), entry.kind),
            remedy,
        );
    }
    let more = found.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        findings.warning("privileged", format!("{more} more"), remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn golden() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(UNITS)).unwrap();
        fs::create_dir_all(dir.path().join("bin")).unwrap();
        dir
    }

    fn program(dir: &Path, name: &str, mode: u32) {
        let path = dir.join("bin").join(name);
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn programs_below_the_mount_points_must_be_there() {
        let dir = golden();
        program(dir.path(), "app", 0o755);
        program(dir.path(), "text", 0o644);
        symlink("app", dir.path().join("bin/alias")).unwrap();
        symlink("/opt/op-dbus/bin/app", dir.path().join("bin/absolute")).unwrap();
        symlink("/usr/bin/python3", dir.path().join("bin/host")).unwrap();
        symlink("loop", dir.path().join("bin/loop")).unwrap();
        let starts = |name: &str| starts(dir.path(), &format!("/opt/op-dbus/bin/{name}"));
        for good in ["app", "alias", "absolute", "host"] {
            assert_eq!(starts(good), Ok(()), "{good}");
        }
        assert!(starts("missing").unwrap_err().contains("not in the tree"));
        assert!(starts("text").unwrap_err().contains("not executable"));
        assert!(starts("loop").unwrap_err().contains("nowhere"));
        assert!(
            super::starts(dir.path(), "/opt/op-dbus/bin")
                .unwrap_err()
                .contains("not a file")
        );
        assert_eq!(super::starts(dir.path(), "/usr/bin/env"), Ok(()));
    }

    #[test]
    fn what_is_expected_is_named_when_it_is_missing() {
        let dir = golden();
        let mut findings = Findings::default();
        expected(dir.path(), &[], &mut findings);
        assert_eq!(findings.problems().count(), 2);
        program(dir.path(), "app", 0o755);
        fs::write(dir.path().join(UNITS).join("app.service"), "").unwrap();
        let mut findings = Findings::default();
        expected(dir.path(), &[], &mut findings);
        assert_eq!(findings.problems().count(), 0);
        expected(
            dir.path(),
            &["/bin/app".into(), "share/x".into()],
            &mut findings,
        );
        let problems: Vec<_> = findings
            .problems()
            .map(|found| found.found.as_str())
            .collect();
        assert_eq!(problems, ["share/x is not in the tree"]);
    }
}
