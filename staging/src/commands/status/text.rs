//! Status for people: short lines, the names in one column.

use op_dbus_activator::activation::Outcome;
use op_dbus_activator::overlay::{Begin, OverlayReport};
use op_dbus_bootstate::Deployment;
use op_dbus_bootstate::record::{Choice, Next, Record};

use super::collect::{Facts, Known};

/// The lines.
pub(crate) fn lines(facts: &Facts, next: &[String]) -> Vec<String> {
    let mut lines = running(facts);
    if let Some(record) = &facts.record {
        roles(facts, record, &mut lines);
    }
    if let Some(keys) = facts.keys {
        let words = match keys {
            0 => "none: no release can be received".to_owned(),
            1 => "1 may sign".to_owned(),
            keys => format!("{keys} may sign"),
        };
        lines.push(row("Release keys", words));
    }
    if facts.store.is_none() {
        let sequence = facts.record.as_ref().map_or_else(String::new, |record| {
            format!(", sequence {}", record.sequence)
        });
        lines.push(row("Boot record", format!("{}{sequence}", facts.state)));
        let count = facts.audit_lines.map_or_else(
            || "does not verify".to_owned(),
            |count| format!("{count} lines, sound"),
        );
        lines.push(row("Audit log", count));
        for (index, known) in facts.versions.iter().enumerate() {
            lines.push(row(
                if index == 0 { "Versions" } else { "" },
                version(facts, known),
            ));
        }
    }
    list(&mut lines, "Problems", &facts.problems);
    list(&mut lines, "What to do next", next);
    lines
}

fn row(name: &str, value: impl AsRef<str>) -> String {
    format!("{name:<12} {}", value.as_ref())
}

fn list(lines: &mut Vec<String>, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push(format!("{title}:"));
    lines.extend(items.iter().map(|item| format!("  - {item}")));
}

fn running(facts: &Facts) -> Vec<String> {
    let Some(activation) = &facts.activation else {
        return vec![row(
            "Running",
            "nothing; the activator has not run in this boot",
        )];
    };
    let what = match (&activation.outcome, &activation.version, activation.slot) {
        (Outcome::Activated, Some(version), Some(slot)) => {
            let counted = if activation.counted {
                ""
            } else {
                ", not counted"
            };
            format!("{version} ({slot}{counted}): {}", activation.reason)
        }
        (Outcome::Off, ..) => "nothing: op-dbus=off on the kernel command line".to_owned(),
        (Outcome::Rescue, ..) => format!("nothing, rescue: {}", activation.reason),
        _ => format!("nothing, activation failed: {}", activation.reason),
    };
    let mut lines = vec![row("Running", what)];
    if !facts.is_this_boot() {
        lines.push(row(
            "",
            "(as of another boot: the activator has not run in this one)",
        ));
    }
    changes(activation.overlay.as_ref(), &mut lines);
    if !activation.degraded.is_empty() {
        lines.push(row("Degraded", activation.degraded.join(", ")));
    }
    for failed in &activation.failures {
        lines.push(row(
            "Failed",
            format!("{} ({}): {}", failed.version, failed.slot, failed.reason),
        ));
    }
    lines
}

/// What became of the changes to the version before, where this boot took them
/// along.
fn changes(overlay: Option<&OverlayReport>, lines: &mut Vec<String>) {
    let Some(overlay) = overlay else { return };
    let begin = match overlay.origin {
        Begin::Carried => "taken along from the good version",
        Begin::Empty => "none: this version began without",
        // Nothing was handed over.
        Begin::Own | Begin::Kept => return,
    };
    let Some(plan) = &overlay.plan else {
        return lines.push(row("Changes", begin));
    };
    let more = usize::try_from(plan.more).unwrap_or(usize::MAX);
    let left = match plan.kept.len().saturating_add(more) {
        0 => String::new(),
        kept => format!(", {kept} left as yours:"),
    };
    let applied = plan.applied;
    lines.push(row(
        "Changes",
        format!("{begin}; {applied} conflicts settled as planned{left}"),
    ));
    lines.extend(plan.kept.iter().map(|kept| row("", kept)));
    if plan.more > 0 {
        lines.push(row("", format!("and {} more", plan.more)));
    }
}

fn roles(facts: &Facts, record: &Record, lines: &mut Vec<String>) {
    let name = |held: Option<&Deployment>| {
        held.map_or_else(
            || "none".to_owned(),
            |held| format!("{}  {}", held.version, held.digest.short()),
        )
    };
    let unblessed = |count: u8| match count {
        0 => String::new(),
        1 => ", 1 boot not blessed".to_owned(),
        count => format!(", {count} boots not blessed"),
    };
    lines.push(row(
        "Good",
        name(record.good.as_ref()) + &unblessed(record.good_unblessed),
    ));
    lines.push(row(
        "Fallback",
        name(record.fallback.as_ref()) + &unblessed(record.fallback_unblessed),
    ));
    let trial = record.trial.as_ref().map_or_else(
        || "none".to_owned(),
        |trial| {
            let held = name(Some(&trial.deployment));
            format!(
                "{held}, {} tries left, {} refunds left, {} boots so far",
                trial.tries_left, trial.refunds_left, trial.attempts
            )
        },
    );
    lines.push(row("Trial", trial));
    for (index, entry) in record.quarantine.entries().iter().enumerate() {
        let what = format!(
            "{}  {}, {}",
            entry.version,
            entry.digest.short(),
            entry.cause.words()
        );
        lines.push(row(if index == 0 { "Quarantine" } else { "" }, what));
    }
    if let Some(last) = &record.last_boot {
        let choice = match &last.choice {
            Choice::Rescue => "rescue".to_owned(),
            Choice::Deployment { slot, digest } => format!(
                "{slot} {}",
                facts.name(digest).unwrap_or_else(|| digest.short())
            ),
        };
        let verdict = match last.verdict {
            Some(Next::Reboot) => "; judged unhealthy, reboot ordered",
            Some(Next::StayUp) => "; judged unhealthy, stays up",
            None if last.refunded => "; its try was given back",
            None => "",
        };
        lines.push(row(
            "Last boot",
            format!("{choice}: {}{verdict}", last.reason.sentence()),
        ));
    }
}

fn version(facts: &Facts, known: &Known) -> String {
    let state = known.defect.as_deref().unwrap_or("intact");
    let version = &known.deployment.version;
    let pinned = if facts.pins.contains(version) {
        ", pinned"
    } else {
        ""
    };
    format!(
        "{version}  {}, {} bytes, {}, {state}{pinned}",
        known.deployment.digest.short(),
        known.bytes,
        known.received_at
    )
}
