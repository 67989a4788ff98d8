//! Which numbers there are: `docs/METRICS.md` has the table.

use op_dbus_bootstate::ending::Ending;
use op_dbus_bootstate::record::Record;

use super::counts::{self, CONDEMNED, Counter, PASSED_OVER};
use super::exposition::{Family, Kind};
use crate::commands::status::collect::{self, Facts};
use crate::commands::status::condition::{self, Condition};
use crate::context::Context;
use crate::verdict;

/// Milliseconds in a second, and microseconds.
const MS: f64 = 1e3;
const US: f64 = 1e6;

/// Everything, in the order of the text.
pub(super) fn families(context: &Context, counter: &mut Counter) -> Vec<Family> {
    let facts = collect::collect_with(context, |line, head| counter.line(line, head));
    let mut families = vec![program(), conditions(&facts), versions(&facts)];
    if let Some(record) = &facts.record {
        families.extend(limits(record));
    }
    families.extend(counted(&facts, counter.counts()));
    families.extend(activation(&facts));
    families.extend(health(context, &facts));
    families.extend(store(context, &facts));
    families.extend(records(&facts));
    families.retain(|family| family.len() > 0);
    families
}

fn gauge(name: &'static str, help: &'static str) -> Family {
    Family::new(Kind::Gauge, name, help)
}

fn counter(name: &'static str, help: &'static str) -> Family {
    Family::new(Kind::Counter, name, help)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53, which is 285 years in microseconds"
)]
fn number(count: u64) -> f64 {
    count as f64
}

fn size(count: usize) -> f64 {
    number(count as u64)
}

fn program() -> Family {
    let version = env!("CARGO_PKG_VERSION");
    gauge(
        "op_dbus_info",
        "Version of op-dbus-stage, which wrote this.",
    )
    .with([("program_version", version)], 1.0)
}

fn conditions(facts: &Facts) -> Family {
    let (now, _) = condition::of(facts);
    let family = gauge(
        "op_dbus_condition",
        "How the device does: 1 for what applies.",
    );
    Condition::ALL.into_iter().fold(family, |family, one| {
        family.with([("condition", one.word())], f64::from(u8::from(one == now)))
    })
}

fn versions(facts: &Facts) -> Family {
    let mut family = gauge("op_dbus_version_info", "Which version has which role.");
    let running = facts.activation.as_ref().filter(|_| facts.is_this_boot());
    if let Some((version, digest)) = running.and_then(|now| now.version.as_ref().zip(now.digest)) {
        let digest = digest.to_string();
        family = family.with(
            [
                ("role", "running"),
                ("version", version.as_str()),
                ("digest", &digest),
            ],
            1.0,
        );
    }
    for (slot, held) in facts.record.iter().flat_map(Record::deployments) {
        let (role, digest) = (slot.to_string(), held.digest.to_string());
        family = family.with(
            [
                ("role", &role),
                ("version", held.version.as_str()),
                ("digest", &digest),
            ],
            1.0,
        );
    }
    family
}

fn limits(record: &Record) -> Vec<Family> {
    let trial = record.trial.as_ref();
    vec![
        gauge(
            "op_dbus_trial_tries_left",
            "Boots the version on trial may still use.",
        )
        .is(trial.map(|trial| trial.tries_left.into())),
        gauge(
            "op_dbus_trial_refunds_left",
            "Orderly shutdowns that may still give a try back.",
        )
        .is(trial.map(|trial| trial.refunds_left.into())),
        gauge(
            "op_dbus_unblessed_boots",
            "Boots of a role in a row without a verdict.",
        )
        .with([("role", "good")], record.good_unblessed.into())
        .with([("role", "fallback")], record.fallback_unblessed.into()),
        gauge(
            "op_dbus_quarantined_versions",
            "Versions that must not run.",
        )
        .is(Some(size(record.quarantine.entries().len()))),
    ]
}

/// What the log tells. Reasons that have not happened are there as zeros: an
/// increase from nothing is none.
fn counted(facts: &Facts, counts: &counts::Counts) -> Vec<Family> {
    if facts.store.is_some() {
        return Vec::new();
    }
    let attempts = counter(
        "op_dbus_boot_attempts_total",
        "Boots' dealings with a candidate; role none: nothing was activated.",
    );
    let attempts = counts
        .attempts
        .iter()
        .fold(attempts, |family, (key, count)| {
            let mut words = key.split(' ');
            let mut next = || words.next().unwrap_or_default();
            let labels = [("role", next()), ("outcome", next()), ("reason", next())];
            family.with(labels, number(*count))
        });
    let reasons = PASSED_OVER
        .iter()
        .map(counts::word)
        .chain([CONDEMNED.to_owned()]);
    let fallbacks = counter(
        "op_dbus_fallbacks_total",
        "Boots that ran another version than they should have.",
    );
    let fallbacks = reasons.fold(fallbacks, |family, reason| {
        let count = counts.fallbacks.get(&reason).copied().unwrap_or_default();
        family.with([("reason", &reason)], number(count))
    });
    let verdicts = counter(
        "op_dbus_verdicts_total",
        "Verdicts about boots; refunded: ended in order before there was one.",
    );
    let verdicts =
        ["blessed", "condemned", "refunded"]
            .into_iter()
            .fold(verdicts, |family, verdict| {
                let count = counts.events.get(verdict).copied().unwrap_or_default();
                family.with([("verdict", verdict)], number(count))
            });
    let all = [
        Ending::Orderly,
        Ending::PowerCut,
        Ending::Panic,
        Ending::Watchdog,
        Ending::Unknown,
    ];
    let endings = counter("op_dbus_boot_endings_total", "How boots ended.");
    let endings = all.iter().fold(endings, |family, ending| {
        let ending = ending.to_string();
        let count = counts.endings.get(&ending).copied().unwrap_or_default();
        family.with([("ending", &ending)], number(count))
    });
    let events = counter(
        "op_dbus_audit_events_total",
        "Lines of the audit log, by kind.",
    );
    let events = counts.events.iter().fold(events, |family, (event, count)| {
        family.with([("event", event)], number(*count))
    });
    vec![
        attempts,
        fallbacks,
        counter(
            "op_dbus_rescues_total",
            "Boots that activated nothing though there are versions.",
        )
        .is(Some(number(counts.rescues))),
        verdicts,
        endings,
        events,
        gauge(
            "op_dbus_time_to_bless_seconds",
            "From the begin of a boot to its bless, at the last bless.",
        )
        .is(counts.to_bless_ms.map(|ms| number(ms) / MS)),
    ]
}

fn activation(facts: &Facts) -> Vec<Family> {
    let Some(activation) = facts.activation.as_ref().filter(|_| facts.is_this_boot()) else {
        return Vec::new();
    };
    let steps = gauge(
        "op_dbus_activation_step_seconds",
        "Time each step of this boot's activation took.",
    );
    let steps = activation
        .steps_us
        .iter()
        .fold(steps, |family, (step, us)| {
            family.with([("step", step)], number(*us) / US)
        });
    let degraded = gauge(
        "op_dbus_degraded",
        "What works less well than it should in this boot.",
    );
    let degraded = activation
        .degraded
        .iter()
        .fold(degraded, |family, word| family.with([("what", word)], 1.0));
    vec![
        gauge(
            "op_dbus_activation_seconds",
            "Time this boot's activation took.",
        )
        .is(Some(number(activation.total_us) / US)),
        steps,
        gauge(
            "op_dbus_boot_counted",
            "Whether this boot counts: only then is it blessed or condemned.",
        )
        .is(Some(f64::from(u8::from(activation.counted)))),
        degraded,
    ]
}

/// What the health check said in this boot.
fn health(context: &Context, facts: &Facts) -> Vec<Family> {
    let running = facts.activation.as_ref().filter(|_| facts.is_this_boot());
    let Some(running) = running.and_then(op_dbus_activator::activation::Activation::running) else {
        return Vec::new();
    };
    let Ok(Some(said)) = verdict::said(context, &running) else {
        return Vec::new();
    };
    let failing = gauge(
        "op_dbus_check_failing",
        "Checks that fail, by the last health verdict of this boot.",
    );
    let failing = said.failures.iter().fold(failing, |family, failed| {
        let kind = failed.kind.to_string();
        family.with([("check", failed.check.as_str()), ("kind", &kind)], 1.0)
    });
    vec![
        gauge(
            "op_dbus_health_verdict_info",
            "The last health verdict of this boot.",
        )
        .with([("verdict", said.verdict.to_string().as_str())], 1.0),
        failing,
    ]
}

fn store(context: &Context, facts: &Facts) -> Vec<Family> {
    let readable = facts.store.is_none();
    let mut families = vec![
        gauge(
            "op_dbus_store_readable",
            "Whether the store is there and can be read.",
        )
        .is(Some(f64::from(u8::from(readable)))),
    ];
    if !readable {
        return families;
    }
    if let Ok(found) = rustix::fs::statvfs(&context.layout.store) {
        let bytes = |blocks: u64| Some(number(blocks.saturating_mul(found.f_frsize)));
        families.push(
            gauge(
                "op_dbus_store_size_bytes",
                "Size of the store's file system.",
            )
            .is(bytes(found.f_blocks)),
        );
        families.push(
            gauge("op_dbus_store_free_bytes", "Space free in it for data.")
                .is(bytes(found.f_bavail)),
        );
    }
    let sizes = gauge(
        "op_dbus_version_size_bytes",
        "Content of each version in the store.",
    );
    families.push(facts.versions.iter().fold(sizes, |family, known| {
        family.with(
            [("version", known.deployment.version.as_str())],
            number(known.bytes),
        )
    }));
    let defects = facts.versions.iter().filter(|known| known.defect.is_some());
    families.push(
        gauge(
            "op_dbus_defective_versions",
            "Versions that are not what was published.",
        )
        .is(Some(size(defects.count()))),
    );
    families
}

fn records(facts: &Facts) -> Vec<Family> {
    let mut families = vec![
        gauge("op_dbus_problems", "Problems that status lists.")
            .is(Some(size(facts.problems.len()))),
        gauge(
            "op_dbus_release_keys",
            "Certificates that may sign releases now.",
        )
        .is(facts.keys.map(size)),
    ];
    if facts.store.is_some() {
        return families;
    }
    let is_sound = matches!(facts.state, "intact" | "stale-copy");
    let truth = |holds: bool| Some(f64::from(u8::from(holds)));
    families.push(
        gauge(
            "op_dbus_record_sound",
            "Whether no copy of the boot record is lost.",
        )
        .is(truth(is_sound)),
    );
    families.push(
        gauge("op_dbus_record_state_info", "The boot record's state.")
            .with([("state", facts.state)], 1.0),
    );
    families.push(
        gauge("op_dbus_audit_sound", "Whether the audit log verifies.")
            .is(truth(facts.audit_lines.is_some())),
    );
    families.push(
        counter(
            "op_dbus_audit_lines_total",
            "Lines written to the audit log.",
        )
        .is(facts.audit_lines.map(number)),
    );
    let missed = facts.record.as_ref().map(|record| record.audit.missed);
    families.push(
        counter(
            "op_dbus_audit_missed_total",
            "Transitions that could not be logged.",
        )
        .is(missed.map(f64::from)),
    );
    families
}
