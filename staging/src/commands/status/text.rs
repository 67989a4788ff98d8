//! Status for people: short lines, the names in one column.

use op_dbus_activator::activation::Outcome;
use op_dbus_activator::overlay::{Begin, OverlayReport};
use op_dbus_bootstate::Deployment;
use op_dbus_bootstate::record::{Choice, Next, Record};

use super::collect::{Facts, Known};
use super::paint::{INDENT, Screen, Spans, Style};
use super::{boots, condition};

/// The screen's lines.
pub(crate) fn lines(facts: &Facts, next: &[String], screen: Screen) -> Vec<String> {
    let (condition, sentence) = condition::of(facts);
    let word = condition.word().replace('-', " ").to_uppercase();
    let head = vec![(condition.style(), format!("{word}:"))];
    let indent = word.len() + 2;
    let mut lines = screen.paragraph(&head, indent, &vec![(Style::Strong, sentence)]);
    lines.push(String::new());
    for row in rows(facts) {
        let name = vec![(Style::Faint, row.name.to_owned())];
        lines.extend(screen.paragraph(&name, INDENT, &row.spans));
    }
    lines.extend(boots::lines(facts, screen));
    list(&mut lines, screen, Style::Bad, "Problems", &facts.problems);
    list(&mut lines, screen, Style::Strong, "What to do next", next);
    lines
}

/// A name and what there is to say.
struct Row {
    name: &'static str,
    spans: Spans,
}

fn row(name: &'static str, value: impl Into<String>) -> Row {
    styled(name, Style::Plain, value)
}

fn styled(name: &'static str, style: Style, value: impl Into<String>) -> Row {
    let spans = vec![(style, value.into())];
    Row { name, spans }
}

fn rows(facts: &Facts) -> Vec<Row> {
    let mut rows = running(facts);
    if let Some(record) = &facts.record {
        roles(facts, record, &mut rows);
    }
    if let Some(keys) = facts.keys {
        rows.push(match keys {
            0 => styled(
                "Release keys",
                Style::Bad,
                "none: no release can be received",
            ),
            keys => row("Release keys", format!("{keys} may sign")),
        });
    }
    if facts.store.is_none() {
        let sequence = facts.record.as_ref().map_or_else(String::new, |record| {
            format!(", sequence {}", record.sequence)
        });
        let style = match facts.state {
            "intact" | "stale-copy" => Style::Plain,
            _ => Style::Bad,
        };
        rows.push(styled(
            "Boot record",
            style,
            format!("{}{sequence}", facts.state),
        ));
        rows.push(match facts.audit_lines {
            Some(count) if facts.audit_is_whole => {
                row("Audit log", format!("{count} lines, sound"))
            }
            Some(count) => row("Audit log", format!("{count} lines, the newest sound")),
            None => styled("Audit log", Style::Bad, "does not verify"),
        });
        for (index, known) in facts.versions.iter().enumerate() {
            let name = if index == 0 { "Versions" } else { "" };
            rows.push(version(facts, known, name));
        }
    }
    rows
}

fn list(lines: &mut Vec<String>, screen: Screen, style: Style, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push(screen.line(&vec![(style, format!("{title}:"))]));
    for item in items {
        let dash = vec![(Style::Plain, "  - ".to_owned())];
        lines.extend(screen.paragraph(&dash, 4, &vec![(Style::Plain, item.clone())]));
    }
}

fn running(facts: &Facts) -> Vec<Row> {
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
        let words = activation.degraded.join(", ");
        lines.push(styled("Degraded", Style::Bad, words));
    }
    for failed in &activation.failures {
        let words = format!("{} ({}): {}", failed.version, failed.slot, failed.reason);
        lines.push(styled("Failed", Style::Bad, words));
    }
    lines
}

/// What became of the changes to the version before, where this boot took them
/// along.
fn changes(overlay: Option<&OverlayReport>, lines: &mut Vec<Row>) {
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
    lines.extend(plan.kept.iter().map(|kept| row("", kept.as_str())));
    if plan.more > 0 {
        lines.push(row("", format!("and {} more", plan.more)));
    }
}

fn roles(facts: &Facts, record: &Record, lines: &mut Vec<Row>) {
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
            let boots = match trial.attempts {
                1 => "1 boot".to_owned(),
                boots => format!("{boots} boots"),
            };
            format!(
                "{held}, {} tries left, {} refunds left, {boots} so far",
                trial.tries_left, trial.refunds_left
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
        if let Some(why) = facts.history.condemned(&entry.digest) {
            lines.push(row("", why));
        }
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

fn version(facts: &Facts, known: &Known, name: &'static str) -> Row {
    let version = &known.deployment.version;
    let pinned = if facts.pins.contains(version) {
        ", pinned"
    } else {
        ""
    };
    let mut spans = vec![(
        Style::Plain,
        format!(
            "{version}  {}, {}, {}, ",
            known.deployment.digest.short(),
            size(known.bytes),
            known.received_at
        ),
    )];
    spans.push(match known.defect.as_deref() {
        None => (Style::Plain, format!("intact{pinned}")),
        Some(defect) => (Style::Bad, format!("{defect}{pinned}")),
    });
    Row { name, spans }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match bytes {
        0..KIB => format!("{bytes} bytes"),
        KIB..MIB => format!("{} KiB", bytes / KIB),
        _ => format!("{} MiB", bytes / MIB),
    }
}
