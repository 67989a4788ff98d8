//! The executables in `health.d`: those the version brings and those of the
//! operator, required and wanted.

use std::path::{Path, PathBuf};

use op_dbus_activator::layout::Layout;
use op_dbus_health::settings::Check;
use op_dbus_health::subject::Subject;
use op_dbus_health::verdict::{Failure, Kind};

use crate::folder;

/// Below the version's tree.
const OF_VERSION: &str = "lib/op-dbus/health.d";
/// In the host.
const OF_OPERATOR: &str = "/etc/op-dbus/health.d";
/// Most that are run of one folder: they run side by side, again and again.
const MAX: usize = 32;

/// What there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// In the order of the folders, then of the names.
    pub checks: Vec<Check>,
    /// What is not run though it is there. It decides nothing, and is told.
    pub refused: Vec<Failure>,
}

/// Looks through the folders. `lower`: where the active version is mounted; none:
/// no version is active.
pub fn find(layout: &Layout, lower: Option<&Path>) -> Programs {
    let mut programs = Programs::default();
    let of_version = lower.map(|lower| lower.join(OF_VERSION));
    for base in of_version
        .iter()
        .map(PathBuf::as_path)
        .chain([Path::new(OF_OPERATOR)])
    {
        for (name, kind) in [("required", Kind::Required), ("wanted", Kind::Wanted)] {
            programs.add(layout, &base.join(name), kind);
        }
    }
    programs
}

impl Programs {
    fn add(&mut self, layout: &Layout, directory: &Path, kind: Kind) {
        let found = folder::look(&layout.host(directory));
        let mut refused = found.refused;
        for (number, path) in found.executables.iter().enumerate() {
            if number >= MAX {
                let shown = directory.display();
                refused.push(format!(
                    "{shown}: has more than {MAX}; only the first are run"
                ));
                break;
            }
            // As it is called in the host, wherever that is mounted.
            let name = path.file_name().unwrap_or_default();
            let words = vec![path.to_string_lossy().into_owned()];
            self.checks.push(Check {
                name: directory.join(name).display().to_string(),
                kind,
                ..Check::usual(Subject::Program(words))
            });
        }
        let told = refused.iter();
        self.refused
            .extend(told.map(|line| Failure::new("health.d", line, Kind::Wanted)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn put(root: &Path, path: &str, mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_version_s_come_before_the_operator_s() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "etc/op-dbus/health.d/required/50-host", 0o755);
        put(root, "opt/v/lib/op-dbus/health.d/wanted/10-nice", 0o755);
        put(root, "opt/v/lib/op-dbus/health.d/required/20-b", 0o755);
        put(root, "opt/v/lib/op-dbus/health.d/required/10-a", 0o755);
        put(root, "opt/v/lib/op-dbus/health.d/required/README", 0o644);
        let layout = Layout::new(root.join("run"), root);
        let names = |programs: &Programs| -> Vec<(String, Kind)> {
            let checks = programs.checks.iter();
            checks.map(|it| (it.name.clone(), it.kind)).collect()
        };
        let found = find(&layout, Some(Path::new("/opt/v")));
        let of_version = "/opt/v/lib/op-dbus/health.d";
        assert_eq!(
            names(&found),
            [
                (format!("{of_version}/required/10-a"), Kind::Required),
                (format!("{of_version}/required/20-b"), Kind::Required),
                (format!("{of_version}/wanted/10-nice"), Kind::Wanted),
                (
                    "/etc/op-dbus/health.d/required/50-host".to_owned(),
                    Kind::Required
                ),
            ]
        );
        let [refused] = found.refused.as_slice() else {
            panic!("{found:?}");
        };
        assert!(refused.reason.contains("is not executable"));
        assert_eq!(refused.kind, Kind::Wanted);
        // Without a version there is the host's alone.
        assert_eq!(find(&layout, None).checks.len(), 1);
    }

    #[test]
    fn there_is_a_bound() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        for number in 0..=MAX {
            put(
                dir.path(),
                &format!("etc/op-dbus/health.d/wanted/{number:03}"),
                0o755,
            );
        }
        let found = find(&Layout::new(dir.path(), dir.path()), None);
        assert_eq!((found.checks.len(), found.refused.len()), (MAX, 1));
    }
}
