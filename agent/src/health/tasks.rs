//! Makes of the configured checks something that can be done.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use op_dbus_health::settings::Check;
use op_dbus_health::subject::Subject;
use op_dbus_health::verdict::Kind;

use super::bus::Bus;
use super::disk::{self, Disk};
use super::judge::Rule;
use super::watch::{Look, Task};
use super::{dns, endpoint, http, program};
use crate::child::Runner;

/// One task a check, in the same order. `resolv_conf`: where DNS servers stand.
pub fn tasks(checks: &[Check], resolv_conf: &Path) -> Vec<Task> {
    let mut shared = Shared {
        runner: Runner::default(),
        buses: BTreeMap::new(),
        resolv_conf: resolv_conf.to_owned(),
    };
    checks
        .iter()
        .map(|check| Task {
            rule: Rule {
                name: check.name.clone(),
                kind: check.kind,
                retries: check.retries,
            },
            timeout: check.timeout,
            interval: check.interval,
            look: shared.look(check),
        })
        .collect()
}

/// What checks have in common.
struct Shared {
    runner: Runner,
    resolv_conf: PathBuf,
    /// One a time limit: it is a property of the connection.
    buses: BTreeMap<Duration, Bus>,
}

impl Shared {
    fn bus(&mut self, timeout: Duration) -> Bus {
        let bus = self.buses.entry(timeout);
        bus.or_insert_with(|| Bus::new(timeout)).clone()
    }

    fn disk(&self, disk: Disk, timeout: Duration) -> Look {
        let runner = self.runner.clone();
        Box::new(move || disk::look(&runner, &disk, timeout))
    }

    fn look(&mut self, check: &Check) -> Look {
        let timeout = check.timeout;
        match check.subject.clone() {
            Subject::Unit(name) => {
                let bus = self.bus(timeout);
                Box::new(move || bus.unit(&name))
            }
            Subject::BusName { name, call } => {
                let bus = self.bus(timeout);
                Box::new(move || bus.name(&name, &call))
            }
            Subject::Tcp(endpoint) => Box::new(move || endpoint::tcp(&endpoint, timeout)),
            Subject::Program(words) => {
                let argv: Vec<_> = words.into_iter().map(OsString::from).collect();
                let runner = self.runner.clone();
                Box::new(move || program::look(&runner, &argv, timeout))
            }
            Subject::Unix(path) => Box::new(move || endpoint::unix(&path)),
            Subject::Http(url) => Box::new(move || http::look(&url, timeout)),
            Subject::Dns(name) => {
                let resolv_conf = self.resolv_conf.clone();
                Box::new(move || dns::look(&name, &resolv_conf, timeout))
            }
            Subject::Writable(path) => self.disk(Disk::Writable { path }, timeout),
            Subject::Free { path, min_mib } => self.disk(Disk::Free { path, min_mib }, timeout),
        }
    }
}

/// A check as an object.
pub fn as_json(check: &Check) -> serde_json::Value {
    serde_json::json!({
        "check": check.name,
        "subject": check.subject.to_string(),
        "kind": check.kind,
        "timeout_seconds": check.timeout.as_secs(),
        "retries": check.retries,
        "interval_seconds": check.interval.as_secs(),
    })
}

/// One line about a check.
pub fn described(check: &Check) -> String {
    let kind = match check.kind {
        Kind::Required => "required",
        Kind::Wanted => "wanted",
        Kind::Infrastructure => "infrastructure",
    };
    let subject = check.subject.to_string();
    let named = if subject == check.name {
        String::new()
    } else {
        format!(" ({subject})")
    };
    format!(
        "{kind}: {}{named}: every {} s, at most {} s, {} retries",
        check.name,
        check.interval.as_secs(),
        check.timeout.as_secs(),
        check.retries
    )
}
