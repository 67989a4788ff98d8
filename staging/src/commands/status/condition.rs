//! The first line: how this device does, in a word and a sentence.

use op_dbus_activator::activation::{Activation, Outcome, Source};
use op_dbus_bootstate::Slot;
use op_dbus_bootstate::record::{Next, Record};
use serde::Serialize;

use super::collect::Facts;
use super::paint::Style;
use crate::boots::Verdict;

/// How the device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Condition {
    /// The good version runs, and this boot is blessed.
    Healthy,
    /// The good version runs; this boot is not blessed yet.
    Unblessed,
    /// The version that runs is on trial.
    OnTrial,
    /// The next boot tries a version.
    Staged,
    /// The version that was to run was taken back, and the one before runs.
    FellBack,
    /// The operator chose what runs, on the kernel command line.
    ByHand,
    /// What runs works less well than it should.
    Degraded,
    /// What runs was judged unhealthy.
    Unhealthy,
    /// No version is active.
    Rescue,
    /// The operator switched everything off.
    Off,
    /// The activator has not run in this boot.
    Inactive,
    /// The store can't be read.
    Broken,
}

impl Condition {
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Healthy,
        Self::Unblessed,
        Self::OnTrial,
        Self::Staged,
        Self::FellBack,
        Self::ByHand,
        Self::Degraded,
        Self::Unhealthy,
        Self::Rescue,
        Self::Off,
        Self::Inactive,
        Self::Broken,
    ];

    /// As it stands in JSON and in metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unblessed => "unblessed",
            Self::OnTrial => "on-trial",
            Self::Staged => "staged",
            Self::FellBack => "fell-back",
            Self::ByHand => "by-hand",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Rescue => "rescue",
            Self::Off => "off",
            Self::Inactive => "inactive",
            Self::Broken => "broken",
        }
    }

    /// As it is shown.
    pub(crate) fn style(self) -> Style {
        match self {
            Self::Healthy => Style::Good,
            Self::Unblessed | Self::OnTrial | Self::Staged | Self::ByHand | Self::Off => {
                Style::Notice
            }
            Self::FellBack | Self::Degraded => Style::Notice,
            Self::Unhealthy | Self::Rescue | Self::Inactive | Self::Broken => Style::Bad,
        }
    }
}

/// The condition, and a sentence about it.
pub(crate) fn of(facts: &Facts) -> (Condition, String) {
    if facts.store.is_some() {
        return (Condition::Broken, "the store can't be read.".to_owned());
    }
    let Some(activation) = facts.activation.as_ref().filter(|_| facts.is_this_boot()) else {
        return (
            Condition::Inactive,
            "the activator has not run in this boot.".to_owned(),
        );
    };
    match activation.outcome {
        Outcome::Off => (
            Condition::Off,
            "op-dbus=off is on the kernel command line; no version is active.".to_owned(),
        ),
        Outcome::Rescue | Outcome::Failed => (
            Condition::Rescue,
            format!("no version is active: {}.", activation.reason),
        ),
        Outcome::Activated => activated(facts, activation),
    }
}

fn activated(facts: &Facts, activation: &Activation) -> (Condition, String) {
    let name = activation.version.as_ref();
    let name = name.map_or_else(|| "a version".to_owned(), ToString::to_string);
    if activation.slot == Some(Slot::Named) || activation.source == Source::CommandLine {
        let words = format!("{name} runs because the kernel command line says so.");
        return (Condition::ByHand, words);
    }
    let Some(record) = &facts.record else {
        let words = format!("{name} runs, and the boot record can't be read.");
        return (Condition::Degraded, words);
    };
    let verdict = record
        .last_boot
        .as_ref()
        .filter(|last| Some(last.boot_id) == facts.boot_id)
        .and_then(|last| last.verdict);
    match verdict {
        Some(Next::Reboot) => {
            let words = format!("{name} was judged unhealthy; a reboot brings another choice.");
            return (Condition::Unhealthy, words);
        }
        Some(Next::StayUp) => {
            let words = format!("{name} was judged unhealthy, and nothing better is left.");
            return (Condition::Unhealthy, words);
        }
        None => {}
    }
    if !activation.degraded.is_empty() {
        let words = format!("{name} runs, but: {}.", activation.degraded.join(", "));
        return (Condition::Degraded, words);
    }
    let is_good = record.good.as_ref().map(|good| good.digest) == activation.digest;
    match activation.slot {
        Some(Slot::Trial) if !is_good => {
            let left = record.trial.as_ref().map_or(0, |trial| trial.tries_left);
            let words = match left {
                0 => format!("{name} runs on its last try, and is not blessed yet."),
                1 => format!("{name} runs on trial and is not blessed yet; 1 more try is left."),
                left => {
                    format!(
                        "{name} runs on trial and is not blessed yet; {left} more tries are left."
                    )
                }
            };
            (Condition::OnTrial, words)
        }
        Some(Slot::Fallback) if !is_good => {
            let words = format!("{name}, the fallback, runs because the good version failed.");
            (Condition::FellBack, words)
        }
        _ => good(facts, record, &name),
    }
}

/// The good version runs.
fn good(facts: &Facts, record: &Record, name: &str) -> (Condition, String) {
    if let Some(trial) = &record.trial {
        let words = format!(
            "{name} runs; the next boot tries {}.",
            trial.deployment.version
        );
        return (Condition::Staged, words);
    }
    if let Some(entry) = facts.taken_back() {
        let words = format!(
            "{} was taken back ({}), and {name} runs.",
            entry.version,
            entry.cause.words()
        );
        return (Condition::FellBack, words);
    }
    let this = facts.this_boot();
    if this.is_some_and(|boot| boot.verdict == Some(Verdict::Blessed)) {
        let after = this.and_then(|boot| boot.verdict_ms);
        let after = after.map_or_else(String::new, |ms| {
            format!(" {} after its begin", super::boots::duration(ms))
        });
        let words = format!("{name} runs, and this boot was blessed{after}.");
        return (Condition::Healthy, words);
    }
    if record.good_unblessed > 0 {
        let words = format!("{name} runs; this boot is not blessed yet.");
        return (Condition::Unblessed, words);
    }
    (
        Condition::Healthy,
        format!("{name} runs, the good version."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_are_those_of_the_json() {
        for condition in Condition::ALL {
            let json = serde_json::to_string(&condition).unwrap();
            assert_eq!(json, format!("\"{}\"", condition.word()));
        }
        assert_eq!(
            Condition::ALL
                .into_iter()
                .collect::<std::collections::HashSet<_>>()
                .len(),
            12
        );
        let words: BTreeSet<_> = Condition::ALL.map(Condition::word).into();
        assert_eq!(words.len(), Condition::ALL.len());
    }
}
