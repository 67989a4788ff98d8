//! Whether what a running version brings does run: units, and names on the bus.

use std::process::Command;

use op_dbus_integration::units;

use super::Case;
use crate::commands::check::host::Host;
use crate::commands::check::target::systemd::{self, PATIENCE, Unit};
use crate::error::Exit;
use crate::findings::Findings;
use crate::limited;

/// Looks at both.
pub(super) fn check(host: &Host, case: &Case, findings: &mut Findings) {
    if host.has_systemd() {
        services(host, case, findings);
        names(&case.config.health.bus_names, findings);
    } else {
        findings.info(
            "services",
            "systemd does not run here: units and names are not looked at",
        );
    }
}

/// The version's units, and those that decide over health.
fn services(host: &Host, case: &Case, findings: &mut Findings) {
    let sysroot = &host.context.layout.sysroot;
    // What is refused was told above.
    let brought = units::read(sysroot, &case.config.mounts.lower, &mut Vec::new());
    let wanted = &case.config.health.units;
    let mut names = wanted.clone();
    for unit in &brought.units {
        let is_template = unit.name.contains("@.");
        if !is_template && !names.contains(&unit.name) {
            names.push(unit.name.clone());
        }
    }
    if names.is_empty() {
        return;
    }
    match systemd::units(&names) {
        Ok(units) => judge(&units, &names, wanted, findings),
        Err(why) => findings.warning(
            "services",
            format!("systemctl {why}"),
            "is systemd alive? journalctl -b",
        ),
    }
}

fn judge(units: &[Unit], names: &[String], wanted: &[String], findings: &mut Findings) {
    let mut active = 0;
    for (name, unit) in names.iter().zip(units) {
        let counts = wanted.contains(name);
        let log = format!("journalctl -b -u {name}");
        match (unit.load.as_str(), unit.active.as_str()) {
            (_, "active") => active += 1,
            ("masked", _) => findings.warning(
                "services",
                format!("{name} is masked"),
                format!("systemctl unmask {name}, then: systemctl start {name}"),
            ),
            ("not-found", _) if counts => findings.error(
                Exit::Configuration,
                "services",
                format!("{name} decides over health, and there is no such unit"),
                "correct [health] units of the configuration, or take a release that brings it",
            ),
            (_, "activating" | "reloading") => {
                findings.warning("services", format!("{name} is still starting"), log);
            }
            (_, "failed") => {
                findings.error(Exit::Failure, "services", format!("{name} has failed"), log);
            }
            (_, state) if counts => findings.error(
                Exit::Failure,
                "services",
                format!("{name} is {state}, and decides over health"),
                format!("systemctl start {name}; why it is not, tells: {log}"),
            ),
            // Units that do something once, and what nothing has asked for yet.
            _ => {}
        }
    }
    if active > 0 {
        findings.ok(
            "services",
            format!("{active} of {} active", super::counted(names.len(), "unit")),
        );
    }
}

/// Names that must be owned on the system bus.
fn names(wanted: &[String], findings: &mut Findings) {
    if wanted.is_empty() {
        return;
    }
    let mut command = Command::new("busctl");
    command.args([
        "--system",
        "--no-pager",
        "--no-legend",
        "--acquired",
        "list",
    ]);
    let said = match limited::said(&mut command, PATIENCE) {
        Ok(said) if said.status.success() => said.text,
        Ok(_) => {
            return findings.error(
                Exit::Failure,
                "names",
                "the system bus does not answer",
                "systemctl status dbus",
            );
        }
        Err(why) => {
            return findings.info("names", format!("not looked at: busctl {why}"));
        }
    };
    owned(&said, wanted, findings);
}

/// Lines begin with a name.
fn owned(list: &str, wanted: &[String], findings: &mut Findings) {
    let owned: Vec<_> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    for name in wanted {
        if owned.contains(&name.as_str()) {
            findings.ok("names", format!("{name} is owned"));
        } else {
            findings.error(
                Exit::Failure,
                "names",
                format!("{name} is owned by nobody on the system bus"),
                "does its service run, and does the policy let it? journalctl -b -u dbus",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::{bad, found};
    use crate::findings::Severity;

    fn unit(id: &str, load: &str, active: &str) -> Unit {
        Unit {
            id: id.to_owned(),
            load: load.to_owned(),
            active: active.to_owned(),
            sub: "x".to_owned(),
        }
    }

    #[test]
    fn units_are_judged_by_whether_they_decide() {
        for (load, active, decides, expected) in [
            ("loaded", "active", true, None),
            ("loaded", "activating", true, Some(Severity::Warning)),
            ("loaded", "failed", false, Some(Severity::Error)),
            ("loaded", "inactive", false, None),
            ("loaded", "inactive", true, Some(Severity::Error)),
            ("not-found", "inactive", true, Some(Severity::Error)),
            ("masked", "inactive", false, Some(Severity::Warning)),
        ] {
            let name = ["a.service".to_owned()];
            let wanted = if decides { &name[..] } else { &[] };
            let told =
                bad(|findings| judge(&[unit("a.service", load, active)], &name, wanted, findings));
            let severity = told.first().map(|(severity, _)| *severity);
            assert_eq!(severity, expected, "{load} {active} {decides}");
        }
    }

    #[test]
    fn names_are_owned_or_not() {
        let list = "org.a 1 app root :1.2 app.service - -\n:1.2 1 app\n";
        let wanted = ["org.a".to_owned(), "org.b".to_owned()];
        let told = found(|findings| owned(list, &wanted, findings));
        let severities: Vec<_> = told.iter().map(|(severity, _)| *severity).collect();
        assert_eq!(severities, [Severity::Ok, Severity::Error]);
    }
}
