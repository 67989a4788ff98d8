//! What the next boots will make of a version that does not run.

use op_dbus_bootstate::Record;
use op_dbus_bootstate::transition::{self, Overrides, Refusal, Staged};

use super::Case;
use crate::commands::check::host::Host;
use crate::commands::receive::headroom;
use crate::deployments::Deployments;
use crate::error::Exit;
use crate::findings::Findings;
use crate::settings::Settings;

const SUBJECT: &str = "stage";

/// Looks at the record's word, and at the room for its overlay.
pub(super) fn check(host: &Host, case: &Case, findings: &mut Findings) {
    match &case.record {
        Some(record) => staged(host, case, record, findings),
        None => findings.error(
            Exit::Record,
            SUBJECT,
            "every copy of the boot record is lost",
            "see: op-dbus-stage check target",
        ),
    }
    shared(host, case, findings);
    let settings = Settings::load(&host.context).unwrap_or_default();
    if let Ok(found) = rustix::fs::statvfs(&host.context.layout.store) {
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let size = found.f_blocks.saturating_mul(found.f_frsize);
        room(free, headroom(size, settings.headroom_mib), findings);
    }
}

/// What `stage` would say, or has said.
fn staged(host: &Host, case: &Case, record: &Record, findings: &mut Findings) {
    let version = &case.deployment.version;
    let is = |held: &op_dbus_bootstate::Deployment| held.digest == case.deployment.digest;
    if let Some(trial) = record.trial.as_ref().filter(|trial| is(&trial.deployment)) {
        return match trial.tries_left {
            0 => findings.error(
                Exit::Refused,
                SUBJECT,
                "it is on trial and has used up its tries: the next boot quarantines it",
                "take it back (op-dbus-stage cancel), and see why it failed: op-dbus-stage audit log",
            ),
            tries => findings.ok(
                SUBJECT,
                format!("it is on trial: the next boot activates it ({tries} tries left)"),
            ),
        };
    }
    if record.good.as_ref().is_some_and(is) {
        return findings.ok(
            SUBJECT,
            "it is the good version: boots take it when nothing is on trial",
        );
    }
    if record.fallback.as_ref().is_some_and(is) {
        return findings.ok(
            SUBJECT,
            "it is the fallback version: op-dbus-stage rollback goes back to it",
        );
    }
    let deployments = match Deployments::read(&host.context.layout) {
        Ok(deployments) => deployments,
        Err(why) => return findings.error(why.kind, SUBJECT, why.why, why.remedy),
    };
    let decided = transition::stage(
        record,
        &case.deployment,
        case.config.limits(),
        Overrides::default(),
        |digest| deployments.is_present(&host.context.layout, digest),
    );
    match decided.map(|change| change.outcome) {
        Ok(Staged::OnTrial { replaced }) => {
            let gives_way =
                replaced.map_or_else(String::new, |other| format!("; {other} would give way"));
            findings.ok(
                SUBJECT,
                format!("it may be staged{gives_way}: op-dbus-stage stage {version}"),
            );
        }
        Ok(Staged::AlreadyGood | Staged::AlreadyStaged) => findings.ok(SUBJECT, "nothing to do"),
        Err(refusal) => refused(&refusal, findings),
    }
}

/// Why it would be refused. That another trial runs is no fault of this version.
fn refused(refusal: &Refusal, findings: &mut Findings) {
    let text = refusal.to_string();
    let (why, remedy) = text
        .split_once("; ")
        .unwrap_or((&text, "see: op-dbus-stage status"));
    if let Refusal::TrialRunning(_) = refusal {
        findings.warning(SUBJECT, why, remedy);
    } else {
        findings.error(
            Exit::Refused,
            SUBJECT,
            format!("it would be refused: {why}"),
            remedy,
        );
    }
}

/// What is the same for every version is to be there before it boots.
fn shared(host: &Host, case: &Case, findings: &mut Findings) {
    for path in &case.config.overlay.shared_paths {
        let place = host.context.layout.shared(path);
        if !op_dbus_btrfs::is_subvolume(&place).unwrap_or(false) {
            findings.warning(
                "shared paths",
                format!("{path} is in shared_paths, and {} is not there: the version's own would be used", place.display()),
                "make it: op-dbus-stage prepare",
            );
        }
    }
}

fn room(free: u64, kept: u64, findings: &mut Findings) {
    if free < kept {
        findings.warning(
            "space",
            format!(
                "{} MiB free: changes made while it runs may not be kept",
                free >> 20
            ),
            "op-dbus-stage prune --dry-run, then: op-dbus-stage prune",
        );
    } else {
        findings.ok("space", format!("{} MiB free for its overlay", free >> 20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::found;
    use crate::findings::Severity::{Error, Ok, Warning};
    use op_dbus_bootstate::quarantine::Cause;

    #[test]
    fn refusals_are_told_with_their_remedies() {
        let version = || "v1.0.0".parse().unwrap();
        for (refusal, severity, words) in [
            (
                Refusal::Quarantined {
                    version: version(),
                    cause: Cause::TriesExhausted,
                },
                Error,
                "is quarantined",
            ),
            (
                Refusal::EpochBelowFloor {
                    version: version(),
                    epoch: 1,
                    floor: 2,
                },
                Error,
                "below this device's floor 2",
            ),
            (Refusal::TrialRunning(version()), Warning, "v1.0.0"),
        ] {
            let told = found(|findings| refused(&refusal, findings));
            assert!(
                told[0].0 == severity && told[0].1.contains(words),
                "{told:?}"
            );
        }
    }

    #[test]
    fn room_for_changes() {
        assert_eq!(
            found(|findings| room(1 << 20, 1 << 25, findings))[0].0,
            Warning
        );
        assert_eq!(found(|findings| room(1 << 25, 1 << 25, findings))[0].0, Ok);
    }
}
