//! Says the verdict: a line for each failed check, or the file's JSON object.

use op_dbus_health::settings::Policy;
use op_dbus_health::verdict::{Kind, Report, Verdict};

/// One object, on one line: what the file has.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string(report)
}

/// One line that says the verdict where no check does, and one a failed check.
pub fn lines(report: &Report, settle_seconds: u64) -> Vec<String> {
    let mut lines = Vec::new();
    match (report.verdict, report.checks) {
        (Verdict::Healthy, 0) => {
            lines.push("healthy: nothing to check; name units or checks in [health]".to_owned());
        }
        (Verdict::Healthy, checks) => {
            // What is only wanted need not have held.
            let held = checks.saturating_sub(report.failures.len());
            let plural = if held == 1 { "" } else { "s" };
            lines.push(format!(
                "healthy: {held} check{plural} held for {settle_seconds} s"
            ));
        }
        (Verdict::Unknown, _) => lines.push(match report.policy {
            Policy::Retry => "not known: nothing is said about the version".to_owned(),
            Policy::Bless => "not known: counts as healthy, as configured".to_owned(),
            Policy::Condemn => "not known: counts as unhealthy, as configured".to_owned(),
        }),
        (Verdict::None, _) => lines.push("no verdict".to_owned()),
        (Verdict::Unhealthy, _) => {}
    }
    lines.extend(report.failures.iter().map(|failure| {
        let word = match (report.verdict, failure.kind) {
            (_, Kind::Wanted) => "wanted",
            (_, Kind::Infrastructure) | (Verdict::Unknown, _) => "not known yet",
            (Verdict::None, _) => "stopped",
            _ => "unhealthy",
        };
        format!("{word}: {}: {}", failure.check, failure.reason)
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_health::verdict::{Failure, SCHEMA};

    fn report(verdict: Verdict, failures: Vec<Failure>) -> Report {
        Report {
            schema: SCHEMA,
            boot_id: None,
            version: None,
            verdict,
            policy: Policy::Retry,
            decided_ms: 1,
            waited_ms: 1,
            checks: 3,
            failures,
        }
    }

    #[test]
    fn a_line_a_failure() {
        let bad = Failure::new("unit a.service", "failed (exit-code)", Kind::Required);
        assert_eq!(
            lines(&report(Verdict::Unhealthy, vec![bad]), 5),
            ["unhealthy: unit a.service: failed (exit-code)"]
        );
    }

    #[test]
    fn what_decides_nothing_is_told_as_such() {
        let wanted = Failure::new("w", "exit code 1", Kind::Wanted);
        assert_eq!(
            lines(&report(Verdict::Healthy, vec![wanted]), 5),
            ["healthy: 2 checks held for 5 s", "wanted: w: exit code 1"]
        );
        let dns = Failure::new("dns a.b", "no answer", Kind::Infrastructure);
        assert_eq!(
            lines(&report(Verdict::Unknown, vec![dns]), 5),
            [
                "not known: nothing is said about the version",
                "not known yet: dns a.b: no answer"
            ]
        );
    }
}
