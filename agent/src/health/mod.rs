//! Judges the health of what runs.
//!
//! | Module | Does |
//! |---|---|
//! | [`judge`] | turns findings into a verdict; pure |
//! | [`watch`] | looks at everything side by side, bounded in time whatever hangs |
//! | [`tasks`] | makes of the configured checks something that can be done |
//! | [`bus`] | looks at units and bus names over the system bus |
//! | [`program`], [`programs`] | looks by running an executable; those of `health.d` |
//! | [`endpoint`], [`http`] | looks at sockets, and at what answers there |
//! | [`dns`] | looks a name up |
//! | [`disk`] | looks at file systems, from a process of its own |
//! | [`report`] | says the verdict, for people and for programs |
//!
//! What is configured, and the file the verdict is written to, are in
//! `op-dbus-health`.

pub mod bus;
pub mod disk;
pub mod dns;
pub mod endpoint;
pub mod http;
pub mod judge;
pub mod program;
pub mod programs;
pub mod report;
mod stop;
pub mod tasks;
pub mod watch;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
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

use crate::place::Place;
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

/// Arguments of `op-dbus-agent health`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The configuration; by default the one below the host's root
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
    /// Only check [health] of the configuration, and say what it asks for
    #[arg(long)]
    check_config: bool,
    /// Seconds since boot, if not what the kernel says
    #[arg(long, value_name = "SECONDS", hide = true)]
    uptime: Option<u64>,
}

/// Runs the command, and returns what the program is to end with.
pub fn main(arguments: Arguments) -> ExitCode {
    let layout = arguments.place.layout();
    let config = arguments.config.unwrap_or_else(|| layout.config());
    if arguments.check_config {
        return check_config(&layout, &config, arguments.json);
    }
    let uptime = arguments
        .uptime
        .map_or_else(since_boot, Duration::from_secs);
    judge_what_runs(&layout, &config, uptime, arguments.json)
}

/// Watches until there is a verdict, writes it down and says it.
fn judge_what_runs(layout: &Layout, config: &Path, uptime: Duration, json: bool) -> ExitCode {
    let started = Instant::now();
    let (inbox, messages) = mpsc::channel();
    // First of all: from here on a shutdown is told apart from a failure.
    let stop = stop::listen(&inbox);
    if let Err(why) = Report::remove(layout) {
        eprintln!("op-dbus-agent: remove the verdict before: {why}");
    }
    let mut report = Report {
        schema: SCHEMA,
        boot_id: boot_id(),
        version: active(layout),
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
        if let Err(why) = report.write(layout) {
            let path = Report::path(layout);
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
    let lower = report.version.as_ref().map(|_| settings.lower.as_path());
    let programs = programs::find(layout, lower);
    let checks: Vec<_> = settings.checks.into_iter().chain(programs.checks).collect();
    let tasks = tasks::tasks(&checks, &layout.host(dns::RESOLV_CONF));
    report.checks = tasks.len() + programs.refused.len();
    match watch::watch(tasks, times, &inbox, &messages) {
        Ending::Decided(decision) => {
            report.verdict = decision.verdict;
            report.failures = decision.failures;
            report.failures.extend(programs.refused);
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
    say(&report, settings.settle, json);
    match (report.verdict, report.policy) {
        (Verdict::Healthy, _) | (Verdict::Unknown, Policy::Bless) => ExitCode::SUCCESS,
        (Verdict::Unhealthy, _) | (Verdict::Unknown, Policy::Condemn) => ExitCode::FAILURE,
        (Verdict::Unknown, Policy::Retry) => ExitCode::from(program::NOT_KNOWN),
        (Verdict::None, _) => stop::end(&stop),
    }
}

/// Checks the configuration only, and says what is asked for.
fn check_config(layout: &Layout, config: &Path, json: bool) -> ExitCode {
    let settings = match Settings::load(config) {
        Ok(settings) => settings,
        Err(why) => {
            eprintln!("op-dbus-agent: {why}");
            return ExitCode::from(CONFIGURATION);
        }
    };
    let lower = active(layout).map(|_| settings.lower.as_path());
    let programs = programs::find(layout, lower);
    let checks: Vec<_> = settings.checks.iter().chain(&programs.checks).collect();
    let refused = programs.refused.iter().map(|it| it.reason.as_str());
    if json {
        let checks: Vec<_> = checks.into_iter().map(tasks::as_json).collect();
        let refused: Vec<_> = refused.collect();
        let unknown = settings.unknown;
        print(
            &serde_json::json!({
                "schema": 1, "unknown": unknown, "checks": checks, "refused": refused,
            })
            .to_string(),
        );
    } else {
        let mut lines: Vec<_> = checks.into_iter().map(tasks::described).collect();
        lines.extend(refused.map(|line| format!("not run: {line}")));
        if lines.is_empty() {
            lines.push("nothing to check; name units or checks in [health]".to_owned());
        }
        print(&lines.join("\n"));
    }
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
