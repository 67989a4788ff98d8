//! The last boots, as the audit log tells of them: what each chose and why, its
//! verdict, and how it ended.
//!
//! Nothing is kept for this but the log itself. What can't be read of it is left
//! out: a history with a gap is better than none at 3 a.m., and whether the log
//! is sound is `audit verify`'s to say.

pub(crate) mod attempt;
pub(crate) mod tail;

#[cfg(test)]
mod tests;

use op_dbus_bootstate::audit::{Kind, Line};
use op_dbus_bootstate::ending::Ending;
use op_dbus_bootstate::record::{self, Outcome, Reason};
use op_dbus_bootstate::{BootId, Digest, Slot, Version};
use serde::Serialize;

use attempt::Attempt;

/// What was decided about a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Its version proved itself.
    Blessed,
    /// Its version was judged unhealthy.
    Condemned,
    /// It ended in order before there was a verdict, and the try was given back.
    Refunded,
}

/// A candidate a boot passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passed {
    /// In which role.
    pub(crate) slot: Option<Slot>,
    /// Its content.
    pub(crate) digest: Option<Digest>,
    /// Its name, where one is known.
    pub(crate) version: Option<Version>,
    /// What was wrong with it.
    pub(crate) outcome: Outcome,
}

/// One boot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "it is called so everywhere")]
pub(crate) struct Boot {
    /// The kernel's id of it.
    pub(crate) boot_id: BootId,
    /// When it was, by the device's clock: of the first line it wrote itself.
    pub(crate) time: Option<String>,
    /// When it was first told of, by whichever boot.
    pub(crate) logged: Option<String>,
    /// Whether it is known what it chose.
    pub(crate) is_known: bool,
    /// In which role its version ran; none: nothing was activated.
    pub(crate) slot: Option<Slot>,
    /// The version's content.
    pub(crate) digest: Option<Digest>,
    /// The version.
    pub(crate) version: Option<Version>,
    /// Why it chose so.
    pub(crate) reason: Option<Reason>,
    /// Whom it passed over, in order.
    pub(crate) passed: Vec<Passed>,
    /// What was decided about it.
    pub(crate) verdict: Option<Verdict>,
    /// How long after the boot's begin, in milliseconds.
    pub(crate) verdict_ms: Option<u64>,
    /// Why it was condemned.
    pub(crate) why: Option<String>,
    /// How it ended.
    pub(crate) ending: Option<Ending>,
    /// The same in a sentence.
    pub(crate) ending_words: Option<String>,
}

impl Boot {
    /// One of which nothing is known yet.
    pub(crate) fn new(boot_id: BootId) -> Self {
        Self {
            boot_id,
            time: None,
            logged: None,
            is_known: false,
            slot: None,
            digest: None,
            version: None,
            reason: None,
            passed: Vec::new(),
            verdict: None,
            verdict_ms: None,
            why: None,
            ending: None,
            ending_words: None,
        }
    }

    fn attempted(&mut self, attempt: Attempt, digest: Option<Digest>, version: Option<Version>) {
        // Rescue is noted as a selection of nothing.
        if attempt.outcome == Outcome::Selected || attempt.slot.is_none() {
            self.is_known = true;
            self.slot = attempt.slot;
            self.digest = digest;
            self.version = version;
            self.reason = Some(attempt.reason);
            return;
        }
        let passed = Passed {
            slot: attempt.slot,
            digest,
            version,
            outcome: attempt.outcome,
        };
        // Told by the log and, until the next write, by the record, without a name.
        let is_same = |known: &Passed| {
            (known.slot, known.digest, known.outcome)
                == (passed.slot, passed.digest, passed.outcome)
        };
        if !self.passed.iter().any(is_same) {
            self.passed.push(passed);
        }
        // Chosen first, and then it could not be mounted.
        if self.is_known && self.slot == attempt.slot && self.digest == digest {
            self.is_known = false;
            self.slot = None;
            self.digest = None;
            self.version = None;
        }
        if self.reason.is_none() {
            self.reason = Some(attempt.reason);
        }
    }
}

/// What the lines tell, the newest boot first.
#[derive(Debug, Default)]
pub(crate) struct History {
    boots: Vec<Boot>,
    names: Vec<(Digest, Version)>,
    staged: Option<Digest>,
    condemned: Vec<(Digest, String)>,
}

impl History {
    /// Of lines in their order, and of the attempts the record still keeps.
    pub(crate) fn new(lines: &[Line], waiting: &[record::Attempt]) -> Self {
        let mut history = Self::default();
        for line in lines {
            history.line(line);
        }
        for attempt in waiting {
            let boot = history.boot(attempt.boot_id);
            let words = Attempt {
                slot: attempt.slot,
                outcome: attempt.outcome,
                reason: attempt.reason,
            };
            boot.attempted(words, attempt.digest, None);
        }
        history.boots.reverse();
        for boot in &mut history.boots {
            let name = |digest: Option<Digest>| {
                let mut named = history.names.iter().rev();
                let found = named.find(|(known, _)| Some(*known) == digest);
                found.map(|(_, version)| version.clone())
            };
            if boot.version.is_none() {
                boot.version = name(boot.digest);
            }
            for passed in &mut boot.passed {
                if passed.version.is_none() {
                    passed.version = name(passed.digest);
                }
            }
        }
        history
    }

    /// The boots, the newest first.
    pub(crate) fn boots(&self) -> &[Boot] {
        &self.boots
    }

    /// The boots, to be completed by what else is known.
    pub(crate) fn boots_mut(&mut self) -> &mut Vec<Boot> {
        &mut self.boots
    }

    /// The version put on trial last, unless it was taken back.
    pub(crate) fn staged(&self) -> Option<Digest> {
        self.staged
    }

    /// Why a version was judged unhealthy, by the newest line that says so.
    pub(crate) fn condemned(&self, digest: &Digest) -> Option<&str> {
        let mut found = self.condemned.iter().rev();
        let (_, why) = found.find(|(condemned, _)| condemned == digest)?;
        Some(why)
    }

    fn boot(&mut self, boot_id: BootId) -> &mut Boot {
        // Mostly the last one.
        let at = self.boots.iter().rposition(|boot| boot.boot_id == boot_id);
        let at = at.unwrap_or_else(|| {
            self.boots.push(Boot::new(boot_id));
            self.boots.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "it was found, or pushed")]
        &mut self.boots[at]
    }

    fn line(&mut self, line: &Line) {
        if let (Some(digest), Some(version)) = (line.digest, &line.version) {
            self.names.retain(|(known, _)| *known != digest);
            self.names.push((digest, version.clone()));
        }
        match line.event {
            Kind::Staged => self.staged = line.digest,
            Kind::Cancelled => self.staged = None,
            _ => {}
        }
        let is_of_a_boot = matches!(
            line.event,
            Kind::Attempt | Kind::Blessed | Kind::Condemned | Kind::Refunded | Kind::Ended
        );
        let Some(boot_id) = line.boot.filter(|_| is_of_a_boot) else {
            return;
        };
        let boot = self.boot(boot_id);
        if boot.logged.is_none() {
            boot.logged = Some(line.time.clone());
        }
        if boot.time.is_none() && line.up_ms.is_some() {
            boot.time = Some(line.time.clone());
        }
        let verdict = match line.event {
            Kind::Attempt => {
                if let Some(attempt) = Attempt::parse(&line.detail) {
                    boot.attempted(attempt, line.digest, line.version.clone());
                }
                return;
            }
            Kind::Ended => {
                boot.ending = line.ending;
                boot.ending_words = Some(line.detail.clone()).filter(|words| !words.is_empty());
                return;
            }
            Kind::Blessed => Verdict::Blessed,
            Kind::Condemned => Verdict::Condemned,
            _ => Verdict::Refunded,
        };
        boot.verdict = Some(verdict);
        boot.verdict_ms = line.up_ms;
        if boot.version.is_none() {
            boot.version.clone_from(&line.version);
            boot.digest = line.digest;
        }
        if verdict == Verdict::Condemned {
            let why = reason(&line.detail).to_owned();
            boot.why = Some(why.clone());
            if let Some(digest) = line.digest {
                self.condemned.retain(|(known, _)| *known != digest);
                self.condemned.push((digest, why));
            }
        }
    }
}

/// What a verdict's line says after the role (`was trial: …`).
fn reason(detail: &str) -> &str {
    let after = detail
        .strip_prefix("was ")
        .and_then(|rest| rest.split_once(": "));
    after.map_or(detail, |(_, why)| why)
}
