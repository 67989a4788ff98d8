//! From findings to a verdict. Pure: time comes in as a number.
//!
//! A version is healthy once every check that decides has held without a break
//! for the settle time. A break is a bad try, or another run of what is looked
//! at: a restart between two looks leaves a unit active at both, so findings
//! carry a mark that a restart changes.
//!
//! Bad tries are put up with until the timeout. After it, a check that was never
//! anything but bad is bad, and another one when there were more bad tries in a
//! row than its `retries`. "Not known yet" is put up with until
//! the limit, which lies before the boot's deadline. What flaps never settles:
//! after the timeout, a second break before it settled again is its last.

use std::time::Duration;

use op_dbus_health::verdict::{Failure, Kind, Verdict};

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
    /// Nobody can tell yet.
    Unknown(String),
    /// Not now, and nothing will bring it back by itself: no use in waiting.
    Lost(String),
}

impl Finding {
    /// Well, and there is nothing that could be another run.
    pub fn well() -> Self {
        Self::Well {
            mark: String::new(),
        }
    }
}

/// How long what may take, from the start of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Every check must hold so long without a break.
    pub settle: Duration,
    /// By then every check must hold, or not be known yet.
    pub timeout: Duration,
    /// By then there is a verdict.
    pub limit: Duration,
}

/// A verdict and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Healthy, unhealthy or unknown.
    pub verdict: Verdict,
    /// What does not hold: first what decided, then what was only reported.
    pub failures: Vec<Failure>,
}

/// What a judge must know of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What weight it has.
    pub kind: Kind,
    /// Bad tries in a row that do not count as bad yet.
    pub retries: u32,
}

/// A time in which a check held without a break.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hold {
    since: Duration,
    until: Duration,
    mark: String,
    /// What came before was "not known yet": too short a time is no fault.
    after_unknown: bool,
}

/// One check so far.
#[derive(Debug)]
struct Course {
    rule: Rule,
    /// None before the first try has ended.
    last: Option<Finding>,
    hold: Option<Hold>,
    bad_in_a_row: u32,
    /// It was never anything else: nothing speaks for putting up with more.
    only_bad: bool,
    /// Times it held and then did not.
    breaks: u32,
    /// Of these, after the timeout and since it last held for the settle time.
    late_breaks: u32,
    /// What the last break was.
    broke: String,
    /// There is no more to be expected of it.
    lost: Option<String>,
}

/// What a check amounts to at some time.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Well,
    /// Held, but not for long enough.
    Settling,
    /// Bad or not tried yet, within what is put up with.
    Wavering(String),
    Bad(String),
    Unknown(String),
}

impl Course {
    fn new(rule: Rule) -> Self {
        Self {
            rule,
            last: None,
            hold: None,
            bad_in_a_row: 0,
            only_bad: true,
            breaks: 0,
            late_breaks: 0,
            broke: String::new(),
            lost: None,
        }
    }

    fn observe(&mut self, at: Duration, finding: Finding, times: &Times) {
        let finding = match finding {
            Finding::NotYet(reason) | Finding::Lost(reason)
                if self.rule.kind == Kind::Infrastructure =>
            {
                Finding::Unknown(reason)
            }
            other => other,
        };
        let late = at >= times.timeout;
        match &finding {
            Finding::Well { mark } => {
                self.bad_in_a_row = 0;
                self.only_bad = false;
                match &mut self.hold {
                    Some(hold) if hold.mark == *mark => {
                        hold.until = at;
                        // Steady again: what was before is forgiven.
                        if at.saturating_sub(hold.since) >= times.settle {
                            self.late_breaks = 0;
                        }
                    }
                    before => {
                        let restarted = before.is_some();
                        *before = Some(Hold {
                            since: at,
                            until: at,
                            mark: mark.clone(),
                            after_unknown: matches!(self.last, Some(Finding::Unknown(_))),
                        });
                        if restarted {
                            self.break_off("restarted", late);
                        }
                        if restarted && late && self.rule.kind != Kind::Infrastructure {
                            self.lost = Some(
                                "restarted within the settle time, and there is no time for another"
                                    .to_owned(),
                            );
                        }
                    }
                }
            }
            Finding::NotYet(reason) | Finding::Lost(reason) => {
                self.bad_in_a_row = self.bad_in_a_row.saturating_add(1);
                if self.hold.take().is_some() {
                    self.break_off(reason, late);
                }
                if matches!(finding, Finding::Lost(_)) {
                    self.lost = Some(reason.clone());
                }
            }
            Finding::Unknown(_) => {
                self.bad_in_a_row = 0;
                self.only_bad = false;
                self.hold = None;
            }
        }
        self.last = Some(finding);
    }

    fn break_off(&mut self, what: &str, late: bool) {
        self.breaks = self.breaks.saturating_add(1);
        self.late_breaks = self.late_breaks.saturating_add(u32::from(late));
        what.clone_into(&mut self.broke);
        if self.late_breaks > 1 && self.rule.kind != Kind::Infrastructure {
            self.lost = Some(self.flapping());
        }
    }

    fn flapping(&self) -> String {
        match self.breaks {
            1 => format!("held, and then did not: {}", self.broke),
            times => format!("comes and goes, {times} times so far; last: {}", self.broke),
        }
    }

    /// What it amounts to, if it must have held for `settle`.
    fn standing(&self, settle: Duration) -> Standing {
        if let Some(reason) = &self.lost {
            return Standing::Bad(reason.clone());
        }
        match (&self.last, &self.hold) {
            (None, _) => Standing::Wavering("its first try has not ended".to_owned()),
            (Some(Finding::Unknown(reason)), _) => Standing::Unknown(reason.clone()),
            (Some(Finding::NotYet(reason) | Finding::Lost(reason)), _) => {
                if self.only_bad || self.bad_in_a_row > self.rule.retries {
                    Standing::Bad(reason.clone())
                } else {
                    Standing::Wavering(reason.clone())
                }
            }
            (Some(Finding::Well { .. }), Some(hold))
                if hold.until.saturating_sub(hold.since) >= settle =>
            {
                Standing::Well
            }
            (Some(Finding::Well { .. }), _) => Standing::Settling,
        }
    }

    /// Why it counts as it does at the end, and whether that is not known.
    fn at_the_end(&self, settle: Duration) -> Option<(String, bool)> {
        let is_infrastructure = self.rule.kind == Kind::Infrastructure;
        match self.standing(settle) {
            Standing::Well => None,
            Standing::Unknown(reason) => Some((reason, true)),
            Standing::Bad(reason) => Some((reason, false)),
            // Infrastructure that has not been heard of is not known.
            Standing::Wavering(reason) => Some((reason, is_infrastructure)),
            Standing::Settling => {
                let after_unknown = self.hold.as_ref().is_some_and(|hold| hold.after_unknown);
                let reason = match self.breaks {
                    0 => "came too late to hold for the settle time".to_owned(),
                    _ => self.flapping(),
                };
                Some((reason, is_infrastructure || after_unknown))
            }
        }
    }
}

/// Gathers findings.
#[derive(Debug)]
pub struct Judge {
    times: Times,
    courses: Vec<Course>,
}

impl Judge {
    /// Nothing observed yet.
    pub fn new(times: Times, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self {
            times,
            courses: rules.into_iter().map(Course::new).collect(),
        }
    }

    /// Takes what a try of the check with this number, in the order of the
    /// rules, found `at` so long after the start.
    pub fn observe(&mut self, at: Duration, number: usize, finding: Finding) {
        if let Some(course) = self.courses.get_mut(number) {
            course.observe(at, finding, &self.times);
        }
    }

    fn deciding(&self) -> impl Iterator<Item = &Course> {
        self.courses
            .iter()
            .filter(|course| course.rule.kind != Kind::Wanted)
    }

    /// What is to be said `now`. None: go on.
    pub fn decide(&self, now: Duration) -> Option<Decision> {
        let settle = self.times.settle;
        if self.deciding().any(|course| course.lost.is_some()) {
            return Some(self.unhealthy(now));
        }
        if now >= self.times.timeout
            && self
                .deciding()
                .any(|course| matches!(course.standing(settle), Standing::Bad(_)))
        {
            return Some(self.unhealthy(now));
        }
        if now >= settle && self.all_settled() && (self.all_heard() || now >= self.times.limit) {
            return Some(self.decision(Verdict::Healthy, Vec::new()));
        }
        (now >= self.times.limit).then(|| self.at_the_limit())
    }

    /// Whether what decides has held for the settle time, all of it at once.
    fn all_settled(&self) -> bool {
        let since = self
            .deciding()
            .map(|course| course.hold.as_ref().map(|hold| hold.since))
            .try_fold(Duration::ZERO, |latest, since| {
                since.map(|since| latest.max(since))
            });
        let Some(since) = since else { return false };
        let end = since.saturating_add(self.times.settle);
        self.deciding().all(|course| {
            course.lost.is_none() && course.hold.as_ref().is_some_and(|hold| hold.until >= end)
        })
    }

    /// Whether each check has been tried, those that are only reported as well.
    fn all_heard(&self) -> bool {
        self.courses.iter().all(|course| course.last.is_some())
    }

    fn unhealthy(&self, now: Duration) -> Decision {
        let late = now >= self.times.timeout;
        let failures = self.deciding().filter_map(|course| {
            let reason = match course.standing(self.times.settle) {
                Standing::Bad(reason) => reason,
                // What would have been waited for is told as well.
                Standing::Wavering(reason) | Standing::Unknown(reason) if late => reason,
                _ => return None,
            };
            Some(failure(course, &reason))
        });
        // What decided comes first.
        let mut failures: Vec<_> = failures.collect();
        failures.sort_by_key(|failure| failure.kind == Kind::Infrastructure);
        self.decision(Verdict::Unhealthy, failures)
    }

    fn at_the_limit(&self) -> Decision {
        let missing: Vec<_> = self
            .deciding()
            .filter_map(|course| Some((course, course.at_the_end(self.times.settle)?)))
            .collect();
        let unknown_only = missing.iter().all(|(_, (_, unknown))| *unknown);
        let mut failures: Vec<_> = missing
            .iter()
            .map(|(course, (reason, unknown))| (*unknown, failure(course, reason)))
            .collect();
        failures.sort_by_key(|(unknown, _)| *unknown);
        let failures: Vec<_> = failures.into_iter().map(|(_, failure)| failure).collect();
        let verdict = match (failures.is_empty(), unknown_only) {
            // Each has held for long enough, though the last looks lie apart.
            (true, _) => Verdict::Healthy,
            (false, true) => Verdict::Unknown,
            (false, false) => Verdict::Unhealthy,
        };
        self.decision(verdict, failures)
    }

    /// With what is only reported at the end.
    fn decision(&self, verdict: Verdict, mut failures: Vec<Failure>) -> Decision {
        let wanted = self
            .courses
            .iter()
            .filter(|course| course.rule.kind == Kind::Wanted);
        failures.extend(wanted.filter_map(|course| {
            let reason = match course.standing(Duration::ZERO) {
                Standing::Well | Standing::Settling => return None,
                Standing::Wavering(reason) | Standing::Bad(reason) | Standing::Unknown(reason) => {
                    reason
                }
            };
            Some(failure(course, &reason))
        }));
        Decision { verdict, failures }
    }
}

fn failure(course: &Course, reason: &str) -> Failure {
    Failure::new(&course.rule.name, reason, course.rule.kind)
}

#[cfg(test)]
mod tests;
