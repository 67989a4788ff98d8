//! Reads what the plan depends on.

use std::fs;
use std::path::Path;

use op_dbus_activator::activation::{Activation, Outcome, Source};
use op_dbus_activator::config::{Config, ConfigError, MAX_LEN, Way};
use op_dbus_activator::files;
use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::cmdline::CommandLine;
use op_dbus_health::settings::Settings;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::plan::{Judging, Situation};

/// Whether `[metrics]` is there. The section is op-dbus-stage's, and what is wrong
/// with it told by its unit.
fn has_metrics(layout: &Layout) -> bool {
    #[derive(Deserialize)]
    struct File {
        metrics: Option<IgnoredAny>,
    }
    let text = files::read_text(&layout.config(), MAX_LEN).unwrap_or_default();
    toml::from_str::<File>(&text).is_ok_and(|file| file.metrics.is_some())
}

/// Whether `[[health.check]]` can be understood, which the activator does not ask.
fn can_be_judged(layout: &Layout, notes: &mut Vec<String>) -> bool {
    match Settings::load(&layout.config()) {
        Ok(_) => true,
        Err(mistake) => {
            notes.push(format!("{mistake}; until then no health verdict"));
            false
        }
    }
}

/// Reads the host below `root`. None: nothing is to be emitted, because op-dbus
/// is not configured, is configured beyond understanding, or was switched off.
pub fn read(root: &Path, notes: &mut Vec<String>) -> Option<Situation> {
    let layout = Layout::new(root.join("run"), root);
    let (config, mistake) = match Config::load_for_boot(&layout.config()) {
        Ok(found) => found,
        // Not configured is no mistake.
        Err(ConfigError::Missing { .. }) => return None,
        Err(error) => {
            notes.push(format!("{error}; nothing is emitted"));
            return None;
        }
    };
    // Without /proc there is no word from the operator.
    let words = fs::read_to_string(layout.host("/proc/cmdline")).unwrap_or_default();
    if CommandLine::parse(&words).off {
        return None;
    }
    let way = match &mistake {
        None => config.activation.way,
        // What the file says can't be relied on. This unit does nothing where
        // the initramfs has activated; elsewhere nothing else would.
        Some(mistake) => {
            notes.push(format!("{mistake}; until then no health verdict"));
            Way::Generator
        }
    };
    // A mistake that only op-dbus-agent would stumble over: that it can't judge
    // must not count against the version.
    let judged = mistake.is_none() && can_be_judged(&layout, notes);
    let active = match Activation::read(&layout) {
        Ok(Some(activation)) => match (activation.outcome, activation.source) {
            (Outcome::Activated, _) if !judged => Some(Judging::Not),
            (Outcome::Activated, Source::Record) => Some(Judging::WithConsequences),
            (Outcome::Activated, Source::CommandLine) => Some(Judging::LookOnly),
            (Outcome::Rescue | Outcome::Off | Outcome::Failed, _) => None,
        },
        Ok(None) => {
            if way == Way::Initrd {
                notes.push(format!(
                    "{}: missing, so nothing was activated: the initramfs has no op-dbus module, \
                     or its activator died; see op-dbus-initrd.service, or add the module and \
                     rebuild the initramfs",
                    layout.activation().display()
                ));
            }
            None
        }
        Err(error) => {
            notes.push(error.to_string());
            None
        }
    };
    Some(Situation {
        way,
        lower: config.mounts.lower,
        deadline_seconds: config.health.deadline_seconds,
        has_metrics: has_metrics(&layout),
        active,
    })
}
