//! What there is to tell.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::SystemTime;

use op_dbus_activator::activation::{Activation, Outcome, Source};
use op_dbus_activator::files;
use op_dbus_activator::identity::{self, Check};
use op_dbus_activator::records::Records;
use op_dbus_bootstate::audit::{AuditHead, Line};
use op_dbus_bootstate::quarantine::Entry;
use op_dbus_bootstate::record::Reason;
use op_dbus_bootstate::store::{self, Copy, Loaded, Reading, Verdict};
use op_dbus_bootstate::{BootId, Deployment, Digest, Record, Version};
use op_dbus_integration::report::Report as Imported;

use crate::auditlog::{AuditLog, State};
use crate::boots::{Boot, History, tail};
use crate::context::Context;
use crate::deployments::Deployments;
use crate::ended::console;
use crate::pins;
use crate::settings::Settings;
use crate::signed;

/// Lines of a kernel's last words that are shown.
const LAST_WORDS: usize = 3;

/// A version of the store.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// What it is.
    pub(crate) deployment: Deployment,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// When it was received, by the device's clock.
    pub(crate) received_at: String,
    /// What is wrong with it, if anything.
    pub(crate) defect: Option<String>,
}

/// The last words of a kernel that panicked.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    /// In which boot.
    pub(crate) boot_id: BootId,
    /// Where all that is kept of them is.
    pub(crate) path: PathBuf,
    /// The last lines.
    pub(crate) lines: Vec<String>,
}

/// Everything status knows.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Why the store can't be read; nothing below it is known then.
    pub(crate) store: Option<String>,
    /// What this boot activated.
    pub(crate) activation: Option<Activation>,
    /// What was taken up from the version, and what was refused.
    pub(crate) imported: Option<Imported>,
    /// The kernel's id of this boot.
    pub(crate) boot_id: Option<BootId>,
    /// The record's state, in a word.
    pub(crate) state: &'static str,
    /// Of each copy, its state.
    pub(crate) copies: Vec<(&'static str, String)>,
    /// The record.
    pub(crate) record: Option<Record>,
    /// The versions of the store, newest first.
    pub(crate) versions: Vec<Known>,
    /// Versions that are pinned, also ones that are gone.
    pub(crate) pins: BTreeSet<Version>,
    /// Lines of the audit log, if it is sound.
    pub(crate) audit_lines: Option<u64>,
    /// Whether all of it was read.
    pub(crate) audit_is_whole: bool,
    /// Last words of kernels that panicked, by boot.
    pub(crate) consoles: Vec<Console>,
    /// The last boots, as the audit log tells of them.
    pub(crate) history: History,
    /// Release keys that can sign, and have not ended by this device's clock.
    pub(crate) keys: Option<usize>,
    /// What is wrong, a sentence each.
    pub(crate) problems: Vec<String>,
}

/// What is called with each line of the audit log, and the head with it.
type Each<'e> = &'e mut dyn FnMut(&Line, &AuditHead);

/// Looks at everything; of a long audit log only at the newest segments.
pub(crate) fn collect(context: &Context) -> Facts {
    look(context, None)
}

/// Likewise, and at the whole log, handing each of its lines, and the head with
/// it, to `each` as it is verified.
pub(crate) fn collect_with(context: &Context, mut each: impl FnMut(&Line, &AuditHead)) -> Facts {
    look(context, Some(&mut each))
}

fn look(context: &Context, each: Option<Each<'_>>) -> Facts {
    let mut facts = Facts {
        state: "unreadable",
        ..Facts::default()
    };
    match context.config() {
        Ok(_) => keys(context, &mut facts),
        Err(why) => facts.problems.push(why.to_string()),
    }
    match context.boot_id() {
        Ok(boot_id) => facts.boot_id = Some(boot_id),
        Err(why) => facts.problems.push(why.to_string()),
    }
    match context.activation() {
        Ok(activation) => facts.activation = activation,
        Err(why) => facts.problems.push(why.to_string()),
    }
    imported(context, &mut facts);
    if let Err(why) = context.require_store() {
        facts.store = Some(why.to_string());
        facts.problems.push(why.to_string());
        return facts;
    }
    record(context, &mut facts);
    versions(context, &mut facts);
    pinned(context, &mut facts);
    audit(context, &mut facts, each);
    history(context, &mut facts);
    consoles(context, &mut facts);
    facts
}

/// The last boots. A log that can't be read is a problem already.
fn history(context: &Context, facts: &mut Facts) {
    let (lines, _) = tail::read(&context.layout, tail::BUDGET);
    let waiting = facts.record.as_ref().map(|record| &record.attempts);
    let mut history = History::new(&lines, waiting.map_or(&[], Vec::as_slice));
    if facts.is_this_boot() {
        let boots = history.boots_mut();
        let this = boots
            .iter()
            .position(|boot| Some(boot.boot_id) == facts.boot_id);
        if let (None, Some(activation)) = (this, &facts.activation) {
            boots.splice(0..0, uncounted(activation));
        }
    }
    facts.history = history;
}

/// What is kept of the boots that are shown.
fn consoles(context: &Context, facts: &mut Facts) {
    for boot in facts.history.boots().iter().take(super::boots::SHOWN) {
        let path = console::path(&context.layout, boot.boot_id);
        // Where there is none, or none that can be read, nothing is missed.
        let Ok(bytes) = files::read_bounded(&path, 2 * console::TAIL) else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<_> = text
            .lines()
            .rev()
            .filter(|line| !line.trim().is_empty())
            .take(LAST_WORDS)
            .collect();
        lines.reverse();
        facts.consoles.push(Console {
            boot_id: boot.boot_id,
            lines: lines.into_iter().map(str::to_owned).collect(),
            path,
        });
    }
}

/// A boot that the record does not count is in no log.
fn uncounted(activation: &Activation) -> Option<Boot> {
    if activation.outcome == Outcome::Off {
        return None;
    }
    let by_hand = activation.source == Source::CommandLine;
    Some(Boot {
        is_known: true,
        slot: activation.slot,
        digest: activation.digest,
        version: activation.version.clone(),
        reason: by_hand.then_some(Reason::CommandLine),
        ..Boot::new(activation.boot_id?)
    })
}

/// What of the version's files did not reach the host is worth attention: the
/// version may work less well, and only its maker can mend it.
fn imported(context: &Context, facts: &mut Facts) {
    match Imported::read(&context.layout) {
        Ok(found) => facts.imported = found,
        Err(why) => facts.problems.push(format!(
            "{}: {why}; write it anew: systemctl restart op-dbus-import",
            Imported::path(&context.layout).display()
        )),
    }
    let Some(Imported {
        version,
        refused,
        more,
        ..
    }) = &facts.imported
    else {
        return;
    };
    let lines = refused
        .iter()
        .map(|line| format!("{version} brings what the host does not take: {line}"));
    facts.problems.extend(lines);
    if *more > 0 {
        facts.problems.push(format!("{version} brings {more} more things that the host does not take: journalctl -b -u op-dbus-import"));
    }
}

/// Whether a release could be received. Here the clock may be asked: nothing is
/// accepted or refused by it.
fn keys(context: &Context, facts: &mut Facts) {
    let keyring = Settings::load(context).and_then(|settings| signed::keyring(context, &settings));
    let keyring = match keyring {
        Ok(keyring) => keyring,
        Err(why) => {
            facts.keys = Some(0);
            return facts.problems.push(why.to_string());
        }
    };
    let now = SystemTime::now();
    let usable = keyring
        .certificates()
        .iter()
        .filter(|held| held.can_sign && held.revoked.is_none())
        .filter(|held| held.expires.is_none_or(|ends| ends > now))
        .count();
    facts.keys = Some(usable);
    if usable == 0 {
        facts.problems.push(
            "release keys: all have ended or are revoked; add the new one: op-dbus-stage prepare --key FILE".to_owned(),
        );
    }
}

fn record(context: &Context, facts: &mut Facts) {
    let loaded = store::load(&mut Records::new(&context.layout));
    let verdict = loaded.verdict();
    facts.state = verdict.word();
    facts.copies = copies(&loaded);
    facts.record = verdict.record().cloned();
    let problem = match &verdict {
        Verdict::Intact(_) | Verdict::Stale(..) => return,
        Verdict::OneCopy(_, copy) => format!("boot record: {} is lost; the next command that changes something restores it", copy.file_name()),
        Verdict::Rebuilt(_) => "boot record: both copies are lost; the one of the last bless is used".to_owned(),
        Verdict::Lost => "boot record: every copy is lost; the next command that changes something rebuilds it from the audit log".to_owned(),
        Verdict::NewerFormat(format, _) => format!("boot record: it has format {format}, of a newer release; this program changes nothing"),
    };
    facts.problems.push(problem);
}

fn copies(loaded: &Loaded) -> Vec<(&'static str, String)> {
    let word = |reading: &Reading| match reading {
        Reading::Valid(record) => format!("sequence {}", record.sequence),
        Reading::Absent => "missing".to_owned(),
        Reading::Bad(why) => why.to_string(),
        Reading::Unreadable(why) => why.clone(),
    };
    [
        (Copy::Zero, &loaded.zero),
        (Copy::One, &loaded.one),
        (Copy::Blessed, &loaded.blessed),
    ]
    .map(|(copy, reading)| (copy.file_name(), word(reading)))
    .into()
}

fn versions(context: &Context, facts: &mut Facts) {
    let deployments = match Deployments::read(&context.layout) {
        Ok(deployments) => deployments,
        Err(why) => return facts.problems.push(why.to_string()),
    };
    facts.problems.extend(deployments.problems.iter().cloned());
    for receipt in deployments.receipts() {
        let deployment = receipt.deployment.clone();
        let path = context.layout.deployment(&deployment.version);
        let defect = match identity::check(&path, &deployment.identity) {
            Check::Intact => None,
            Check::Missing(why) | Check::Altered(why) | Check::Unreadable(why) => Some(why),
        };
        facts.versions.push(Known {
            deployment,
            bytes: receipt.bytes,
            received_at: receipt.received_at.clone(),
            defect,
        });
    }
    let Some(record) = &facts.record else { return };
    for (slot, deployment) in record.deployments() {
        let path = context.layout.deployment(&deployment.version);
        if let Check::Missing(why) | Check::Altered(why) | Check::Unreadable(why) =
            identity::check(&path, &deployment.identity)
        {
            facts.problems.push(format!(
                "{slot} {}: {why}; receive it again",
                deployment.version
            ));
        }
    }
}

fn pinned(context: &Context, facts: &mut Facts) {
    let dir = context.layout.pins_dir();
    match pins::read(&context.layout) {
        Ok((pins, _)) => facts.pins = pins,
        Err(why) => facts
            .problems
            .push(format!("{}: read: {why}", dir.display())),
    }
}

fn audit(context: &Context, facts: &mut Facts, each: Option<Each<'_>>) {
    let log = AuditLog::new(&context.layout);
    let anchor = facts.record.as_ref().map(|record| record.audit);
    let read = match each {
        Some(each) => log.read_heads(anchor, each).map(|state| (state, true)),
        None => log.read_newest(anchor),
    };
    let read = read.map(|(state, is_whole)| {
        facts.audit_is_whole = is_whole;
        state
    });
    match read {
        Ok(State::Sound { head, .. }) => facts.audit_lines = Some(head.length),
        Ok(State::Broken(why)) => facts.problems.push(format!("audit log: {why}")),
        Err(why) => facts
            .problems
            .push(format!("{}: read: {why}", log.path().display())),
    }
    for aside in log.set_aside().unwrap_or_default() {
        facts.problems.push(format!(
            "audit log: an earlier one did not verify and was set aside as {}",
            aside.display()
        ));
    }
    if let Some(missed) = anchor.map(|head| head.missed).filter(|&missed| missed > 0) {
        facts.problems.push(format!(
            "audit log: {missed} transitions could not be logged"
        ));
    }
}

impl Facts {
    /// Whether `activation.json` is of this boot.
    pub(crate) fn is_this_boot(&self) -> bool {
        let written = self
            .activation
            .as_ref()
            .and_then(|activation| activation.boot_id);
        written.is_some() && written == self.boot_id
    }

    /// The version name of a digest, as far as known.
    pub(crate) fn name(&self, digest: &Digest) -> Option<String> {
        let record = self.record.as_ref()?;
        let held = record.deployments().map(|(_, deployment)| deployment);
        let stored = self.versions.iter().map(|known| &known.deployment);
        let name = held
            .chain(stored)
            .find(|deployment| deployment.digest == *digest);
        let quarantined = || {
            record
                .quarantine
                .get(digest)
                .map(|entry| entry.version.to_string())
        };
        name.map(|deployment| deployment.version.to_string())
            .or_else(quarantined)
    }

    /// What a kernel said last in a boot.
    pub(crate) fn console(&self, boot_id: BootId) -> Option<&Console> {
        self.consoles
            .iter()
            .find(|console| console.boot_id == boot_id)
    }

    /// This boot, as far as the history has it.
    pub(crate) fn this_boot(&self) -> Option<&Boot> {
        let mut boots = self.history.boots().iter();
        boots.find(|boot| Some(boot.boot_id) == self.boot_id)
    }

    /// The version that was to become good and failed: the one that was put on
    /// trial last, if it is quarantined and does not run.
    pub(crate) fn taken_back(&self) -> Option<&Entry> {
        let staged = self.history.staged()?;
        let running = self.activation.as_ref().and_then(|running| running.digest);
        if running == Some(staged) {
            return None;
        }
        self.record.as_ref()?.quarantine.get(&staged)
    }
}
