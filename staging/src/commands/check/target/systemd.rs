//! What systemd says, where it runs: our units' states, and the system's.

use std::process::Command;
use std::time::Duration;

use crate::commands::check::host::Host;
use crate::findings::Findings;
use crate::limited;

const SUBJECT: &str = "systemd";
/// How long it may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Our units that run in a boot, whatever the version does.
const UNITS: [&str; 11] = [
    "op-dbus-activate.service",
    "op-dbus-store-rw.service",
    "op-dbus-links.service",
    "op-dbus-boot-report.service",
    "op-dbus-orderly-shutdown.service",
    "op-dbus.target",
    "op-dbus-health.service",
    "op-dbus-bless.service",
    "op-dbus-condemn.service",
    "op-dbus-deadline.timer",
    "op-dbus-deadline.service",
];

/// What `systemctl show` says of one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Its name.
    pub(crate) id: String,
    /// `loaded`, `not-found`, `masked`, `bad-setting`…
    pub(crate) load: String,
    /// `active`, `inactive`, `failed`…
    pub(crate) active: String,
    /// Of that, more exactly: `running`, `dead`…
    pub(crate) sub: String,
}

/// Asks for the states of units, in their order.
pub(crate) fn units(names: &[impl AsRef<str>]) -> Result<Vec<Unit>, String> {
    let mut command = Command::new("systemctl");
    command.args(["show", "--property=Id,LoadState,ActiveState,SubState", "--"]);
    command.args(names.iter().map(AsRef::as_ref));
    let said = limited::said(&mut command, PATIENCE)?;
    let units = parse(&said.text);
    if units.len() == names.len() {
        Ok(units)
    } else {
        Err(format!(
            "answers for {} of {} units",
            units.len(),
            names.len()
        ))
    }
}

/// Blocks of `Key=value`, apart by empty lines.
fn parse(text: &str) -> Vec<Unit> {
    let blocks = text.split("\n\n").filter(|block| block.contains('='));
    let units = blocks.map(|block| {
        let mut unit = Unit::default();
        for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
            let place = match key {
                "Id" => &mut unit.id,
                "LoadState" => &mut unit.load,
                "ActiveState" => &mut unit.active,
                "SubState" => &mut unit.sub,
                _ => continue,
            };
            value.clone_into(place);
        }
        unit
    });
    units.collect()
}

/// Looks at all of ours.
pub(crate) fn check(host: &Host, findings: &mut Findings) {
    if !host.has_systemd() {
        return findings.info(
            SUBJECT,
            "it does not run here: states of units are not looked at",
        );
    }
    let mut command = Command::new("systemctl");
    command.arg("is-system-running");
    let asked = units(&UNITS).and_then(|units| {
        judge(&units, findings);
        limited::said(&mut command, PATIENCE)
    });
    match asked {
        Ok(said) => system(said.text.trim(), findings),
        Err(why) => findings.warning(
            SUBJECT,
            format!("systemctl {why}"),
            "is systemd alive? journalctl -b",
        ),
    }
}

fn judge(units: &[Unit], findings: &mut Findings) {
    let failed: Vec<_> = units
        .iter()
        .filter(|unit| unit.active == "failed")
        .collect();
    for unit in &failed {
        findings.warning(
            SUBJECT,
            format!("{} has failed in this boot", unit.id),
            format!("journalctl -b -u {}", unit.id),
        );
    }
    for unit in units
        .iter()
        .filter(|unit| unit.load == "bad-setting" || unit.load == "error")
    {
        findings.warning(
            SUBJECT,
            format!("{} can't be loaded ({})", unit.id, unit.load),
            format!("systemd-analyze verify {}", unit.id),
        );
    }
    if failed.is_empty() {
        findings.ok(SUBJECT, "none of our units has failed in this boot");
    }
}

/// `systemctl(1)`, is-system-running.
fn system(state: &str, findings: &mut Findings) {
    match state {
        "running" => {}
        "degraded" => findings.info(SUBJECT, "some units have failed: systemctl --failed"),
        "initializing" | "starting" => {
            findings.info(
                SUBJECT,
                "the system is still starting: what is missing may yet come",
            );
        }
        "stopping" => findings.info(SUBJECT, "the system is shutting down"),
        other => findings.warning(
            SUBJECT,
            format!("the system's state is {other:?}"),
            "systemctl status",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::{bad, found};
    use crate::findings::Severity;

    const TEXT: &str = "Id=a.service\nLoadState=loaded\nActiveState=active\nSubState=running\n\n\
        Id=b.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n\n\
        Id=c.service\nLoadState=loaded\nActiveState=failed\nSubState=failed\n";

    #[test]
    fn blocks_are_units() {
        let units = parse(TEXT);
        assert_eq!(units.len(), 3);
        assert_eq!(
            (units[0].id.as_str(), units[0].sub.as_str()),
            ("a.service", "running")
        );
        assert_eq!(units[1].load, "not-found");
        assert_eq!(parse(""), []);
        let told = bad(|findings| judge(&units, findings));
        assert_eq!(
            told,
            [(
                Severity::Warning,
                "c.service has failed in this boot".to_owned()
            )]
        );
    }

    #[test]
    fn states_of_the_system() {
        for (state, severity) in [
            ("degraded", Severity::Info),
            ("starting", Severity::Info),
            ("maintenance", Severity::Warning),
            ("", Severity::Warning),
        ] {
            assert_eq!(
                found(|findings| system(state, findings))[0].0,
                severity,
                "{state}"
            );
        }
        assert_eq!(found(|findings| system("running", findings)), []);
    }
}
