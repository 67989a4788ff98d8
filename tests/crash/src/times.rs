//! Where the time goes: by what was done, the time that passed and the processor's.
//!
//! Others use the machine, so the time that passes tells little. The processor's
//! is that of this process and of the programs it starts; what the kernel does
//! for them in threads of its own (loop devices, commits of Btrfs) is in neither.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

/// Putting a state on the device.
pub(crate) const PRESENT: &str = "present the state";
/// Reading what the programs left, and judging.
pub(crate) const LOOK: &str = "look and judge";
/// Unmounting.
pub(crate) const UNMOUNT: &str = "unmount";
/// Recording and exploring recoveries that are cut short themselves.
pub(crate) const TWICE: &str = "cut a second time";
/// Being the disk, whatever it is used for meanwhile.
pub(crate) const DISK: &str = "serve the disk (threads beside)";

/// What something took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// How often it was done.
    pub count: u64,
    /// The time that passed.
    pub wall: Duration,
    /// The processor's time.
    pub cpu: Duration,
}

/// What everything took, by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times(pub BTreeMap<String, Spent>);

impl Times {
    /// Adds to one name.
    pub(crate) fn spend(&mut self, name: &str, spent: Spent) {
        let sum = self.0.entry(name.to_owned()).or_default();
        sum.count += spent.count;
        sum.wall += spent.wall;
        sum.cpu += spent.cpu;
    }

    /// Adds another state's.
    pub(crate) fn add(&mut self, other: &Self) {
        for (name, spent) in &other.0 {
            self.spend(name, *spent);
        }
    }

    /// All of it.
    pub fn total(&self) -> Spent {
        self.0.values().fold(Spent::default(), |sum, one| Spent {
            count: sum.count + one.count,
            wall: sum.wall + one.wall,
            cpu: sum.cpu + one.cpu,
        })
    }

    /// A table of what one of so many states took.
    pub(crate) fn table(&self, states: usize) -> Table<'_> {
        Table {
            times: self,
            states,
        }
    }
}

/// Times, for people.
pub(crate) struct Table<'a> {
    times: &'a Times,
    states: usize,
}

#[allow(clippy::cast_precision_loss, reason = "numbers for people")]
impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states = self.states.max(1) as f64;
        let per = |time: Duration| time.as_secs_f64() * 1000.0 / states;
        let mut rows: Vec<_> = self.times.0.iter().collect();
        rows.sort_by_key(|(_, spent)| std::cmp::Reverse((spent.cpu, spent.wall)));
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        writeln!(f, "{:width$}   times  ms passed  ms of CPU", "of a state")?;
        let mut row = |name: &str, spent: &Spent, count: f64| {
            let (wall, cpu) = (per(spent.wall), per(spent.cpu));
            writeln!(f, "{name:width$}  {count:6.2}  {wall:9.2}  {cpu:9.2}")
        };
        for (name, spent) in rows {
            row(name, spent, spent.count as f64 / states)?;
        }
        let total = self.times.total();
        row("all of it", &total, 1.0)
    }
}

/// Measures what this thread, or what programs it starts, take from now on.
#[derive(Debug)]
pub(crate) struct Watch {
    began: Instant,
    who: UsageWho,
    cpu: Duration,
}

impl Watch {
    /// This thread's own.
    pub(crate) fn own() -> Self {
        Self::of(UsageWho::RUSAGE_THREAD)
    }

    /// That of programs that were started and have ended.
    pub(crate) fn programs() -> Self {
        Self::of(UsageWho::RUSAGE_CHILDREN)
    }

    /// That of all threads of this process.
    pub(crate) fn process() -> Self {
        Self::of(UsageWho::RUSAGE_SELF)
    }

    fn of(who: UsageWho) -> Self {
        Self {
            began: Instant::now(),
            who,
            cpu: used(who),
        }
    }

    /// What it was.
    pub(crate) fn spent(&self) -> Spent {
        Spent {
            count: 1,
            wall: self.began.elapsed(),
            cpu: used(self.who).saturating_sub(self.cpu),
        }
    }
}

fn used(who: UsageWho) -> Duration {
    let time = |time: TimeVal| {
        let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
        Duration::from_micros(u64::try_from(micros).unwrap_or_default())
    };
    // It can only fail for a `who` that there is not.
    getrusage(who).map_or(Duration::ZERO, |usage| {
        time(usage.user_time()) + time(usage.system_time())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_more_than_once_adds_up() {
        let spent = |cpu| Spent {
            count: 1,
            wall: Duration::from_millis(2 * cpu),
            cpu: Duration::from_millis(cpu),
        };
        let mut times = Times::default();
        times.spend(LOOK, spent(10));
        let mut other = times.clone();
        other.spend(UNMOUNT, spent(5));
        times.add(&other);
        assert_eq!(times.total().count, 3);
        let table = times.table(10).to_string();
        let rows: Vec<_> = table.lines().collect();
        assert_eq!(rows[1], "look and judge    0.20       4.00       2.00");
        assert_eq!(rows[3], "all of it         1.00       5.00       2.50");
    }

    #[test]
    fn a_thread_that_works_uses_the_processor() {
        let watch = Watch::own();
        let mut sum = 1u64;
        while watch.spent().cpu < Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_mul(3));
        }
        assert!(watch.spent().wall >= Duration::from_millis(5));
    }
}
