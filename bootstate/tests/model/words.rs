//! A story of a device, in words.

use op_dbus_bootstate::store::Copy;

use crate::fate::{Fact, Health, Keeper, Slip};
use crate::medium::Medium;
use crate::play::{Device, How, Op};
use crate::shape::{Role, Scope, V};
use crate::writes::Call;

/// Who is called what.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    scope: &'a Scope,
    names: &'a [V],
}

impl<'a> Words<'a> {
    /// `names`: what each version number stands for.
    pub fn new(scope: &'a Scope, names: &'a [V]) -> Self {
        Self { scope, names }
    }

    fn name(self, version: V) -> String {
        let version = self.names[usize::from(version)];
        self.scope.deployment(version).version.to_string()
    }

    /// One event: what happened, what went wrong, and where it left the device.
    pub fn told(self, op: Op, facts: &[Fact], after: Option<&Device>) -> String {
        let mut text = self.event(op);
        for &fact in facts {
            text.push_str("; ");
            text.push_str(&self.happened(fact));
        }
        if let Some(device) = after {
            text.push_str(" → ");
            text.push_str(&self.state(device));
        }
        text
    }

    fn event(self, op: Op) -> String {
        let force = |forced| if forced { ", overriding" } else { "" };
        match op {
            Op::Boot(how) => format!("boot{}", self.asked(how)),
            Op::AskAgain(how) => format!("the same boot asks again{}", self.asked(how)),
            Op::Down => "the host goes down".to_owned(),
            Op::Stage { version, forced } => {
                format!("stage {}{}", self.name(version), force(forced))
            }
            Op::Rollback { version, forced } => {
                let target = version.map_or_else(|| "fallback".to_owned(), |v| self.name(v));
                format!("rollback to {target}{}", force(forced))
            }
            Op::Cancel => "cancel".to_owned(),
            Op::Bless => "bless".to_owned(),
            Op::Condemn => "condemn".to_owned(),
            Op::OrderlyShutdown => "orderly shutdown".to_owned(),
            Op::Note => "a command that only logs".to_owned(),
            Op::Rot { .. } => "a copy of the record rots".to_owned(),
            Op::Prune => "prune".to_owned(),
            Op::Receive(version) => format!("receive {}", self.name(version)),
        }
    }

    fn asked(self, how: How) -> String {
        match how {
            How::Usual => String::new(),
            How::ReadOnly => ", the store read-only".to_owned(),
            How::Good => ", op-dbus.select=good".to_owned(),
            How::Fallback => ", op-dbus.select=fallback".to_owned(),
            How::Nothing => ", op-dbus.select=none".to_owned(),
            How::Version(version) => format!(", op-dbus.select={}", self.name(version)),
        }
    }

    fn happened(self, fact: Fact) -> String {
        match fact {
            Fact::Slip {
                call,
                nth,
                copy,
                slip,
            } => {
                let what = match call {
                    Call::Repair => "write of the repair",
                    Call::Commit | Call::KeepBlessed => "write",
                };
                let which = match (copy, nth) {
                    (Copy::Blessed, _) => format!("the {what} of record.blessed"),
                    (_, 0) => format!("the first {what}"),
                    _ => format!("the second {what}"),
                };
                match slip {
                    Slip::PowerBefore if nth == 1 => "power goes between the two writes".to_owned(),
                    Slip::PowerBefore => format!("power goes before {which}"),
                    Slip::PowerWithin => format!("power goes within {which}"),
                    Slip::Refused => format!("{which} is refused"),
                    Slip::Persisted => format!("{which} is reported as failed, and persists"),
                }
            }
            Fact::Health(version, health) => {
                let name = self.name(version);
                match health {
                    Health::Gone => format!("{name} is missing or altered"),
                    Health::Unreadable => format!("{name} can't be read"),
                    Health::Unmountable => format!("{name} can't be mounted"),
                    Health::HostFails => format!("the host fails while mounting {name}"),
                }
            }
            Fact::LogFailed => "the audit log takes nothing".to_owned(),
            Fact::StillMounted => "what ran before is still mounted".to_owned(),
            Fact::Kept(good, _) => format!(
                "both are lost, and record.blessed says {} is good",
                good.map_or_else(|| "nothing".to_owned(), |v| self.name(v))
            ),
            Fact::Keeper(Keeper::Nobody) => "nobody else needs a version".to_owned(),
            Fact::Keeper(Keeper::Pin(version)) => format!("{} is pinned", self.name(version)),
            Fact::Keeper(Keeper::Mount(version)) => format!("{} is mounted", self.name(version)),
            Fact::Keeper(Keeper::Blessed(good, fallback)) => {
                let both = good.into_iter().chain(fallback);
                let names: Vec<_> = both.map(|version| self.name(version)).collect();
                format!("record.blessed names {}", names.join(" and "))
            }
            Fact::Pruned(version) => format!("{} is deleted", self.name(version)),
            Fact::PruneCut => "power goes before the rest".to_owned(),
            Fact::Rebuilt(None, _) => "the audit log names no version".to_owned(),
            Fact::Rebuilt(Some(good), _) => {
                format!("rebuilt from the audit log: {} is good", self.name(good))
            }
        }
    }

    fn state(self, device: &Device) -> String {
        let runs = match (device.up, device.running) {
            (false, _) => "off".to_owned(),
            (true, None) => "nothing runs".to_owned(),
            (true, Some(run)) => {
                let role = match run.role {
                    Role::Good => "good",
                    Role::Fallback => "fallback",
                    Role::Trial => "trial",
                    Role::Named => "named",
                };
                format!("{} runs as {role}", self.name(run.version))
            }
        };
        format!("{runs}; {}", self.record(&device.medium))
    }

    fn record(self, medium: &Medium) -> String {
        let copies = match (medium.held().count(), medium.newer) {
            (0, _) => "no copy valid: ",
            (1, _) => "one copy valid: ",
            (_, 0) => "",
            _ => "one copy older: ",
        };
        let Some(shape) = medium.counts() else {
            return format!("{copies}nothing is known");
        };
        let held = |version: Option<V>| version.map_or_else(|| "-".to_owned(), |v| self.name(v));
        let mut text = format!(
            "{copies}good {}, fallback {}",
            held(shape.good),
            held(shape.fallback)
        );
        if let Some(trial) = shape.trial {
            text.push_str(", trial ");
            text.push_str(&self.name(trial.version));
            text.push_str(&tries(trial.tries, trial.refunds));
        }
        let quarantined: Vec<_> = self
            .scope
            .versions()
            .filter(|&version| shape.is_quarantined(version))
            .map(|version| self.name(version))
            .collect();
        if !quarantined.is_empty() {
            text.push_str(", quarantined ");
            text.push_str(&quarantined.join(" "));
        }
        text
    }
}

fn tries(tries: u8, refunds: u8) -> String {
    format!(" with {tries} tries and {refunds} refunds")
}
