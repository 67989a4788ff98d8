//! What of op-dbus is installed on the host: programs, units, D-Bus
//! configuration; and that nobody has switched it off.

use op_dbus_activator::config::{Config, Way};

use crate::commands::check::host::Host;
use crate::commands::check::root::Root;
use crate::error::Exit;
use crate::findings::Findings;

/// The dracut module.
pub(crate) const DRACUT_MODULE: &str = "/usr/lib/dracut/modules.d/50op-dbus";
/// The programs.
pub(crate) const ACTIVATOR: &str = "/usr/libexec/op-dbus/op-dbus-activate";
const GENERATOR: &str = "/usr/lib/systemd/system-generators/op-dbus-generator";
const PROGRAMS: [&str; 4] = [
    ACTIVATOR,
    "/usr/libexec/op-dbus/op-dbus-agent",
    "/usr/bin/op-dbus-stage",
    GENERATOR,
];
/// Where the units are.
const UNITS_DIR: &str = "/usr/lib/systemd/system";
/// The units, and what does not happen without them.
const UNITS: &[(&str, &str)] = &[
    ("op-dbus.target", "the version's services do not start"),
    ("op-dbus-health.service", "no version is judged"),
    ("op-dbus-bless.service", "no version becomes good"),
    (
        "op-dbus-condemn.service",
        "a bad verdict has no consequences",
    ),
    ("op-dbus-deadline.timer", "a boot that hangs is never ended"),
    (
        "op-dbus-deadline.service",
        "a boot that hangs is never ended",
    ),
    (
        "op-dbus-orderly-shutdown.service",
        "a reboot in the middle of a trial costs a try",
    ),
    (
        "op-dbus-boot-report.service",
        "nobody tells how a boot ended",
    ),
    (
        "op-dbus-reboot.service",
        "a verdict's reboot waits for nobody",
    ),
    ("op-dbus-notify.path", "hooks are told at boot only"),
    ("op-dbus-notify.service", "hooks are told nothing"),
    ("op-dbus-links.service", "links are not brought up to date"),
    (
        "op-dbus-store-rw.service",
        "ro in fstab leaves the store read-only",
    ),
    (
        "op-dbus-import.service",
        "the version's D-Bus files do not count",
    ),
    (
        "op-dbus-sysusers.service",
        "the version's users are not made",
    ),
    (
        "op-dbus-tmpfiles.service",
        "the version's directories are not made",
    ),
    ("op-dbus-prune.service", "old versions are not pruned"),
    ("op-dbus-metrics.service", "metrics are not written"),
    ("op-dbus-metrics.timer", "metrics tell of verdicts only"),
    (
        "op-dbus-activate.service",
        "the generator way activates nothing",
    ),
];
/// Where an administrator switches units off, the stronger first.
const OVER: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];
/// Likewise generators (`systemd.generator(7)`).
const OVER_GENERATORS: [&str; 3] = [
    "/run/systemd/system-generators",
    "/etc/systemd/system-generators",
    "/usr/local/lib/systemd/system-generators",
];
/// The D-Bus configuration that includes the version's.
const DBUS: [&str; 2] = [
    "/usr/share/dbus-1/system.d/op-dbus.conf",
    "/etc/dbus-1/system.d/op-dbus.conf",
];
/// Where a boot puts what it takes of a version's D-Bus files.
const IMPORTED: &str = "/run/op-dbus/import/dbus-1/";
/// Longest file that is read, in bytes.
const FILE_MAX: usize = 256 * 1024;

const REINSTALL: &str = "install op-dbus completely (make install, or the package) again";

/// Looks at all of it.
pub(crate) fn check(host: &Host, config: &Config, findings: &mut Findings) {
    programs(&host.root, findings);
    units(&host.root, findings);
    dbus(&host.root, findings);
    dracut(&host.root, config.activation.way, findings);
}

fn programs(root: &Root, findings: &mut Findings) {
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|path| !root.is_program(path))
        .collect();
    for path in &missing {
        findings.error(
            Exit::Failure,
            "programs",
            format!("{path} is not there, or not executable"),
            REINSTALL,
        );
    }
    if missing.is_empty() {
        findings.ok("programs", "all installed");
    }
}

fn units(root: &Root, findings: &mut Findings) {
    let mut are_fine = true;
    for (unit, means) in UNITS {
        if !root.is_file(format!("{UNITS_DIR}/{unit}")) {
            are_fine = false;
            findings.error(
                Exit::Failure,
                "units",
                format!("{UNITS_DIR}/{unit} is missing: {means}"),
                REINSTALL,
            );
            continue;
        }
        let over = OVER
            .iter()
            .map(|dir| format!("{dir}/{unit}"))
            .find(|path| root.link(path).is_some() || root.is_file(path));
        let Some(path) = over else { continue };
        are_fine = false;
        if is_masked(root, &path) {
            findings.error(
                Exit::Failure,
                "units",
                format!("{unit} is masked by {path}: {means}"),
                format!("systemctl unmask {unit}"),
            );
        } else {
            findings.warning(
                "units",
                format!("{path} stands in the place of ours"),
                format!("change ours by drop-ins instead: systemctl revert {unit}; systemctl edit {unit}"),
            );
        }
    }
    let over = OVER_GENERATORS
        .iter()
        .map(|dir| format!("{dir}/op-dbus-generator"))
        .find(|path| root.link(path).is_some() || root.is_file(path));
    if let Some(path) = over {
        are_fine = false;
        findings.error(
            Exit::Failure,
            "units",
            format!("{path} switches the generator off: nothing of a version is started or judged"),
            format!("rm {path}, then: systemctl daemon-reload"),
        );
    }
    if are_fine {
        findings.ok("units", "all installed, none masked");
    }
}

/// A link to `/dev/null`, or an empty file (`systemd.unit(5)`).
fn is_masked(root: &Root, path: &str) -> bool {
    root.link(path)
        .is_some_and(|target| target == std::path::Path::new("/dev/null"))
        || root.bytes(path, 0).is_ok()
}

fn dbus(root: &Root, findings: &mut Findings) {
    let found = DBUS
        .iter()
        .find_map(|path| Some((*path, root.text(path, FILE_MAX).ok()?)));
    match found {
        None => findings.error(
            Exit::Failure,
            "D-Bus",
            format!(
                "{} is not there: the version's names and policies do not count",
                DBUS[0]
            ),
            REINSTALL,
        ),
        Some((path, text)) if !text.contains(IMPORTED) => findings.error(
            Exit::Failure,
            "D-Bus",
            format!("{path} is an older one: it does not name {IMPORTED}"),
            REINSTALL,
        ),
        Some((path, _)) => findings.ok("D-Bus", path),
    }
}

/// Whether the next image will have our module. Whether the present ones have it
/// is looked at in them.
pub(crate) fn dracut(root: &Root, way: Way, findings: &mut Findings) {
    if way == Way::Generator {
        findings.ok("way", "generator: a unit of the host activates");
        return;
    }
    if !root.is_dir(DRACUT_MODULE) {
        findings.error(
            Exit::Failure,
            "way",
            "the dracut module 50op-dbus is not installed: without it no version is activated",
            "install op-dbus completely, or use: way = \"generator\"",
        );
        return;
    }
    let is_named = [
        "/etc/dracut.conf",
        "/etc/dracut.conf.d",
        "/usr/lib/dracut/dracut.conf.d",
    ]
    .iter()
    .any(|path| names_module(root, path));
    if is_named {
        findings.ok("way", "initrd: the dracut module activates");
    } else {
        findings.warning(
            "way",
            "no configuration of dracut names the module op-dbus: the next image will not have it",
            "cp /usr/share/doc/op-dbus/examples/50-op-dbus.conf /etc/dracut.conf.d/",
        );
    }
}

/// Whether a file, or one of a directory, adds our module.
fn names_module(root: &Root, path: &str) -> bool {
    let in_text = |text: String| {
        text.lines().any(|line| {
            let line = line.trim();
            let is_list = [
                "add_dracutmodules",
                "dracutmodules",
                "force_add_dracutmodules",
            ]
            .iter()
            .any(|key| line.starts_with(key));
            is_list
                && line
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
                    .any(|word| word == "op-dbus")
        })
    };
    if !root.is_dir(path) {
        return root.text(path, FILE_MAX).is_ok_and(in_text);
    }
    let mut parts = root.parts(path, ".conf", 256).into_iter();
    parts.any(|part| root.text(part, FILE_MAX).is_ok_and(in_text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::{bad, host, put};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    fn install(at: &Path) {
        for path in PROGRAMS {
            let path = put(at, &format!("root{path}"), "x");
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (unit, _) in UNITS {
            put(at, &format!("root{UNITS_DIR}/{unit}"), "[Unit]\n");
        }
        put(
            at,
            &format!("root{}", DBUS[0]),
            "<includedir>/run/op-dbus/import/dbus-1/system.d</includedir>",
        );
        put(at, &format!("root{DRACUT_MODULE}/module-setup.sh"), "");
        let line = "add_dracutmodules+=\" op-dbus \"\n";
        put(at, "root/etc/dracut.conf.d/50-op-dbus.conf", line);
    }

    fn config(more: &str) -> Config {
        Config::parse(&format!("[store]\ndevice = \"/dev/vda\"\n{more}")).unwrap()
    }

    #[test]
    fn what_is_installed_is_found_and_each_thing_that_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        install(at);
        let host = host(at);
        let look = || bad(|findings| check(&host, &config(""), findings));
        assert_eq!(look(), []);
        for (path, words) in [
            ("usr/bin/op-dbus-stage", "not executable"),
            (
                "usr/lib/systemd/system/op-dbus-bless.service",
                "no version becomes good",
            ),
            (
                "usr/share/dbus-1/system.d/op-dbus.conf",
                "policies do not count",
            ),
            (
                "usr/lib/dracut/modules.d/50op-dbus",
                "no version is activated",
            ),
            ("etc/dracut.conf.d/50-op-dbus.conf", "the next image"),
        ] {
            let (from, to) = (at.join("root").join(path), at.join("aside"));
            fs::rename(&from, &to).unwrap();
            let told = look();
            assert!(
                told.len() == 1 && told[0].1.contains(words),
                "{path}: {told:?}"
            );
            fs::rename(&to, &from).unwrap();
        }
        assert_eq!(look(), []);
        put(
            at,
            &format!("root{}", DBUS[0]),
            "<includedir>/opt/op-dbus/x</includedir>",
        );
        assert!(look()[0].1.contains("an older one"));
    }

    #[test]
    fn what_is_switched_off_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        install(at);
        let host = host(at);
        let look = || bad(|findings| units(&host.root, findings));
        put(at, "root/etc/systemd/system/x", "");
        let mask = at.join("root/etc/systemd/system/op-dbus-deadline.timer");
        symlink("/dev/null", &mask).unwrap();
        let told = look();
        assert!(
            told.len() == 1 && told[0].1.contains("is masked by /etc"),
            "{told:?}"
        );
        fs::remove_file(&mask).unwrap();
        fs::write(&mask, "").unwrap();
        assert!(look()[0].1.contains("is masked by"));
        fs::write(&mask, "[Timer]\n").unwrap();
        assert!(look()[0].1.contains("in the place of ours"));
        fs::remove_file(&mask).unwrap();
        put(
            at,
            "root/etc/systemd/system-generators/op-dbus-generator",
            "",
        );
        assert!(look()[0].1.contains("switches the generator off"));
    }
}
