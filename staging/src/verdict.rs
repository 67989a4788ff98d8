//! What the health check said of this boot, as far as it counts.
//!
//! The file is [`op_dbus_health::verdict`]'s. A verdict counts only for the boot
//! and the version it was made in. What is missing, of another boot or version,
//! or can't be understood, is silence: the check did not end properly.

use op_dbus_bootstate::transition::Running;
use op_dbus_health::settings::Policy;
use op_dbus_health::verdict::{self, Failure, Kind, Report};

use crate::context::Context;

/// Longest text made of a verdict's reasons, in bytes: the log's bound on a
/// detail leaves room for a few words before it.
const REASONS_MAX: usize = 900;

/// What the health check said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well.
    Healthy,
    /// Something that decides is bad; what, for people.
    Unhealthy(String),
    /// Nothing is bad, but something was not known in time; what, for people,
    /// and what is to follow.
    Unknown(String, Policy),
    /// It was stopped, or could not tell what to look at: nothing follows; why,
    /// for people.
    Stopped(String),
    /// Nothing that counts for this boot.
    Silent,
}

/// The file, if it is about what runs in this boot. The error is one line;
/// `Ok(None)`: there is none.
pub(crate) fn said(context: &Context, running: &Running) -> Result<Option<Report>, String> {
    let path = Report::path(&context.layout);
    let checked = match Report::read(&context.layout) {
        Ok(None) => return Ok(None),
        Ok(Some(report)) => is_about(&report, running).map(|()| report),
        Err(why) => Err(why.to_string()),
    };
    checked
        .map(Some)
        .map_err(|why| format!("{}: {why}; it does not count", path.display()))
}

/// Reads what was said of what runs in this boot.
pub(crate) fn read(context: &Context, running: &Running) -> Verdict {
    match said(context, running) {
        Ok(None) => Verdict::Silent,
        Ok(Some(report)) => weigh(&report),
        Err(why) => {
            context.warn(why);
            Verdict::Silent
        }
    }
}

fn is_about(report: &Report, running: &Running) -> Result<(), String> {
    if report.boot_id != Some(running.boot_id) {
        return Err("of another boot".to_owned());
    }
    if report.version.as_ref() != Some(&running.version) {
        return Err(format!("not about {}, which runs", running.version));
    }
    Ok(())
}

fn weigh(report: &Report) -> Verdict {
    let of = |kinds: &[Kind]| {
        let those = report.failures.iter();
        words(those.filter(|failed| kinds.contains(&failed.kind)))
    };
    match report.verdict {
        verdict::Verdict::Healthy => Verdict::Healthy,
        verdict::Verdict::Unhealthy => Verdict::Unhealthy(of(&[Kind::Required])),
        verdict::Verdict::Unknown => {
            let reasons = of(&[Kind::Infrastructure, Kind::Required]);
            Verdict::Unknown(reasons, report.policy)
        }
        verdict::Verdict::None => Verdict::Stopped(of(&[Kind::Required])),
    }
}

/// One line of everything, bounded.
fn words<'f>(failures: impl Iterator<Item = &'f Failure>) -> String {
    let mut text = String::new();
    let mut left_out = 0_usize;
    for failed in failures {
        let one = format!("{}: {}", failed.check, failed.reason);
        if !text.is_empty() && text.len().saturating_add(one.len()) > REASONS_MAX {
            left_out = left_out.saturating_add(1);
            continue;
        }
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&one);
    }
    if left_out > 0 {
        text = format!("{text}; and {left_out} more");
    }
    if text.is_empty() {
        text.push_str("no reason was given");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::{BootId, Digest, Slot};

    fn running() -> Running {
        Running {
            boot_id: BootId([7; 16]),
            slot: Slot::Trial,
            version: "v1.2.0".parse().unwrap(),
            digest: Digest([1; 32]),
            counted: true,
        }
    }

    fn report(verdict: &str, failures: &str) -> Report {
        let id = BootId([7; 16]);
        let text = format!(
            r#"{{"schema":1,"boot_id":"{id}","version":"v1.2.0","verdict":"{verdict}","policy":"bless","decided_ms":5,"failures":[{failures}]}}"#
        );
        Report::parse(text.as_bytes()).unwrap()
    }

    const WEB: &str =
        r#"{"check":"unit web.service","reason":"failed\n(exit-code)","kind":"required"}"#;
    const NICE: &str = r#"{"check":"free /var","reason":"2 MiB","kind":"wanted"}"#;
    const DNS: &str = r#"{"check":"dns example.org","reason":"timed out","kind":"infrastructure"}"#;

    #[test]
    fn reasons_are_those_that_decided() {
        let said = |verdict: &str, failures: &str| weigh(&report(verdict, failures));
        let all = format!("{WEB},{NICE},{DNS}");
        assert_eq!(said("healthy", NICE), Verdict::Healthy);
        let words = "unit web.service: failed (exit-code)";
        assert_eq!(
            said("unhealthy", &all),
            Verdict::Unhealthy(words.to_owned())
        );
        let words = "dns example.org: timed out".to_owned();
        assert_eq!(
            said("unknown", &format!("{NICE},{DNS}")),
            Verdict::Unknown(words, Policy::Bless)
        );
        let stopped = r#"{"check":"op-dbus-agent","reason":"was stopped","kind":"required"}"#;
        assert_eq!(
            said("none", stopped),
            Verdict::Stopped("op-dbus-agent: was stopped".to_owned())
        );
        assert_eq!(
            said("unhealthy", ""),
            Verdict::Unhealthy("no reason was given".to_owned())
        );
    }

    #[test]
    fn reasons_are_bounded() {
        let one = format!(
            r#"{{"check":"a","reason":"{}","kind":"required"}}"#,
            "ö".repeat(300)
        );
        let all = vec![one.as_str(); 50].join(",");
        let Verdict::Unhealthy(words) = weigh(&report("unhealthy", &all)) else {
            panic!("no verdict");
        };
        assert!(words.len() <= REASONS_MAX + 20, "{}", words.len());
        assert!(words.ends_with("and 46 more"), "{words}");
    }

    #[test]
    fn a_verdict_on_anything_else_does_not_count() {
        assert_eq!(is_about(&report("healthy", ""), &running()), Ok(()));
        let spoiled: [fn(&mut Report); 4] = [
            |report| report.boot_id = Some(BootId([8; 16])),
            |report| report.boot_id = None,
            |report| report.version = Some("v1.1.0".parse().unwrap()),
            |report| report.version = None,
        ];
        for (case, spoil) in spoiled.into_iter().enumerate() {
            let mut report = report("healthy", "");
            spoil(&mut report);
            assert!(is_about(&report, &running()).is_err(), "case {case}");
        }
    }
}
