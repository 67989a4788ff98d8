//! From observations to a verdict. Pure: time comes in as a number.
//!
//! A version is healthy once every check has held without a break for the settle
//! time. Every check must hold for the first time within the timeout; the settle
//! time may reach beyond it, a break then may not. A restart between two rounds
//! leaves a unit active at both, so each observation carries a mark that a
//! restart changes.

use std::time::Duration;

use serde::Serialize;

/// What a check is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A systemd unit.
    Unit(String),
    /// A name on the system bus.
    BusName(String),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unit(name) => write!(f, "unit {name}"),
            Self::BusName(name) => write!(f, "bus name {name}"),
        }
    }
}

/// What one look at a subject found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It works.
    Well {
        /// Differs when it is no longer the same run: another activation of the
        /// unit, another owner of the name.
        mark: String,
    },
    /// Not now; it may come.
    NotYet(String),
    /// Not now, and nothing will bring it back by itself: no use in waiting.
    Lost(String),
}

/// One subject in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What was looked at.
    pub subject: Subject,
    /// What was found.
    pub finding: Finding,
}

/// A check that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What failed.
    pub subject: Subject,
    /// Why, in words.
    pub reason: String,
}

/// The end of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every check held for the settle time.
    Healthy,
    /// At least one did not.
    Unhealthy(Vec<Failure>),
}

/// How long what may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Every check must hold so long without a break.
    pub settle: Duration,
    /// By then every check must hold.
    pub timeout: Duration,
}

/// Gathers rounds.
#[derive(Debug)]
pub struct Judge {
    times: Times,
    /// Since when all has been well, and the marks of that time.
    well: Option<(Duration, Vec<String>)>,
}

impl Judge {
    /// Nothing observed yet.
    pub fn new(times: Times) -> Self {
        Self { times, well: None }
    }

    /// Takes the round that ended `at` so long after the start. None: go on.
    pub fn observe(&mut self, at: Duration, round: &[Observation]) -> Option<Verdict> {
        let mut marks = Vec::new();
        let mut failures = Vec::new();
        let mut lost = false;
        for Observation { subject, finding } in round {
            match finding {
                Finding::Well { mark } => marks.push(mark.clone()),
                Finding::NotYet(reason) | Finding::Lost(reason) => {
                    lost |= matches!(finding, Finding::Lost(_));
                    failures.push(Failure {
                        subject: subject.clone(),
                        reason: reason.clone(),
                    });
                }
            }
        }
        let late = at >= self.times.timeout;
        if !failures.is_empty() {
            self.well = None;
            return (lost || late).then_some(Verdict::Unhealthy(failures));
        }
        match &self.well {
            Some((since, before)) if *before == marks => {
                (at.saturating_sub(*since) >= self.times.settle).then_some(Verdict::Healthy)
            }
            Some((_, before)) if late => Some(Verdict::Unhealthy(changed(round, before, &marks))),
            _ => {
                self.well = Some((at, marks));
                self.times.settle.is_zero().then_some(Verdict::Healthy)
            }
        }
    }
}

/// The subjects that are well but not as they were.
fn changed(round: &[Observation], before: &[String], marks: &[String]) -> Vec<Failure> {
    round
        .iter()
        .zip(before.iter().zip(marks))
        .filter(|(_, (before, now))| before != now)
        .map(|(observation, _)| Failure {
            subject: observation.subject.clone(),
            reason: "restarted within the settle time, and there is no time for another".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        settle: Duration::from_secs(5),
        timeout: Duration::from_secs(60),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn unit(finding: Finding) -> Vec<Observation> {
        vec![Observation {
            subject: Subject::Unit("a.service".to_owned()),
            finding,
        }]
    }

    fn well(mark: &str) -> Vec<Observation> {
        unit(Finding::Well {
            mark: mark.to_owned(),
        })
    }

    fn not_yet() -> Vec<Observation> {
        unit(Finding::NotYet("activating (start)".to_owned()))
    }

    fn is_unhealthy(verdict: Option<Verdict>) -> bool {
        matches!(verdict, Some(Verdict::Unhealthy(failures)) if !failures.is_empty())
    }

    #[test]
    fn healthy_after_the_settle_time() {
        let mut judge = Judge::new(TIMES);
        assert_eq!(judge.observe(seconds(0), &not_yet()), None);
        assert_eq!(judge.observe(seconds(1), &well("1")), None);
        assert_eq!(judge.observe(seconds(5), &well("1")), None);
        assert_eq!(
            judge.observe(seconds(6), &well("1")),
            Some(Verdict::Healthy)
        );
    }

    #[test]
    fn a_break_starts_the_settle_time_again() {
        let mut judge = Judge::new(TIMES);
        assert_eq!(judge.observe(seconds(0), &well("1")), None);
        assert_eq!(judge.observe(seconds(4), &not_yet()), None);
        assert_eq!(judge.observe(seconds(5), &well("1")), None);
        assert_eq!(judge.observe(seconds(9), &well("1")), None);
        assert_eq!(
            judge.observe(seconds(10), &well("1")),
            Some(Verdict::Healthy)
        );
    }

    #[test]
    fn a_restart_between_rounds_is_a_break() {
        let mut judge = Judge::new(TIMES);
        for second in 0..60 {
            // Dies every three seconds, and is up again at every look.
            let verdict = judge.observe(seconds(second), &well(&(second / 3).to_string()));
            assert_eq!(verdict, None, "second {second}");
        }
        assert!(is_unhealthy(judge.observe(seconds(60), &well("20"))));
    }

    #[test]
    fn never_well_ends_at_the_timeout() {
        let mut judge = Judge::new(TIMES);
        assert_eq!(judge.observe(seconds(59), &not_yet()), None);
        assert!(is_unhealthy(judge.observe(seconds(60), &not_yet())));
    }

    #[test]
    fn the_settle_time_may_reach_beyond_the_timeout() {
        let mut judge = Judge::new(TIMES);
        assert_eq!(judge.observe(seconds(58), &well("1")), None);
        assert_eq!(judge.observe(seconds(61), &well("1")), None);
        assert_eq!(
            judge.observe(seconds(63), &well("1")),
            Some(Verdict::Healthy)
        );
    }

    #[test]
    fn what_is_lost_needs_no_waiting() {
        let mut judge = Judge::new(TIMES);
        let lost = unit(Finding::Lost("failed (exit-code)".to_owned()));
        assert!(is_unhealthy(judge.observe(seconds(0), &lost)));
    }

    #[test]
    fn nothing_to_check_is_healthy_after_the_settle_time() {
        let mut judge = Judge::new(TIMES);
        assert_eq!(judge.observe(seconds(0), &[]), None);
        assert_eq!(judge.observe(seconds(5), &[]), Some(Verdict::Healthy));
    }

    #[test]
    fn without_a_settle_time_once_is_enough() {
        let mut judge = Judge::new(Times {
            settle: Duration::ZERO,
            ..TIMES
        });
        assert_eq!(
            judge.observe(seconds(0), &well("1")),
            Some(Verdict::Healthy)
        );
    }
}
