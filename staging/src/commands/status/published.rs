//! Status as JSON: `docs/status-1.schema.json` is made of these types.
//!
//! A key that is published stays, with its meaning; new ones may come.

use std::collections::{BTreeMap, BTreeSet};

use op_dbus_activator::activation::Activation;
use op_dbus_bootstate::ending::Ending;
use op_dbus_bootstate::quarantine::Cause;
use op_dbus_bootstate::record::{Choice, Next, Origin, Outcome, Reason};
use op_dbus_bootstate::{BootId, Deployment, Digest, Slot, Version};
use op_dbus_integration::report::Report as Imported;
use serde::Serialize;

use super::collect::Facts;
use super::condition::{self, Condition};
#[cfg(test)]
use super::schema;
use crate::boots::{self, Verdict};

/// The schema's number.
pub(super) const SCHEMA: u32 = 1;

/// What `op-dbus-stage status --json` prints: one object on one line.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(title = "Status"))]
pub(crate) struct Status<'f> {
    /// The format of this object.
    #[cfg_attr(test, schemars(schema_with = "schema::number"))]
    schema: u32,
    /// Always `status`.
    #[cfg_attr(test, schemars(schema_with = "schema::command"))]
    command: &'static str,
    /// `ok`, or `attention` where there are problems.
    #[cfg_attr(test, schemars(schema_with = "schema::result"))]
    result: &'static str,
    /// How the device does, in a word.
    condition: Condition,
    /// The same in a sentence.
    headline: String,
    /// What to do next, a sentence each, the most urgent first.
    next: &'f [String],
    /// What is wrong, a sentence each.
    problems: &'f [String],
    /// `/run/op-dbus/activation.json`: what a boot activated, and why; null: the
    /// activator has not run.
    #[cfg_attr(test, schemars(schema_with = "schema::activation"))]
    activation: Option<&'f Activation>,
    /// Whether `activation` is of this boot.
    this_boot: bool,
    /// What the host took of the version's files, and what it refused.
    #[cfg_attr(test, schemars(schema_with = "schema::import"))]
    import: Option<&'f Imported>,
    /// Why the store can't be read; null: it can.
    store: Option<&'f str>,
    /// The boot record.
    record: RecordState<'f>,
    /// The version that proved itself last.
    good: Option<Held<'f>>,
    /// The good version before it.
    fallback: Option<Held<'f>>,
    /// The version on probation.
    trial: Option<Trial<'f>>,
    /// Versions that must not run, oldest first; null: not known.
    quarantine: Option<Vec<Quarantined<'f>>>,
    /// Security epochs below it are not staged.
    epoch_floor: Option<u32>,
    /// Boots of good in a row without a verdict.
    good_unblessed: Option<u8>,
    /// Likewise of fallback.
    fallback_unblessed: Option<u8>,
    /// The last boot that was counted.
    last_boot: Option<LastBoot<'f>>,
    /// The last boots, newest first, as the audit log tells of them.
    boots: Vec<Boot<'f>>,
    /// The versions of the store, newest first.
    versions: Vec<Known<'f>>,
    /// Versions that are pinned, also ones that are gone.
    #[cfg_attr(test, schemars(schema_with = "schema::versions"))]
    pins: &'f BTreeSet<Version>,
    /// The audit log.
    audit: Audit,
    /// Certificates that may sign releases now; null: not known.
    release_keys: Option<usize>,
}

/// The boot record.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RecordState<'f> {
    /// Its state, in a word.
    #[cfg_attr(test, schemars(schema_with = "schema::record_state"))]
    state: &'static str,
    /// Raised by every change.
    sequence: Option<u64>,
    /// Of each copy, what is in it.
    copies: BTreeMap<&'static str, &'f str>,
}

/// A version in a role.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Held<'f> {
    /// Its name.
    #[cfg_attr(test, schemars(schema_with = "schema::version"))]
    version: &'f Version,
    /// SHA-256 of its tree.
    #[cfg_attr(test, schemars(schema_with = "schema::digest"))]
    digest: Digest,
    /// Its security epoch.
    epoch: u32,
}

/// A version on probation.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Trial<'f> {
    /// Its name.
    #[cfg_attr(test, schemars(schema_with = "schema::version"))]
    version: &'f Version,
    /// SHA-256 of its tree.
    #[cfg_attr(test, schemars(schema_with = "schema::digest"))]
    digest: Digest,
    /// Its security epoch.
    epoch: u32,
    /// Boots it may still use.
    tries_left: u8,
    /// Orderly shutdowns that may still give a try back.
    refunds_left: u8,
    /// Boots it has used, refunded ones included.
    attempts: u8,
    /// How it came to be on trial.
    #[cfg_attr(test, schemars(schema_with = "schema::origin"))]
    origin: Origin,
}

/// A version that must not run.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Quarantined<'f> {
    /// SHA-256 of its tree.
    #[cfg_attr(test, schemars(schema_with = "schema::digest"))]
    digest: Digest,
    /// The name it had.
    #[cfg_attr(test, schemars(schema_with = "schema::version"))]
    version: &'f Version,
    /// Why.
    #[cfg_attr(test, schemars(schema_with = "schema::cause"))]
    cause: Cause,
    /// Why it was judged unhealthy, if it was, and the log still tells.
    detail: Option<&'f str>,
}

/// The last boot that was counted.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LastBoot<'f> {
    /// The kernel's id of it.
    #[cfg_attr(test, schemars(schema_with = "schema::boot_id"))]
    boot_id: BootId,
    /// In which role its version ran; null: rescue.
    #[cfg_attr(test, schemars(schema_with = "schema::slot"))]
    slot: Option<Slot>,
    /// SHA-256 of the version's tree.
    #[cfg_attr(test, schemars(schema_with = "schema::maybe_digest"))]
    digest: Option<Digest>,
    /// The version's name, where it is known.
    version: Option<String>,
    /// Why it chose so, in a word.
    #[cfg_attr(test, schemars(schema_with = "schema::reason"))]
    reason: Reason,
    /// The same in a sentence.
    sentence: &'f str,
    /// Whether its orderly shutdown gave the try back.
    refunded: bool,
    /// What was ordered when its health was judged bad.
    #[cfg_attr(test, schemars(schema_with = "schema::verdict"))]
    verdict: Option<Next>,
}

/// A boot. What is not known of it is null.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the published keys")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Boot<'f> {
    /// The kernel's id of it.
    #[cfg_attr(test, schemars(schema_with = "schema::boot_id"))]
    boot_id: BootId,
    /// Whether it is this one.
    this_boot: bool,
    /// When it was, by the device's clock: a claim.
    time: Option<&'f str>,
    /// When it was first told of, maybe by a later boot: a claim.
    logged: Option<&'f str>,
    /// In which role its version ran; null: nothing was activated, or not known.
    #[cfg_attr(test, schemars(schema_with = "schema::slot"))]
    slot: Option<Slot>,
    /// Whether nothing was activated.
    rescue: bool,
    /// The version's name.
    version: Option<String>,
    /// SHA-256 of its tree.
    #[cfg_attr(test, schemars(schema_with = "schema::maybe_digest"))]
    digest: Option<Digest>,
    /// Why it chose so, in a word.
    #[cfg_attr(test, schemars(schema_with = "schema::maybe_reason"))]
    reason: Option<Reason>,
    /// The same in a sentence.
    sentence: Option<&'static str>,
    /// Whom it passed over.
    passed: Vec<Passed>,
    /// What was decided about it.
    verdict: Option<Verdict>,
    /// Milliseconds from its begin to the verdict.
    verdict_ms: Option<u64>,
    /// Why it was condemned.
    why: Option<&'f str>,
    /// How it ended.
    #[cfg_attr(test, schemars(schema_with = "schema::ending"))]
    ending: Option<Ending>,
    /// The same in a sentence.
    ending_sentence: Option<&'f str>,
    /// The last words of its kernel, if it panicked and they were kept.
    console: Option<Console<'f>>,
}

/// The last words of a kernel.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Console<'f> {
    /// The file that has all that was kept.
    path: String,
    /// The last lines.
    last: &'f [String],
}

/// A candidate that a boot passed over.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Passed {
    /// In which role.
    #[cfg_attr(test, schemars(schema_with = "schema::slot"))]
    slot: Option<Slot>,
    /// Its name.
    version: Option<String>,
    /// SHA-256 of its tree.
    #[cfg_attr(test, schemars(schema_with = "schema::maybe_digest"))]
    digest: Option<Digest>,
    /// What was wrong with it.
    #[cfg_attr(test, schemars(schema_with = "schema::outcome"))]
    outcome: Outcome,
}

/// A version of the store.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Known<'f> {
    /// Its name.
    #[cfg_attr(test, schemars(schema_with = "schema::version"))]
    version: &'f Version,
    /// SHA-256 of its tree.
    #[cfg_attr(test, schemars(schema_with = "schema::digest"))]
    digest: Digest,
    /// Its security epoch.
    epoch: u32,
    /// Its size in bytes.
    bytes: u64,
    /// When it was received, by the device's clock.
    received_at: &'f str,
    /// Whether the operator pinned it.
    pinned: bool,
    /// Whether its subvolume is the one that was published.
    intact: bool,
    /// What is wrong with it.
    defect: Option<&'f str>,
}

/// The audit log.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Audit {
    /// Lines written so far; null: it does not verify.
    lines: Option<u64>,
    /// Whether all of it was read; else the newest segments were. All of a long
    /// one is `audit verify`'s.
    whole: bool,
    /// Transitions that could not be logged.
    missed: Option<u32>,
}

impl<'f> Status<'f> {
    /// What there is to tell.
    pub(crate) fn new(facts: &'f Facts, next: &'f [String]) -> Self {
        let record = facts.record.as_ref();
        let (condition, headline) = condition::of(facts);
        let copies = facts.copies.iter();
        Self {
            schema: SCHEMA,
            command: "status",
            result: if facts.problems.is_empty() {
                "ok"
            } else {
                "attention"
            },
            condition,
            headline,
            next,
            problems: &facts.problems,
            activation: facts.activation.as_ref(),
            this_boot: facts.is_this_boot(),
            import: facts.imported.as_ref(),
            store: facts.store.as_deref(),
            record: RecordState {
                state: facts.state,
                sequence: record.map(|record| record.sequence),
                copies: copies.map(|(name, word)| (*name, word.as_str())).collect(),
            },
            good: record
                .and_then(|record| record.good.as_ref())
                .map(Held::new),
            fallback: record
                .and_then(|record| record.fallback.as_ref())
                .map(Held::new),
            trial: record
                .and_then(|record| record.trial.as_ref())
                .map(|trial| Trial {
                    version: &trial.deployment.version,
                    digest: trial.deployment.digest,
                    epoch: trial.deployment.epoch,
                    tries_left: trial.tries_left,
                    refunds_left: trial.refunds_left,
                    attempts: trial.attempts,
                    origin: trial.origin,
                }),
            quarantine: record.map(|record| {
                let entries = record.quarantine.entries().iter();
                let told = entries.map(|entry| Quarantined {
                    digest: entry.digest,
                    version: &entry.version,
                    cause: entry.cause,
                    detail: facts.history.condemned(&entry.digest),
                });
                told.collect()
            }),
            epoch_floor: record.map(|record| record.epoch_floor),
            good_unblessed: record.map(|record| record.good_unblessed),
            fallback_unblessed: record.map(|record| record.fallback_unblessed),
            last_boot: last_boot(facts),
            boots: facts
                .history
                .boots()
                .iter()
                .take(super::boots::SHOWN)
                .map(|boot| Boot::new(facts, boot))
                .collect(),
            versions: facts
                .versions
                .iter()
                .map(|known| Known {
                    version: &known.deployment.version,
                    digest: known.deployment.digest,
                    epoch: known.deployment.epoch,
                    bytes: known.bytes,
                    received_at: &known.received_at,
                    pinned: facts.pins.contains(&known.deployment.version),
                    intact: known.defect.is_none(),
                    defect: known.defect.as_deref(),
                })
                .collect(),
            pins: &facts.pins,
            audit: Audit {
                lines: facts.audit_lines,
                whole: facts.audit_is_whole,
                missed: record.map(|record| record.audit.missed),
            },
            release_keys: facts.keys,
        }
    }
}

impl<'f> Held<'f> {
    fn new(held: &'f Deployment) -> Self {
        Self {
            version: &held.version,
            digest: held.digest,
            epoch: held.epoch,
        }
    }
}

fn last_boot(facts: &Facts) -> Option<LastBoot<'_>> {
    let last = facts.record.as_ref()?.last_boot.as_ref()?;
    let (slot, digest) = match last.choice {
        Choice::Deployment { slot, digest } => (Some(slot), Some(digest)),
        Choice::Rescue => (None, None),
    };
    Some(LastBoot {
        boot_id: last.boot_id,
        slot,
        digest,
        version: digest.and_then(|digest| facts.name(&digest)),
        reason: last.reason,
        sentence: last.reason.sentence(),
        refunded: last.refunded,
        verdict: last.verdict,
    })
}

/// The name of a version, by the log or by what is held.
fn named(facts: &Facts, version: Option<&Version>, digest: Option<Digest>) -> Option<String> {
    let logged = version.map(ToString::to_string);
    logged.or_else(|| digest.and_then(|digest| facts.name(&digest)))
}

impl<'f> Boot<'f> {
    fn new(facts: &'f Facts, boot: &'f boots::Boot) -> Self {
        let passed = boot.passed.iter().map(|passed| Passed {
            slot: passed.slot,
            version: named(facts, passed.version.as_ref(), passed.digest),
            digest: passed.digest,
            outcome: passed.outcome,
        });
        Self {
            boot_id: boot.boot_id,
            this_boot: Some(boot.boot_id) == facts.boot_id,
            time: boot.time.as_deref(),
            logged: boot.logged.as_deref(),
            slot: boot.slot,
            rescue: boot.is_known && boot.slot.is_none(),
            version: named(facts, boot.version.as_ref(), boot.digest),
            digest: boot.digest,
            reason: boot.reason,
            sentence: boot.reason.map(Reason::sentence),
            passed: passed.collect(),
            verdict: boot.verdict,
            verdict_ms: boot.verdict_ms,
            why: boot.why.as_deref(),
            ending: boot.ending,
            ending_sentence: boot.ending_words.as_deref(),
            console: facts.console(boot.boot_id).map(|console| Console {
                path: console.path.to_string_lossy().into_owned(),
                last: &console.lines,
            }),
        }
    }
}
