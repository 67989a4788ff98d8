//! Whether the boot of a running version is blessed, or what that waits for.

use op_dbus_activator::activation::{Activation, Source};
use op_dbus_bootstate::record::Next;
use op_dbus_bootstate::{Deployment, Record, Slot};

use crate::commands::check::host::Host;
use crate::commands::check::target::systemd::{self, Unit};
use crate::error::Exit;
use crate::findings::Findings;

/// Whether it is blessed, or what that waits for.
pub(super) fn check(
    host: &Host,
    activation: &Activation,
    deployment: &Deployment,
    record: Option<&Record>,
    findings: &mut Findings,
) {
    if activation.source == Source::CommandLine || !activation.counted {
        return findings.info(
            "blessed",
            "this boot is not counted: it is neither blessed nor condemned",
        );
    }
    let Some(record) = record else { return };
    let judged = record
        .last_boot
        .as_ref()
        .filter(|last| Some(last.boot_id) == activation.boot_id)
        .and_then(|last| last.verdict);
    match judged {
        Some(Next::Reboot) => {
            return findings.error(
                Exit::Failure,
                "blessed",
                "it was judged unhealthy in this boot",
                "reboot: another choice is next. Why: op-dbus-stage audit log -n 3",
            );
        }
        Some(Next::StayUp) => {
            return findings.error(
                Exit::Failure,
                "blessed",
                "it was judged unhealthy, and nothing better is left",
                "receive and stage a version that works. Why: op-dbus-stage audit log -n 3",
            );
        }
        None => {}
    }
    let is_good = record
        .good
        .as_ref()
        .is_some_and(|good| good.digest == deployment.digest);
    if is_good && record.good_unblessed == 0 {
        return findings.ok(
            "blessed",
            "it is the good version, and this boot is blessed",
        );
    }
    let waits_for = if host.has_systemd() {
        systemd::units(&WAITS).map_or_else(|why| format!("systemctl {why}"), |units| waits(&units))
    } else {
        "systemd does not run here, so nothing blesses it by itself".to_owned()
    };
    let role = match activation.slot {
        Some(Slot::Trial) => "it is on trial and not blessed yet",
        _ => "this boot is not blessed yet",
    };
    findings.warning(
        "blessed",
        format!("{role}: {waits_for}"),
        "wait, and check again; by hand: op-dbus-stage bless, or op-dbus-stage condemn --reboot",
    );
}

/// What stands between a boot and its bless, in order.
const WAITS: [&str; 4] = [
    "op-dbus.target",
    "op-dbus-health.service",
    "boot-complete.target",
    "op-dbus-bless.service",
];

fn waits(units: &[Unit]) -> String {
    match units.iter().find(|unit| unit.active != "active") {
        Some(unit) => format!(
            "waits for {}, which is {} ({})",
            unit.id, unit.active, unit.sub
        ),
        None => "everything it waits for is done".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: &str, active: &str) -> Unit {
        Unit {
            id: id.to_owned(),
            load: "loaded".to_owned(),
            active: active.to_owned(),
            sub: "x".to_owned(),
        }
    }

    #[test]
    fn what_a_bless_waits_for_is_the_first_thing_missing() {
        let units = [
            unit("a", "active"),
            unit("b", "activating"),
            unit("c", "inactive"),
        ];
        assert_eq!(waits(&units), "waits for b, which is activating (x)");
        assert!(waits(&units[..1]).contains("is done"));
    }
}
