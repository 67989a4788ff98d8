//! `[health]` of the configuration, as the agent understands it: the activator's
//! part, with its times, and the checks, which only this module knows.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use op_dbus_activator::config::{Config, ConfigError, MAX_LEN, one_line};
use op_dbus_activator::files;
use serde::{Deserialize, Serialize};

use crate::subject::{self, Call, Endpoint, Subject, Url};
use crate::verdict::Kind;

/// Most `[[health.check]]` sections: each is a thread.
const MAX_CHECKS: usize = 64;
/// Longest name of a check, in bytes.
const MAX_NAME: usize = 100;
/// Longest try and longest pause, in seconds.
const MAX_SECONDS: u32 = 300;
/// Most bad tries in a row that may be put up with.
const MAX_RETRIES: u32 = 100;
/// Of a try, unless the configuration says otherwise.
const TIMEOUT: u32 = 5;
/// Likewise of one that runs a program.
const PROGRAM_TIMEOUT: u32 = 10;
/// Bad tries in a row, unless the configuration says otherwise.
const RETRIES: u32 = 3;

/// What is to follow when, at the end, only "not known yet" is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Nothing is said about the version; a trial is booted again.
    #[default]
    Retry,
    /// As if it were healthy.
    Bless,
    /// As if it were unhealthy.
    Condemn,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retry => "retry",
            Self::Bless => "bless",
            Self::Condemn => "condemn",
        })
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Section")]
pub struct Check {
    /// For people; no two are alike.
    pub name: String,
    /// What it looks at.
    pub subject: Subject,
    /// What weight it has.
    pub kind: Kind,
    /// Longest time of one try.
    pub timeout: Duration,
    /// Bad tries in a row that do not count as bad yet.
    pub retries: u32,
    /// Between two tries.
    pub interval: Duration,
}

impl Check {
    /// A check with the times and the weight that are usual for its subject.
    pub fn usual(subject: Subject) -> Self {
        let timeout = match subject {
            Subject::Program(_) => PROGRAM_TIMEOUT,
            _ => TIMEOUT,
        };
        let kind = match subject {
            Subject::Dns(_) => Kind::Infrastructure,
            _ => Kind::Required,
        };
        Self {
            name: subject.to_string(),
            subject,
            kind,
            timeout: Duration::from_secs(timeout.into()),
            retries: RETRIES,
            interval: Duration::from_secs(1),
        }
    }
}

/// One `[[health.check]]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    unit: Option<String>,
    bus_name: Option<String>,
    call: Option<Call>,
    tcp: Option<String>,
    unix: Option<String>,
    http: Option<String>,
    status: Option<u16>,
    writable: Option<String>,
    free: Option<String>,
    min_mib: Option<u64>,
    dns: Option<String>,
    command: Option<Vec<String>>,
    name: Option<String>,
    timeout_seconds: Option<u32>,
    retries: Option<u32>,
    interval_seconds: Option<u32>,
    #[serde(default)]
    wanted: bool,
    infrastructure: Option<bool>,
}

impl TryFrom<Section> for Check {
    type Error = String;

    fn try_from(mut section: Section) -> Result<Self, String> {
        let subject = section.subject()?;
        let mut check = Self::usual(subject);
        if let Some(name) = section.name {
            let plain = !name.trim().is_empty() && !name.chars().any(char::is_control);
            if !plain || name.len() > MAX_NAME {
                return Err(format!(
                    "name = {name:?}: must be one line of at most {MAX_NAME} bytes"
                ));
            }
            check.name = name;
        }
        if let Some(seconds) = section.timeout_seconds {
            check.timeout = seconds_in("timeout_seconds", seconds)?;
        }
        if let Some(seconds) = section.interval_seconds {
            check.interval = seconds_in("interval_seconds", seconds)?;
        }
        if let Some(retries) = section.retries {
            if retries > MAX_RETRIES {
                return Err(format!("retries = {retries}: must be 0 to {MAX_RETRIES}"));
            }
            check.retries = retries;
        }
        check.kind = match (section.wanted, section.infrastructure) {
            (true, Some(true)) => {
                return Err(
                    "wanted and infrastructure: a check that never decides can't be waited for; choose one"
                        .to_owned(),
                );
            }
            (true, _) => Kind::Wanted,
            (false, Some(true)) => Kind::Infrastructure,
            (false, Some(false)) => Kind::Required,
            (false, None) => check.kind,
        };
        Ok(check)
    }
}

fn seconds_in(key: &str, seconds: u32) -> Result<Duration, String> {
    if (1..=MAX_SECONDS).contains(&seconds) {
        Ok(Duration::from_secs(seconds.into()))
    } else {
        Err(format!("{key} = {seconds}: must be 1 to {MAX_SECONDS}"))
    }
}

/// The keys of which a section has exactly one.
const KINDS: &str = "unit, bus_name, tcp, unix, http, writable, free, dns and command";

impl Section {
    /// Takes the kind and what goes with it out of the section.
    fn subject(&mut self) -> Result<Subject, String> {
        let mut subjects = Vec::new();
        if let Some(name) = &self.unit {
            subjects.push(Subject::Unit(subject::full_name("unit", name)?));
        }
        if let Some(name) = &self.bus_name {
            let call = self.call.take().unwrap_or_default();
            call.check()?;
            let name = subject::full_name("bus_name", name)?;
            subjects.push(Subject::BusName { name, call });
        }
        if let Some(text) = &self.tcp {
            let endpoint = Endpoint::parse(text, None).map_err(|why| format!("tcp = {why}"))?;
            subjects.push(Subject::Tcp(endpoint));
        }
        if let Some(text) = &self.unix {
            subjects.push(Subject::Unix(subject::path("unix", text)?));
        }
        if let Some(text) = &self.http {
            subjects.push(Subject::Http(Url::parse(text, self.status.take())?));
        }
        if let Some(text) = &self.writable {
            subjects.push(Subject::Writable(subject::path("writable", text)?));
        }
        if let Some(text) = &self.free {
            let path = subject::path("free", text)?;
            let min_mib = self.min_mib.take().filter(|&mib| mib > 0);
            let min_mib = min_mib.ok_or("free: how much must be left? Add min_mib = 64, or so")?;
            subjects.push(Subject::Free { path, min_mib });
        }
        if let Some(text) = &self.dns {
            subjects.push(Subject::Dns(subject::host_name(text)?));
        }
        if let Some(words) = self.command.take() {
            subjects.push(Subject::Program(subject::command(words)?));
        }
        let count = subjects.len();
        let (Some(subject), 1) = (subjects.pop(), count) else {
            return Err(format!(
                "a health.check has exactly one of {KINDS}, and this one has {count}"
            ));
        };
        // Whatever is left belongs to a kind this check is not of.
        for (key, owner, there) in [
            ("call", "bus_name", self.call.is_some()),
            ("status", "http", self.status.is_some()),
            ("min_mib", "free", self.min_mib.is_some()),
        ] {
            if there {
                return Err(format!("{key}: goes with {owner} only"));
            }
        }
        Ok(subject)
    }
}

/// All of `[health]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long everything must hold.
    pub settle: Duration,
    /// By then everything required must hold, from the start of the agent.
    pub timeout: Duration,
    /// By then the boot must be blessed, from the start of the kernel.
    pub deadline: Duration,
    /// What follows from not knowing.
    pub unknown: Policy,
    /// The checks: `units` and `bus_names` first, then the sections in order.
    pub checks: Vec<Check>,
    /// Where the version is mounted.
    pub lower: PathBuf,
}

/// The file, as far as the activator leaves it to this module. That there are no
/// other keys, it has checked.
#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    health: Health,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Health {
    unknown: Policy,
    check: Vec<Check>,
}

impl Settings {
    /// Reads and checks a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        // Its errors of reading are as good here.
        Config::load(path)?;
        let text = files::read_text(path, MAX_LEN).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|why| ConfigError::Invalid {
            path: path.to_owned(),
            why,
        })
    }

    /// Parses a configuration. The error is one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config = Config::parse(text)?;
        let file: File = toml::from_str(text).map_err(|why| one_line(text, &why))?;
        let sections = file.health.check;
        if sections.len() > MAX_CHECKS {
            return Err(format!("more than {MAX_CHECKS} [[health.check]] sections"));
        }
        let units = config.health.units.into_iter().map(Subject::Unit);
        let names = config.health.bus_names.into_iter().map(|name| {
            let call = Call::default();
            Subject::BusName { name, call }
        });
        let mut checks: Vec<_> = units.chain(names).map(Check::usual).collect();
        checks.extend(sections);
        let mut seen = BTreeSet::new();
        for check in &checks {
            if !seen.insert(&check.name) {
                return Err(format!(
                    "health: two checks are called {:?}; give one of them a name of its own",
                    check.name
                ));
            }
        }
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Ok(Self {
            settle: seconds(config.health.settle_seconds),
            timeout: seconds(config.health.timeout_seconds),
            deadline: seconds(config.health.deadline_seconds),
            unknown: file.health.unknown,
            checks,
            lower: config.mounts.lower,
        })
    }
}

#[cfg(test)]
mod tests;
