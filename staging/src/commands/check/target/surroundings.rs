//! What a running system has around us: boot id, clock, watchdog.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use op_dbus_activator::layout::Layout;
use op_dbus_trust::POLICY_DATE;

use crate::commands::check::host::Host;
use crate::commands::check::root::Root;
use crate::deployments::Deployments;
use crate::error::Exit;
use crate::findings::Findings;

/// Files of systemd's manager configuration, the later over the earlier
/// (`systemd-system.conf(5)`).
const SYSTEM_CONF: &str = "/etc/systemd/system.conf";
const SYSTEM_CONF_DIRS: [&str; 4] = [
    "/usr/lib/systemd/system.conf.d",
    "/usr/local/lib/systemd/system.conf.d",
    "/run/systemd/system.conf.d",
    "/etc/systemd/system.conf.d",
];
/// Longest of them, in bytes, and most in one directory.
const CONF_MAX: usize = 256 * 1024;
const CONFS_MAX: usize = 64;
/// A clock is never that far off by daylight saving or a bad zone alone.
const SLACK: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks at all three.
pub(crate) fn check(host: &Host, findings: &mut Findings) {
    boot_id(host, findings);
    let known = newest_known(&host.context.layout);
    clock(SystemTime::now(), &known, findings);
    watchdog(&host.sys, &host.root, findings);
}

/// By it a boot is told from the one before: without it nothing is counted.
fn boot_id(host: &Host, findings: &mut Findings) {
    match host.context.boot_id() {
        Ok(id) => findings.ok("boot id", id.to_string()),
        Err(why) => findings.error(
            Exit::Failure,
            "boot id",
            format!("{}: {}", why.what, why.why),
            "mount /proc; without it no boot is counted or blessed",
        ),
    }
}

/// The latest time that is sure to have passed, and what tells so.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    time: SystemTime,
    by: String,
}

/// From what this program was made with, and what the store has received.
fn newest_known(layout: &Layout) -> Known {
    let built = Known {
        time: UNIX_EPOCH + Duration::from_secs(POLICY_DATE),
        by: "this program was made".to_owned(),
    };
    let deployments = Deployments::read(layout).unwrap_or_default();
    let received = deployments.receipts().iter().filter_map(|receipt| {
        let time: Timestamp = receipt.received_at.parse().ok()?;
        Some(Known {
            time: time.into(),
            by: format!("{} was received", receipt.deployment.version),
        })
    });
    received.fold(
        built,
        |newest, one| {
            if one.time > newest.time { one } else { newest }
        },
    )
}

/// Nothing is accepted or refused by the clock; but what people read is.
fn clock(now: SystemTime, known: &Known, findings: &mut Findings) {
    let shown = |time: SystemTime| {
        Timestamp::try_from(time).map_or_else(
            |_| "a time that can't be told".to_owned(),
            |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        )
    };
    if now + SLACK >= known.time {
        findings.ok("clock", shown(now));
        return;
    }
    findings.warning(
        "clock",
        format!(
            "{} is before {} ({})",
            shown(now),
            known.by,
            shown(known.time)
        ),
        "set it (timedatectl); keys, epochs and boots don't depend on it, but TLS, timers and the times in the audit log do",
    );
}

/// Ends a boot that hangs in a way nothing else ends.
fn watchdog(sys: &Root, root: &Root, findings: &mut Findings) {
    let is_there = sys
        .names("class/watchdog", 8)
        .is_ok_and(|names| !names.is_empty());
    let set = runtime_watchdog(root);
    let is_on = set.as_deref().is_some_and(is_time);
    match (is_there, is_on) {
        (true, true) => findings.ok(
            "watchdog",
            format!("RuntimeWatchdogSec={}", set.unwrap_or_default()),
        ),
        (true, false) => findings.warning(
            "watchdog",
            "there is one, and systemd does not use it: a kernel that hangs would hang for ever",
            "set RuntimeWatchdogSec=30 in /etc/systemd/system.conf.d/50-watchdog.conf ([Manager]), then: systemctl daemon-reexec",
        ),
        (false, true) => findings.warning(
            "watchdog",
            "RuntimeWatchdogSec= is set, and there is no watchdog",
            "load its driver (the vendor's, or softdog), or take the setting back",
        ),
        (false, false) => findings.info(
            "watchdog",
            "there is none: a kernel that hangs without a panic needs a hand",
        ),
    }
}

/// The last `RuntimeWatchdogSec=` of systemd's configuration.
fn runtime_watchdog(root: &Root) -> Option<String> {
    let mut texts = vec![root.text(SYSTEM_CONF, CONF_MAX).unwrap_or_default()];
    // Files of all directories are taken in the order of their names, and of two
    // with the same name the one in the more important directory counts.
    let mut parts = std::collections::BTreeMap::new();
    for dir in SYSTEM_CONF_DIRS {
        for path in root.parts(dir, ".conf", CONFS_MAX) {
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            parts.insert(name, path);
        }
    }
    texts.extend(
        parts
            .values()
            .map(|path| root.text(path, CONF_MAX).unwrap_or_default()),
    );
    let mut value = None;
    for line in texts.iter().flat_map(|text| text.lines()) {
        if let Some(set) = line.trim().strip_prefix("RuntimeWatchdogSec") {
            let set = set.trim_start().strip_prefix('=').map(str::trim);
            value = set.map(str::to_owned).or(value);
        }
    }
    value.filter(|value| !value.is_empty())
}

/// `off`, `0` and `infinity` switch it off; `default` leaves it as the firmware has it.
fn is_time(value: &str) -> bool {
    let first = value.chars().next();
    let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
    first.is_some_and(|c| c.is_ascii_digit()) && digits.parse::<u64>() != Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::{bad, found, host, put};
    use crate::findings::Severity;

    #[test]
    fn a_clock_before_what_is_known_is_told() {
        let noon = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let known = |by: &str| Known {
            time: noon,
            by: by.to_owned(),
        };
        let look = |now| bad(|findings| clock(now, &known("v1.1.0 was received"), findings));
        assert!(look(noon).is_empty());
        assert!(look(noon - SLACK / 2).is_empty());
        let told = look(UNIX_EPOCH);
        let expected = "1970-01-01 00:00 UTC is before v1.1.0 was received (2027-01-15 08:00 UTC)";
        assert_eq!(told, [(Severity::Warning, expected.to_owned())]);
    }

    #[test]
    fn a_boot_id_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        assert_eq!(bad(|findings| boot_id(&host, findings)).len(), 1);
        let id = "7d5f2a0e-94cb-4f3e-8f5b-0b2d8d9f5e11\n";
        put(dir.path(), "proc/sys/kernel/random/boot_id", id);
        assert!(bad(|findings| boot_id(&host, findings)).is_empty());
    }

    #[test]
    fn a_watchdog_is_to_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let host = host(at);
        let look = || found(|findings| watchdog(&host.sys, &host.root, findings));
        assert_eq!(look()[0].0, Severity::Info);
        put(at, "sys/class/watchdog/watchdog0/identity", "x");
        assert_eq!(look()[0].0, Severity::Warning);
        put(
            at,
            "root/etc/systemd/system.conf",
            "[Manager]\n#RuntimeWatchdogSec=1\n",
        );
        assert_eq!(look()[0].0, Severity::Warning);
        put(
            at,
            "root/etc/systemd/system.conf.d/50-x.conf",
            "[Manager]\nRuntimeWatchdogSec = 20s\n",
        );
        assert_eq!(
            look(),
            [(Severity::Ok, "RuntimeWatchdogSec=20s".to_owned())]
        );
        put(
            at,
            "root/usr/lib/systemd/system.conf.d/60-y.conf",
            "RuntimeWatchdogSec=off\n",
        );
        assert_eq!(look()[0].0, Severity::Warning);
    }

    #[test]
    fn what_switches_the_watchdog_on() {
        for (value, is_on) in [
            ("20s", true),
            ("1min", true),
            ("0", false),
            ("off", false),
            ("", false),
            ("infinity", false),
            ("00", false),
        ] {
            assert_eq!(is_time(value), is_on, "{value:?}");
        }
    }
}
