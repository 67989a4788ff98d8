//! Looks again and again at everything until the judge has seen enough.
//!
//! Each check has a thread of its own, in which its tries follow one another; the
//! clock is kept outside of them. A try that does not come back is bad when its
//! time is up, and bad again each time that time has passed once more, as the
//! next tries would have been: nothing that hangs can hold up the verdict.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::judge::{Decision, Finding, Judge, Rule, Times};

/// What a try may take beyond its time: whoever is in it has the better words
/// for what did not come, and killing a program takes a while.
const MARGIN: Duration = Duration::from_secs(4);
/// A thread's stack. Looking needs little, and there may be many.
const STACK: usize = 512 * 1024;

/// One try: looks at a subject, in bounded time if it can.
pub type Look = Box<dyn FnMut() -> Finding + Send>;

/// A check that is to be done.
pub struct Task {
    /// What the judge must know of it.
    pub rule: Rule,
    /// Longest time of one try.
    pub timeout: Duration,
    /// Between two tries.
    pub interval: Duration,
    /// What a try does.
    pub look: Look,
}

/// What comes in while watching.
#[derive(Debug)]
pub enum Message {
    /// A try of the check with this number began.
    Began(usize),
    /// A try of the check with this number found this.
    Found(usize, Finding),
    /// Somebody wants the program to end.
    Stop,
}

/// How watching ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// There is a verdict.
    Decided(Decision),
    /// It was stopped before there was one.
    Stopped,
}

/// The clock's side of a check.
struct Clock {
    timeout: Duration,
    margin: Duration,
    /// When the present try counts as bad unless it has ended.
    overdue: Option<Duration>,
}

/// Watches until there is a verdict, at most until the limit. `messages` are what
/// the other end of `inbox` is given.
pub fn watch(
    tasks: Vec<Task>,
    times: Times,
    inbox: &Sender<Message>,
    messages: &Receiver<Message>,
) -> Ending {
    watch_with(tasks, times, MARGIN, inbox, messages)
}

fn watch_with(
    tasks: Vec<Task>,
    times: Times,
    margin: Duration,
    inbox: &Sender<Message>,
    messages: &Receiver<Message>,
) -> Ending {
    let start = Instant::now();
    let mut judge = Judge::new(times, tasks.iter().map(|task| task.rule.clone()));
    let mut clocks = Vec::new();
    for (number, task) in tasks.into_iter().enumerate() {
        clocks.push(Clock {
            timeout: task.timeout,
            margin,
            // From now on: the thread may never get its turn.
            overdue: Some(task.timeout.saturating_add(margin)),
        });
        if let Err(why) = begin(number, task, inbox.clone()) {
            let reason = format!("can't be looked at: {why}");
            judge.observe(start.elapsed(), number, Finding::NotYet(reason));
        }
    }
    loop {
        let now = start.elapsed();
        for (number, clock) in clocks.iter_mut().enumerate() {
            if clock.overdue.is_some_and(|overdue| overdue <= now) {
                let reason = format!("no answer within {} s", clock.timeout.as_secs());
                judge.observe(now, number, Finding::NotYet(reason));
                clock.overdue = Some(now.saturating_add(clock.timeout));
            }
        }
        if let Some(decision) = judge.decide(now) {
            return Ending::Decided(decision);
        }
        let next = clocks
            .iter()
            .filter_map(|clock| clock.overdue)
            .chain([times.settle, times.timeout, times.limit])
            .filter(|&at| at > now)
            .min()
            .unwrap_or(now);
        match messages.recv_timeout(next.saturating_sub(start.elapsed())) {
            Ok(Message::Began(number)) => {
                if let Some(clock) = clocks.get_mut(number) {
                    let end = clock.timeout.saturating_add(clock.margin);
                    clock.overdue = Some(start.elapsed().saturating_add(end));
                }
            }
            Ok(Message::Found(number, finding)) => {
                if let Some(clock) = clocks.get_mut(number) {
                    clock.overdue = None;
                }
                judge.observe(start.elapsed(), number, finding);
            }
            Ok(Message::Stop) => return Ending::Stopped,
            // Not possible while `inbox` is there.
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Begins with the tries of one check. The thread is not joined: one that hangs
/// ends with the process.
fn begin(number: usize, mut task: Task, inbox: Sender<Message>) -> std::io::Result<()> {
    let work = move || {
        loop {
            if inbox.send(Message::Began(number)).is_err() {
                return;
            }
            let finding = (task.look)();
            if inbox.send(Message::Found(number, finding)).is_err() {
                return;
            }
            thread::sleep(task.interval);
        }
    };
    thread::Builder::new().stack_size(STACK).spawn(work)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_health::verdict::{Kind, Verdict};
    use std::sync::mpsc;

    const TIMES: Times = Times {
        settle: Duration::from_millis(40),
        timeout: Duration::from_millis(200),
        limit: Duration::from_millis(400),
    };

    fn task(name: &str, look: impl FnMut() -> Finding + Send + 'static) -> Task {
        Task {
            rule: Rule {
                name: name.to_owned(),
                kind: Kind::Required,
                retries: 0,
            },
            timeout: Duration::from_millis(20),
            interval: Duration::from_millis(5),
            look: Box::new(look),
        }
    }

    fn ending(tasks: Vec<Task>) -> Ending {
        let (inbox, messages) = mpsc::channel();
        watch_with(tasks, TIMES, Duration::ZERO, &inbox, &messages)
    }

    fn decision(tasks: Vec<Task>) -> Decision {
        match ending(tasks) {
            Ending::Decided(decision) => decision,
            Ending::Stopped => panic!("stopped"),
        }
    }

    fn hang() -> Finding {
        thread::sleep(Duration::from_secs(3600));
        Finding::well()
    }

    #[test]
    fn all_well_is_healthy() {
        let tasks = vec![task("a", Finding::well), task("b", Finding::well)];
        assert_eq!(decision(tasks).verdict, Verdict::Healthy);
        assert_eq!(decision(Vec::new()).verdict, Verdict::Healthy);
    }

    #[test]
    fn one_of_two_is_not_enough() {
        let bad = task("b", || Finding::NotYet("no owner".to_owned()));
        let found = decision(vec![task("a", Finding::well), bad]);
        assert_eq!(found.verdict, Verdict::Unhealthy);
        let told: Vec<_> = found.failures.iter().map(|it| it.reason.as_str()).collect();
        assert_eq!(told, ["no owner"]);
    }

    #[test]
    fn what_hangs_is_bad_and_holds_up_nothing() {
        let found = decision(vec![task("a", Finding::well), task("b", hang)]);
        assert_eq!(found.verdict, Verdict::Unhealthy);
        assert_eq!(found.failures.len(), 1);
        assert_eq!(found.failures[0].check, "b");
        assert!(found.failures[0].reason.starts_with("no answer within"));
    }

    #[test]
    fn what_dies_is_bad() {
        let dead = task("a", || std::panic::resume_unwind(Box::new("on purpose")));
        assert_eq!(decision(vec![dead]).verdict, Verdict::Unhealthy);
    }

    #[test]
    fn what_hangs_and_is_only_wanted_is_reported() {
        let mut wanted = task("b", hang);
        wanted.rule.kind = Kind::Wanted;
        let found = decision(vec![task("a", Finding::well), wanted]);
        assert_eq!(found.verdict, Verdict::Healthy);
        assert_eq!(found.failures.len(), 1);
    }

    #[test]
    fn stopped_is_no_verdict() {
        let (inbox, messages) = mpsc::channel();
        inbox.send(Message::Stop).unwrap();
        let tasks = vec![task("a", hang)];
        let found = watch_with(tasks, TIMES, Duration::ZERO, &inbox, &messages);
        assert_eq!(found, Ending::Stopped);
    }
}
