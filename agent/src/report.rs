//! Says the verdict: a line for each failed check, or one JSON object.

use serde::Serialize;

use crate::judge::{Failure, Times, Verdict};
use crate::watch::Outcome;

#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    healthy: bool,
    checks: usize,
    waited_ms: u128,
    failures: &'a [Failure],
}

fn failures(outcome: &Outcome) -> &[Failure] {
    match &outcome.verdict {
        Verdict::Healthy => &[],
        Verdict::Unhealthy(failures) => failures,
    }
}

/// One object, on one line.
pub fn json(outcome: &Outcome, checks: usize) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Json {
        schema: 1,
        healthy: outcome.verdict == Verdict::Healthy,
        checks,
        waited_ms: outcome.waited.as_millis(),
        failures: failures(outcome),
    })
}

/// One line a failed check, or one that says that all is well.
pub fn lines(outcome: &Outcome, checks: usize, times: Times) -> Vec<String> {
    if outcome.verdict == Verdict::Healthy {
        let settle = times.settle.as_secs();
        return vec![match checks {
            0 => "healthy: nothing to check; name units or bus_names in [health]".to_owned(),
            1 => format!("healthy: 1 check held for {settle} s"),
            _ => format!("healthy: {checks} checks held for {settle} s"),
        }];
    }
    failures(outcome)
        .iter()
        .map(|failure| format!("unhealthy: {}: {}", failure.subject, failure.reason))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Subject;
    use std::time::Duration;

    fn bad() -> Outcome {
        Outcome {
            verdict: Verdict::Unhealthy(vec![Failure {
                subject: Subject::Unit("a.service".to_owned()),
                reason: "failed (exit-code)".to_owned(),
            }]),
            waited: Duration::from_millis(1500),
        }
    }

    #[test]
    fn json_keeps_its_shape() {
        assert_eq!(
            json(&bad(), 2).unwrap(),
            r#"{"schema":1,"healthy":false,"checks":2,"waited_ms":1500,"failures":[{"subject":{"unit":"a.service"},"reason":"failed (exit-code)"}]}"#
        );
    }

    #[test]
    fn a_line_a_failure() {
        let times = Times {
            settle: Duration::from_secs(5),
            timeout: Duration::from_secs(60),
        };
        assert_eq!(
            lines(&bad(), 2, times),
            ["unhealthy: unit a.service: failed (exit-code)"]
        );
    }
}
