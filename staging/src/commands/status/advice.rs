//! What to do next, in words.

use op_dbus_activator::activation::{Activation, Outcome, Source};
use op_dbus_activator::overlay::word;
use op_dbus_bootstate::Slot;
use op_dbus_bootstate::record::{Next, Record};

use super::collect::Facts;

/// The sentences, the most urgent first. Never empty.
pub(crate) fn next(facts: &Facts) -> Vec<String> {
    let mut says = Vec::new();
    if facts.store.is_some() {
        says.push("The store can't be read. Look at its device (journalctl -b -t kernel, blkid); mount it with: op-dbus-stage prepare".to_owned());
        return says;
    }
    about_record(facts, &mut says);
    if facts.keys == Some(0) {
        says.push("No release can be received: add the key it is signed with: op-dbus-stage prepare --key FILE".to_owned());
    }
    let Some(record) = &facts.record else {
        return says;
    };
    about_boot(facts, record, &mut says);
    about_versions(facts, record, &mut says);
    about_failure(facts, record, &mut says);
    if says.is_empty() {
        says.push("Nothing to do.".to_owned());
    }
    says
}

/// The version that was to become good and did not.
fn about_failure(facts: &Facts, record: &Record, says: &mut Vec<String>) {
    if record.trial.is_some() {
        return;
    }
    if let Some(entry) = facts.taken_back() {
        says.push(format!(
            "{} failed on this device ({}). Tell its maker why; then receive and stage the version that mends it. All of it: op-dbus-stage audit log",
            entry.version,
            entry.cause.words()
        ));
    }
}

fn about_record(facts: &Facts, says: &mut Vec<String>) {
    match facts.state {
        "newer-format" => says.push(
            "Use the op-dbus-stage of the newer release; this one changes nothing.".to_owned(),
        ),
        "missing" => says.push(
            "Stage a version, or reboot: the boot record is rebuilt from the audit log.".to_owned(),
        ),
        _ => {}
    }
}

fn about_boot(facts: &Facts, record: &Record, says: &mut Vec<String>) {
    let Some(activation) = facts.activation.as_ref() else {
        return;
    };
    match activation.outcome {
        Outcome::Off => says.push("op-dbus=off is on the kernel command line: nothing is active. Remove it and reboot.".to_owned()),
        Outcome::Rescue if activation.source == Source::CommandLine => {
            says.push("op-dbus.select= on the kernel command line chose no version. Remove it and reboot.".to_owned());
        }
        Outcome::Rescue | Outcome::Failed if record.good.is_some() => says.push(
            "No version is active. Stage one that works, or reboot: the next boot gives the good version one attempt.".to_owned(),
        ),
        Outcome::Rescue | Outcome::Failed => says.push("No version is active, and none is good. Receive and stage one that works, then reboot.".to_owned()),
        Outcome::Activated if activation.slot == Some(Slot::Named) || activation.source == Source::CommandLine => {
            says.push("This boot's version was chosen on the kernel command line and can't be blessed. Remove op-dbus.select= and reboot.".to_owned());
        }
        Outcome::Activated => {}
    }
    for degraded in &activation.degraded {
        says.push(match degraded.as_str() {
            word::OVERLAY_READ_ONLY | word::OVERLAY_NOT_WRITABLE => "Changes below the overlay are not kept: free space in the store (op-dbus-stage prune), or look at why it is read-only (journalctl -k), then reboot.".to_owned(),
            word::STORE_READ_ONLY => "The store is read-only: no boot is counted and no trial runs. Look at the medium (journalctl -k).".to_owned(),
            other => format!("This boot is degraded ({other}): see journalctl -k -g op-dbus"),
        });
    }
    let verdict = record
        .last_boot
        .as_ref()
        .filter(|last| Some(last.boot_id) == facts.boot_id)
        .and_then(|last| last.verdict);
    let version = activation
        .version
        .as_ref()
        .map_or_else(|| "The running version".to_owned(), ToString::to_string);
    match verdict {
        Some(Next::Reboot) => says.push(format!("{version} was judged unhealthy in this boot. Reboot: another choice is next.")),
        Some(Next::StayUp) => says.push(format!("{version} was judged unhealthy and nothing better is left. Receive and stage a version that works.")),
        None => {}
    }
}

fn about_versions(facts: &Facts, record: &Record, says: &mut Vec<String>) {
    let runs = facts
        .activation
        .as_ref()
        .filter(|_| facts.is_this_boot())
        .and_then(Activation::running);
    if let Some(trial) = &record.trial {
        let version = &trial.deployment.version;
        let is_running = runs.as_ref().is_some_and(|running| {
            running.slot == Slot::Trial && running.digest == trial.deployment.digest
        });
        says.push(if is_running {
            format!("{version} is on trial in this boot. It becomes good when its health check passes; by hand: op-dbus-stage bless, or op-dbus-stage condemn --reboot")
        } else if trial.tries_left == 0 {
            format!("{version} has used up its tries: the next boot quarantines it and takes the good version.")
        } else {
            format!("Reboot to try {version} ({} tries left); to take it back: op-dbus-stage cancel", trial.tries_left)
        });
        return;
    }
    if record.good.is_none() && record.fallback.is_none() {
        says.push(match facts.versions.first() {
            Some(known) => format!(
                "No version is good yet. Put one on trial: op-dbus-stage stage {}",
                known.deployment.version
            ),
            None => {
                "No version is in the store. Receive one: op-dbus-stage receive FILE".to_owned()
            }
        });
    } else if runs
        .as_ref()
        .is_some_and(|running| running.slot == Slot::Fallback)
    {
        says.push(
            "The fallback version runs because the good one failed. Stage a version that works."
                .to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::record::{Origin, Trial};
    use op_dbus_bootstate::{BootId, Deployment, Digest, Identity, Uuid};

    fn deployment() -> Deployment {
        let identity = Identity {
            uuid: Uuid([1; 16]),
            received_uuid: Uuid([2; 16]),
            ctransid: 1,
            rtransid: 1,
        };
        Deployment {
            version: "v1.0.0".parse().unwrap(),
            digest: Digest([1; 32]),
            identity,
            epoch: 0,
        }
    }

    fn facts(record: Record, activation: Option<Activation>) -> Facts {
        Facts {
            state: "intact",
            record: Some(record),
            activation,
            boot_id: Some(BootId([1; 16])),
            ..Facts::default()
        }
    }

    fn rescue() -> Activation {
        Activation::new(Outcome::Rescue, "x")
    }

    #[test]
    fn says_the_one_thing_that_matters() {
        let good = Record {
            good: Some(deployment()),
            ..Record::default()
        };
        let trial = Trial {
            deployment: deployment(),
            tries_left: 3,
            refunds_left: 3,
            attempts: 0,
            origin: Origin::Stage,
        };
        let staged = Record {
            trial: Some(trial),
            ..Record::default()
        };
        let cases = [
            (facts(Record::default(), None), "op-dbus-stage receive FILE"),
            (facts(good.clone(), None), "Nothing to do."),
            (facts(staged, None), "Reboot to try v1.0.0 (3 tries left)"),
            (
                facts(good, Some(rescue())),
                "gives the good version one attempt",
            ),
            (facts(Record::default(), Some(rescue())), "none is good"),
            (
                Facts {
                    store: Some("gone".to_owned()),
                    ..Facts::default()
                },
                "The store can't be read",
            ),
            (
                Facts {
                    state: "missing",
                    ..Facts::default()
                },
                "rebuilt from the audit log",
            ),
        ];
        for (facts, expected) in cases {
            let says = next(&facts);
            assert!(
                says.first().is_some_and(|first| first.contains(expected)),
                "{expected}: {says:?}"
            );
        }
    }
}
