//! From lines of the audit log to what hooks are told. Pure.
//!
//! Most lines are nobody's business at 3 a.m. Four kinds of news are left:
//!
//! | Event | When |
//! |---|---|
//! | `staged` | a version was put on trial; also by a rollback |
//! | `blessed` | a trial, or the fallback, proved itself and is good now |
//! | `fell-back` | a boot took good or fallback although another was preferred, or was condemned just before |
//! | `rescue` | a boot activated nothing although versions are installed |
//!
//! Good proving itself once more, at every boot, is no news.

use std::collections::HashMap;

use op_dbus_activator::activation::{Activation, Outcome as Activated, Source};
use op_dbus_bootstate::audit::{Kind, Line};
use op_dbus_bootstate::record::{Outcome, Reason};
use op_dbus_bootstate::{BootId, Digest, Slot, Version};
use serde::Serialize;

/// Schema of what hooks read.
pub const SCHEMA: u32 = 1;

/// What a hook is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// A version will be tried at the next boot.
    Staged,
    /// A version proved itself.
    Blessed,
    /// The device went back to another version by itself.
    FellBack,
    /// The device runs none.
    Rescue,
}

impl Name {
    /// The hook's argument.
    pub fn word(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Blessed => "blessed",
            Self::FellBack => "fell-back",
            Self::Rescue => "rescue",
        }
    }
}

/// One piece of news, as hooks read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// What happened.
    pub event: Name,
    /// The version it happened to: that is staged, is good, was fallen back to.
    pub version: Option<Version>,
    /// Its content.
    pub digest: Option<Digest>,
    /// The version that did not hold: of `fell-back` and `rescue`, where known.
    pub from: Option<Version>,
    /// Why, in a sentence.
    pub reason: String,
    /// The kernel boot it happened in.
    pub boot: Option<BootId>,
    /// The clock of the device when it was logged, RFC 3339: a claim. None where
    /// it was not logged.
    pub time: Option<String>,
    /// The line of the audit log that says so. An event that is told again has
    /// the same one. None where there is no line.
    pub n: Option<u64>,
}

/// What follows from the lines after number `after`. Those before it are the
/// context: which version a digest is, and what ran until then.
pub fn events(lines: &[Line], after: u64, running: Option<&Activation>) -> Vec<Event> {
    let mut reader = Reader::default();
    if let Some((digest, version)) = running.and_then(|now| now.digest.zip(now.version.clone())) {
        reader.names.insert(digest, version);
    }
    lines
        .iter()
        .filter_map(|line| reader.line(line))
        .filter(|event| event.n.is_some_and(|n| n > after))
        .collect()
}

/// The news in what this boot did, for a device whose log could not be told.
pub fn rescue(activation: &Activation) -> Option<Event> {
    match activation.outcome {
        Activated::Rescue | Activated::Failed => {}
        Activated::Activated | Activated::Off => return None,
    }
    let was_wanted = activation.source == Source::CommandLine;
    if was_wanted || is(&activation.reason, Reason::NothingInstalled) {
        return None;
    }
    Some(Event {
        schema: SCHEMA,
        event: Name::Rescue,
        version: None,
        digest: None,
        from: activation
            .failures
            .first()
            .map(|failed| failed.version.clone()),
        reason: activation.reason.clone(),
        boot: activation.boot_id,
        time: None,
        n: None,
    })
}

/// Reasons for which a boot passes over a version it would rather have taken.
const PASSED_OVER: [Reason; 5] = [
    Reason::TriesExhausted,
    Reason::CandidateFailed,
    Reason::NotDurable,
    Reason::GoodLimit,
    Reason::GoodCondemned,
];
/// Reasons for which nothing is activated, and nothing is wrong.
const NO_NEED: [Reason; 3] = [
    Reason::NothingInstalled,
    Reason::CommandLine,
    Reason::SameBoot,
];

fn is(sentence: &str, reason: Reason) -> bool {
    sentence == reason.sentence()
}

/// A condemned trial: the boot after it goes back without another word.
#[derive(Debug)]
struct Condemned {
    digest: Option<Digest>,
    version: Option<Version>,
    why: String,
}

/// What the lines so far have told.
#[derive(Debug, Default)]
struct Reader {
    names: HashMap<Digest, Version>,
    /// What the last boot ran.
    ran: Option<Digest>,
    condemned: Option<Condemned>,
    /// The first candidate that failed in a boot, and how.
    passed: Option<(BootId, Option<Digest>, String)>,
}

impl Reader {
    fn line(&mut self, line: &Line) -> Option<Event> {
        if let (Some(digest), Some(version)) = (line.digest, &line.version) {
            self.names.insert(digest, version.clone());
        }
        match line.event {
            Kind::Staged => Some(Event {
                reason: line.detail.clone(),
                ..self.news(Name::Staged, line)
            }),
            Kind::Blessed => {
                self.condemned = None;
                let is_new = !line.detail.starts_with("was good");
                is_new.then(|| Event {
                    reason: line.detail.clone(),
                    ..self.news(Name::Blessed, line)
                })
            }
            Kind::Condemned => {
                self.condemned(line);
                None
            }
            Kind::Attempt => self.attempt(line),
            _ => None,
        }
    }

    fn news(&self, event: Name, line: &Line) -> Event {
        Event {
            schema: SCHEMA,
            event,
            version: line.version.clone().or_else(|| self.name(line.digest)),
            digest: line.digest,
            from: None,
            reason: String::new(),
            boot: line.boot,
            time: Some(line.time.clone()),
            n: Some(line.n),
        }
    }

    fn name(&self, digest: Option<Digest>) -> Option<Version> {
        self.names.get(&digest?).cloned()
    }

    fn condemned(&mut self, line: &Line) {
        // "was trial: why". What follows on a condemned good or fallback says so
        // itself, in the reason of the boot.
        let trial = format!("was {}: ", Slot::Trial);
        if let Some(why) = line.detail.strip_prefix(&trial) {
            self.condemned = Some(Condemned {
                digest: line.digest,
                version: line.version.clone(),
                why: why.to_owned(),
            });
        }
    }

    /// "role: outcome; reason", as `Event::attempt` words it.
    fn attempt(&mut self, line: &Line) -> Option<Event> {
        let (role, rest) = line.detail.split_once(": ")?;
        let (outcome, sentence) = rest.split_once("; ")?;
        let says = |slot: Slot| role == slot.to_string();
        if role == "rescue" {
            let from = self.from(line.boot, None);
            self.ran = None;
            self.condemned = None;
            let is_news = !NO_NEED.into_iter().any(|reason| is(sentence, reason));
            return is_news.then(|| Event {
                version: None,
                from,
                reason: sentence.to_owned(),
                ..self.news(Name::Rescue, line)
            });
        }
        if outcome != Outcome::Selected.words() {
            let is_first = self.passed.as_ref().map(|(boot, ..)| *boot) != line.boot;
            if let Some(boot) = line.boot.filter(|_| is_first) {
                self.passed = Some((boot, line.digest, format!("{role} {outcome}")));
            }
            return None;
        }
        let from = self.from(line.boot, line.digest);
        let condemned = self.condemned.take();
        let condemned = condemned.filter(|condemned| condemned.digest != line.digest);
        let passed = self
            .passed
            .take()
            .filter(|passed| Some(passed.0) == line.boot);
        self.ran = line.digest;
        if !says(Slot::Good) && !says(Slot::Fallback) {
            return None;
        }
        let was_forced = PASSED_OVER.into_iter().any(|reason| is(sentence, reason));
        let reason = match (passed, condemned) {
            (Some((.., how)), _) if was_forced => format!("{how}; {sentence}"),
            (_, Some(condemned)) => condemned.why,
            _ if was_forced => sentence.to_owned(),
            _ => return None,
        };
        Some(Event {
            from,
            reason,
            ..self.news(Name::FellBack, line)
        })
    }

    /// The version that boot `boot` did not run although it came first, where
    /// that is not `to`.
    fn from(&self, boot: Option<BootId>, to: Option<Digest>) -> Option<Version> {
        if let Some((of, digest, _)) = &self.passed {
            if Some(*of) == boot {
                return self.name(*digest);
            }
        }
        match &self.condemned {
            Some(condemned) => condemned.version.clone(),
            None => self.name(self.ran.filter(|ran| Some(*ran) != to)),
        }
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
