//! What a version brings into the host, before it is mounted: what a boot would
//! publish and refuse, by the rules a boot goes by.

use std::path::Path;

use op_dbus_integration::import;
use op_dbus_integration::units::{Units, VersionUnit};

use super::Case;
use crate::commands::build;
use crate::commands::check::host::Host;
use crate::commands::check::root::Root;
use crate::error::Exit;
use crate::findings::Findings;

const SUBJECT: &str = "units";
/// Where the host's units are.
const HOST_UNITS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Findings of a kind that are shown.
const SHOWN_MAX: usize = 16;
const RELEASE: &str =
    "a mistake of the release: have it corrected; check source finds most of them";

/// Looks at units, drop-ins, D-Bus files, tmpfiles and sysusers.
pub(super) fn check(host: &Host, case: &Case, findings: &mut Findings) {
    let layout = &host.context.layout;
    let version = &case.deployment.version;
    let tree = layout.deployment(version);
    let (report, units) = import::inspect(layout, &tree, version.as_str());
    for refused in report.refused.iter().take(SHOWN_MAX) {
        // Paths as the release has them.
        let shown = refused.replace(&format!("{}/", tree.display()), "");
        findings.warning("brings", shown, RELEASE);
    }
    let more = report.more + report.refused.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        findings.warning("brings", format!("{more} more are refused"), RELEASE);
    }
    for unit in &units.units {
        sound(unit, &tree, findings);
    }
    health(
        &units,
        &case.config.health.units,
        &host.root,
        version.as_str(),
        findings,
    );
    findings.ok(
        "brings",
        format!(
            "{}, {}, {}",
            super::counted(units.units.len(), "unit"),
            super::counted(units.drop_ins.len(), "drop-in"),
            super::counted(report.policies + report.services, "D-Bus file")
        ),
    );
}

/// Whether a unit can be read and what it starts is there.
fn sound(unit: &VersionUnit, tree: &Path, findings: &mut Findings) {
    if let Some((line, why)) = mistake(&unit.text) {
        findings.warning(
            SUBJECT,
            format!("{}, line {line}: {why}: systemd ignores it", unit.name),
            RELEASE,
        );
    }
    for (program, why) in build::unstartable(tree, &unit.text).iter().take(SHOWN_MAX) {
        findings.error(
            Exit::Verification,
            SUBJECT,
            format!("{} starts {program}, which {why}", unit.name),
            RELEASE,
        );
    }
}

/// The first line that is none of a unit file (`systemd.syntax(7)`): neither
/// section, nor assignment, nor comment.
fn mistake(text: &str) -> Option<(usize, &'static str)> {
    let mut has_section = false;
    let mut goes_on = false;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        let is_comment = trimmed.starts_with(['#', ';']);
        if trimmed.is_empty() || is_comment {
            // A comment may stand between continued lines; an empty line ends them.
            goes_on &= is_comment;
            continue;
        }
        let continues = trimmed.ends_with('\\');
        if std::mem::replace(&mut goes_on, continues) {
            continue;
        }
        if trimmed.starts_with('[') {
            if !trimmed.ends_with(']') {
                return Some((index + 1, "a section without its end"));
            }
            has_section = true;
        } else if !has_section {
            return Some((index + 1, "it is in no section"));
        } else if !trimmed.contains('=') {
            return Some((index + 1, "it is no assignment"));
        }
    }
    None
}

/// Whether every unit that decides over health is brought, or the host's.
fn health(units: &Units, wanted: &[String], root: &Root, version: &str, findings: &mut Findings) {
    for name in wanted {
        if units.has(name) {
            findings.ok("health", format!("{name} comes with it"));
        } else if is_host_s(root, name) {
            findings.ok("health", format!("{name} is the host's"));
        } else {
            findings.error(
                Exit::Configuration,
                "health",
                format!("{name} must be active, and neither {version} nor the host has it: every boot of it would be judged unhealthy"),
                "correct [health] units of the configuration, or take a release that brings it",
            );
        }
    }
}

fn is_host_s(root: &Root, name: &str) -> bool {
    let template = name
        .split_once('@')
        .zip(name.rsplit_once('.'))
        .map(|((stem, _), (_, suffix))| format!("{stem}@.{suffix}"));
    HOST_UNITS.iter().any(|dir| {
        [Some(name), template.as_deref()]
            .into_iter()
            .flatten()
            .any(|name| root.is_file(format!("{dir}/{name}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::{bad, put};

    #[test]
    fn lines_of_units_are_looked_at() {
        for (text, expected) in [
            ("", None),
            (
                "# x\n\n[Unit]\nDescription=a\n[Service]\nExecStart=/bin/a \\\n  b \\\n# c\n  d\nUser=x\n",
                None,
            ),
            ("Description=a\n", Some(1)),
            ("[Unit]\nDescription\n", Some(2)),
            ("[Unit\n", Some(1)),
            ("[Unit]\nA=b \\\n\nc\n", Some(4)),
        ] {
            assert_eq!(mistake(text).map(|(line, _)| line), expected, "{text:?}");
        }
    }

    #[test]
    fn units_that_decide_over_health_are_somewhere() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "usr/lib/systemd/system/host.service", "");
        put(dir.path(), "etc/systemd/system/each@.service", "");
        let unit = |name: &str| VersionUnit {
            name: name.to_owned(),
            text: String::new(),
        };
        let units = Units {
            units: vec![unit("app.service"), unit("own@.service")],
            drop_ins: Vec::new(),
        };
        let look = |name: &str| {
            let wanted = [name.to_owned()];
            let root = Root::new(dir.path());
            bad(|findings| health(&units, &wanted, &root, "v1", findings)).len()
        };
        for name in [
            "app.service",
            "own@1.service",
            "host.service",
            "each@x.service",
        ] {
            assert_eq!(look(name), 0, "{name}");
        }
        assert_eq!(look("other.service"), 1);
        assert_eq!(look("app@1.service"), 1);
    }

    #[test]
    fn a_unit_s_programs_must_be_in_the_version() {
        let dir = tempfile::tempdir().unwrap();
        let unit = VersionUnit {
            name: "app.service".to_owned(),
            text: "[Service]\nExecStart=/opt/op-dbus/bin/app\n".to_owned(),
        };
        let told = bad(|findings| sound(&unit, dir.path(), findings));
        assert!(told.len() == 1 && told[0].1.contains("bin/app"), "{told:?}");
    }
}
