//! Judges the health of what runs.
//!
//! | Module | Does |
//! |---|---|
//! | [`judge`] | turns findings into a verdict; pure |
//! | [`watch`] | looks at everything side by side, bounded in time whatever hangs |
//! | [`tasks`] | makes of the configured checks something that can be done |
//! | [`bus`] | looks at units and bus names over the system bus |
//! | [`program`] | looks by running an executable |
//! | [`endpoint`] | looks at sockets |
//! | [`report`] | says the verdict, for people and for programs |
//!
//! What is configured, and the file the verdict is written to, are in
//! `op-dbus-health`.

pub mod bus;
pub mod endpoint;
pub mod judge;
pub mod program;
pub mod report;
mod stop;
pub mod tasks;
pub mod watch;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use op_dbus_activator::activation::Activation;
use op_dbus_activator::config::ConfigError;
use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::{BootId, Version};
use op_dbus_health::settings::{Policy, Settings};
use op_dbus_health::verdict::{Failure, Kind, Report, SCHEMA, Verdict};
use rustix::time::{ClockId, clock_gettime};

use judge::Times;
use watch::Ending;

/// A verdict comes so long before the deadline at the latest: the deadline's
/// timer says "not in time", and this program says what.
const BEFORE_DEADLINE: Duration = Duration::from_secs(15);
/// What a late start leaves for looking around, beside the settle time.
const LEAST: Duration = Duration::from_secs(5);
/// What is waited for beyond timeout and settle time where there is no deadline.
const GRACE: Duration = Duration::from_secs(10);

/// The configuration is missing or wrong.
const CONFIGURATION: u8 = 3;

/// How a run was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where the host and its `/run` are.
    pub layout: Layout,
    /// One JSON object instead of lines.
    pub json: bool,
    /// Time since boot, if it is not to be what the kernel says.
    pub uptime: Option<Duration>,
}

/// Watches until there is a verdict, writes it down, says it, and returns what
/// the program is to end with.
pub fn run(request: &Request, config: &Path) -> ExitCode {
    let started = Instant::now();
    let uptime = request.uptime.unwrap_or_else(since_boot);
    let (inbox, messages) = mpsc::channel();
    // First of all: from here on a shutdown is told apart from a failure.
    let stop = stop::listen(&inbox);
    if let Err(why) = Report::remove(&request.layout) {
        eprintln!("op-dbus-agent: remove the verdict before: {why}");
    }
    let mut report = Report {
        schema: SCHEMA,
        boot_id: boot_id(),
        version: active(&request.layout),
        verdict: Verdict::None,
        policy: Policy::default(),
        decided_ms: 0,
        waited_ms: 0,
        checks: 0,
        failures: Vec::new(),
    };
    let finish = |report: &mut Report| {
        let waited = started.elapsed();
        report.waited_ms = milliseconds(waited);
        report.decided_ms = milliseconds(uptime.saturating_add(waited));
        if let Err(why) = report.write(&request.layout) {
            let path = Report::path(&request.layout);
            eprintln!("op-dbus-agent: {}: write: {why}", path.display());
        }
    };
    let settings = match Settings::load(config) {
        Ok(settings) => settings,
        Err(why) => {
            report.failures = vec![mistake(&why)];
            finish(&mut report);
            eprintln!("op-dbus-agent: {why}");
            return ExitCode::from(CONFIGURATION);
        }
    };
    report.policy = settings.unknown;
    let times = times(&settings, uptime);
    let tasks = tasks::tasks(&settings.checks);
    report.checks = tasks.len();
    match watch::watch(tasks, times, &inbox, &messages) {
        Ending::Decided(decision) => {
            report.verdict = decision.verdict;
            report.failures = decision.failures;
        }
        Ending::Stopped => {
            report.failures = vec![Failure::new(
                "op-dbus-agent",
                "was stopped before there was a verdict",
                Kind::Required,
            )];
        }
    }
    finish(&mut report);
    say(&report, settings.settle, request.json);
    match (report.verdict, report.policy) {
        (Verdict::Healthy, _) | (Verdict::Unknown, Policy::Bless) => ExitCode::SUCCESS,
        (Verdict::Unhealthy, _) | (Verdict::Unknown, Policy::Condemn) => ExitCode::FAILURE,
        (Verdict::Unknown, Policy::Retry) => ExitCode::from(program::NOT_KNOWN),
        (Verdict::None, _) => stop::end(stop),
    }
}

/// Checks the configuration only, and says what it asks for.
pub fn check_config(config: &Path, json: bool) -> ExitCode {
    let settings = match Settings::load(config) {
        Ok(settings) => settings,
        Err(why) => {
            eprintln!("op-dbus-agent: {why}");
            return ExitCode::from(CONFIGURATION);
        }
    };
    let said = if json {
        let checks: Vec<_> = settings
            .checks
            .iter()
            .map(|check| {
                serde_json::json!({
                    "check": check.name,
                    "subject": check.subject.to_string(),
                    "kind": check.kind,
                    "timeout_seconds": check.timeout.as_secs(),
                    "retries": check.retries,
                    "interval_seconds": check.interval.as_secs(),
                })
            })
            .collect();
        serde_json::json!({ "schema": 1, "unknown": settings.unknown, "checks": checks })
            .to_string()
    } else {
        let mut lines: Vec<_> = settings.checks.iter().map(tasks::described).collect();
        lines.push(format!(
            "{}: {} checks, and what is in health.d",
            config.display(),
            settings.checks.len()
        ));
        lines.join("\n")
    };
    print(&said);
    ExitCode::SUCCESS
}

fn say(report: &Report, settle: Duration, json: bool) {
    let said = if json {
        report::json(report).map_err(io::Error::from)
    } else {
        Ok(report::lines(report, settle.as_secs()).join("\n"))
    };
    match said {
        Ok(text) => print(&text),
        Err(why) => eprintln!("op-dbus-agent: encode the verdict: {why}"),
    }
}

/// The verdict is the exit code; a closed pipe does not change it.
fn print(text: &str) {
    if let Err(why) = writeln!(io::stdout(), "{text}") {
        eprintln!("op-dbus-agent: print: {why}");
    }
}

/// A typing mistake judges no version.
fn mistake(why: &ConfigError) -> Failure {
    Failure::new("configuration", &why.to_string(), Kind::Required)
}

/// How long what may take, if the boot is `uptime` old.
fn times(settings: &Settings, uptime: Duration) -> Times {
    let Settings {
        settle,
        timeout,
        deadline,
        ..
    } = *settings;
    let usual = timeout.saturating_add(settle).saturating_add(GRACE);
    let left = deadline.saturating_sub(uptime);
    Times {
        settle,
        timeout,
        // Past the deadline somebody runs it by hand.
        limit: if left.is_zero() {
            usual
        } else {
            left.saturating_sub(BEFORE_DEADLINE)
                .max(settle.saturating_add(LEAST))
        },
    }
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The kernel's id of this boot.
fn boot_id() -> Option<BootId> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()?
        .parse()
        .ok()
}

/// The version that runs.
fn active(layout: &Layout) -> Option<Version> {
    match Activation::read(layout) {
        Ok(activation) => activation?.running().map(|running| running.version),
        Err(why) => {
            eprintln!("op-dbus-agent: {why}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(deadline: u64, uptime: u64) -> u64 {
        let text =
            format!("[store]\ndevice = \"/dev/vda\"\n[health]\ndeadline_seconds = {deadline}\n");
        let settings = Settings::parse(&text).unwrap();
        times(&settings, Duration::from_secs(uptime))
            .limit
            .as_secs()
    }

    #[test]
    fn the_verdict_comes_before_the_deadline() {
        assert_eq!(limit(300, 20), 265);
        assert_eq!(limit(300, 270), 15);
        // Too late to be in time: what can be looked at is.
        assert_eq!(limit(300, 295), 10);
        // By hand, later.
        assert_eq!(limit(300, 4000), 75);
    }
}
