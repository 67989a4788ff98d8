//! Takes rounds of observations until the judge has seen enough.
//!
//! The observing happens in a thread of its own: a bus that accepts a connection
//! and then says nothing could hold it for ever, and a verdict must come.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::judge::{Failure, Finding, Judge, Observation, Subject, Times, Verdict};

/// Between two rounds.
const INTERVAL: Duration = Duration::from_millis(500);
/// What a last round may take beyond the configured times.
const GRACE: Duration = Duration::from_secs(10);

/// Looks at one subject, in bounded time if it can.
pub trait Prober {
    /// What is the matter with it now.
    fn probe(&mut self, subject: &Subject) -> Finding;
}

/// A verdict and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Healthy or not.
    pub verdict: Verdict,
    /// How long it took.
    pub waited: Duration,
}

/// Watches `subjects` until there is a verdict, at most timeout, settle time and
/// ten seconds.
pub fn watch(
    mut prober: impl Prober + Send + 'static,
    subjects: &[Subject],
    times: Times,
) -> Outcome {
    watch_within(
        move |subject| prober.probe(subject),
        subjects,
        times,
        INTERVAL,
        GRACE,
    )
}

fn watch_within(
    mut probe: impl FnMut(&Subject) -> Finding + Send + 'static,
    subjects: &[Subject],
    times: Times,
    interval: Duration,
    grace: Duration,
) -> Outcome {
    let start = Instant::now();
    let limit = times
        .timeout
        .saturating_add(times.settle)
        .saturating_add(grace);
    let (send, rounds) = mpsc::channel();
    let watched = subjects.to_owned();
    // Not joined: when the bus holds it, it ends with the process.
    thread::spawn(move || {
        loop {
            let round: Vec<_> = watched
                .iter()
                .map(|subject| Observation {
                    subject: subject.clone(),
                    finding: probe(subject),
                })
                .collect();
            if send.send(round).is_err() {
                return;
            }
            thread::sleep(interval);
        }
    });
    let mut judge = Judge::new(times);
    loop {
        let verdict = match rounds.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok(round) => judge.observe(start.elapsed(), &round),
            Err(error) => Some(Verdict::Unhealthy(no_rounds(subjects, error))),
        };
        if let Some(verdict) = verdict {
            return Outcome {
                verdict,
                waited: start.elapsed(),
            };
        }
    }
}

fn no_rounds(subjects: &[Subject], error: RecvTimeoutError) -> Vec<Failure> {
    let reason = match error {
        RecvTimeoutError::Timeout => "the system bus did not answer in time",
        RecvTimeoutError::Disconnected => "the agent's observer died; report this bug",
    };
    subjects
        .iter()
        .map(|subject| Failure {
            subject: subject.clone(),
            reason: reason.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        settle: Duration::from_millis(40),
        timeout: Duration::from_millis(200),
    };

    fn subjects() -> Vec<Subject> {
        vec![
            Subject::Unit("a.service".to_owned()),
            Subject::BusName("org.example.A".to_owned()),
        ]
    }

    fn fake(probe: impl FnMut(&Subject) -> Finding + Send + 'static) -> Outcome {
        watch_within(
            probe,
            &subjects(),
            TIMES,
            Duration::from_millis(5),
            Duration::from_millis(50),
        )
    }

    #[test]
    fn all_well_is_healthy_after_the_settle_time() {
        let outcome = fake(|_| Finding::Well {
            mark: String::new(),
        });
        assert_eq!(outcome.verdict, Verdict::Healthy);
        assert!(outcome.waited >= TIMES.settle);
    }

    #[test]
    fn one_of_two_is_not_enough() {
        let outcome = fake(|subject| match subject {
            Subject::Unit(_) => Finding::Well {
                mark: String::new(),
            },
            Subject::BusName(_) => Finding::NotYet("no owner".to_owned()),
        });
        let Verdict::Unhealthy(failures) = outcome.verdict else {
            panic!("healthy");
        };
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].reason, "no owner");
        assert!(outcome.waited >= TIMES.timeout);
    }

    #[test]
    fn a_prober_that_never_returns_does_not_hold_up_the_verdict() {
        let outcome = fake(|_| {
            thread::sleep(Duration::from_secs(3600));
            Finding::NotYet(String::new())
        });
        assert!(matches!(outcome.verdict, Verdict::Unhealthy(failures) if failures.len() == 2));
    }

    #[test]
    fn a_prober_that_dies_is_a_bad_verdict_at_once() {
        let outcome = fake(|_| std::panic::resume_unwind(Box::new("on purpose")));
        assert!(matches!(outcome.verdict, Verdict::Unhealthy(_)));
        assert!(outcome.waited < TIMES.timeout);
    }
}
