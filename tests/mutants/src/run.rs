//! Trying mutants: every killer without any first, then one mutant at a time.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::killer::Killer;
use crate::report::{Outcome, Report};
use crate::table::Mutant;
use crate::tree::{Source, Tree};

/// Longest build, and longest run of a killer without a mutant.
const PATIENCE: Duration = Duration::from_secs(1800);
/// What a killer may take with a mutant in: so many times what it took without …
const SLOWER: u32 = 6;
/// … and that much more, for machines that do other things as well.
const SLACK: Duration = Duration::from_secs(60);

/// Where and of what mutants are made.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) repository: PathBuf,
    pub(crate) source: Source,
    /// Copies, builds and logs; kept between runs, so that only what changed is built.
    pub(crate) work: PathBuf,
    /// Copies worked on at the same time.
    pub(crate) jobs: usize,
}

/// How a killer fared without a mutant.
#[derive(Debug, Clone)]
enum Baseline {
    /// It passed, in so long.
    Passed(Duration),
    /// It did not.
    Unfit(String),
}

/// How one command ended.
enum Ended {
    Passed,
    Failed,
    TimedOut,
}

impl Lab {
    /// Tries mutants; `each` hears of each as it is done, `say` what is being done.
    pub(crate) fn run(
        &self,
        mutants: &[&Mutant],
        say: &(dyn Fn(&str) + Sync),
        each: &(dyn Fn(&Report) + Sync),
    ) -> Result<Vec<Report>> {
        let killers: Vec<&Killer> = {
            let mut killers: Vec<_> = mutants.iter().filter_map(|m| m.killer.as_ref()).collect();
            killers.sort();
            killers.dedup();
            killers
        };
        let numbered: Vec<(usize, &Killer)> = killers.into_iter().enumerate().collect();
        let baselines = self.spread(numbered, &|tree, (number, killer)| {
            say(&format!("without a mutant: {killer}"));
            let log = tree.logs.join(format!("baseline-{number}.log"));
            Ok((killer.clone(), baseline(tree, killer, &log)?))
        })?;
        let baselines: BTreeMap<Killer, Baseline> = baselines.into_iter().collect();

        // Neighbours share what has to be built again.
        let mut order: Vec<(usize, &Mutant)> = mutants.iter().copied().enumerate().collect();
        order.sort_by_key(|(_, mutant)| (&mutant.file, &mutant.killer));
        let mut reports = self.spread(order, &|tree, (number, mutant)| {
            let report = attempt(tree, mutant, &baselines)?;
            each(&report);
            Ok((number, report))
        })?;
        reports.sort_by_key(|(number, _)| *number);
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    /// Does something with each item, on as many copies of the tree as there are jobs.
    fn spread<T: Send, R: Send>(
        &self,
        items: Vec<T>,
        work: &(dyn Fn(&Bench, T) -> Result<R> + Sync),
    ) -> Result<Vec<R>> {
        let queue = Mutex::new(VecDeque::from(items));
        let done = Mutex::new(Vec::new());
        let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs)
                .map(|number| {
                    let (next, done) = (&next, &done);
                    scope.spawn(move || -> Result<()> {
                        let mut bench = None;
                        while let Some(item) = next() {
                            let bench = match &mut bench {
                                Some(bench) => bench,
                                none => none.insert(Bench::new(self, number)?),
                            };
                            let result = work(bench, item)?;
                            if let Ok(mut done) = done.lock() {
                                done.push(result);
                            }
                        }
                        Ok(())
                    })
                })
                .collect();
            for worker in workers {
                // A panic of a worker is a bug, and is told by the panic itself.
                worker.join().unwrap_or(Ok(()))?;
            }
            Ok(())
        })?;
        Ok(done.into_inner().unwrap_or_default())
    }
}

/// One copy of the tree, and where its logs go.
struct Bench {
    tree: Tree,
    logs: PathBuf,
}

impl Bench {
    fn new(lab: &Lab, number: usize) -> Result<Self> {
        let logs = lab.work.join("logs");
        fs::create_dir_all(&logs).map_err(Error::io("make", &logs))?;
        let work = lab.work.join(number.to_string());
        let tree = Tree::fresh(&lab.repository, &lab.source, &work)?;
        Ok(Self { tree, logs })
    }

    /// Runs a command in the copy, within bounds.
    fn command(&self, words: &[String], patience: Duration, log: &Path) -> Result<Ended> {
        let fail = |why: &dyn std::fmt::Display| Error::Program {
            program: "timeout",
            why: why.to_string(),
            remedy: "it is part of coreutils",
        };
        let output = File::options()
            .append(true)
            .create(true)
            .open(log)
            .map_err(Error::io("write", log))?;
        let errors = output.try_clone().map_err(Error::io("write", log))?;
        let status = Command::new("timeout")
            .arg("--kill-after=10")
            .arg(patience.as_secs().max(1).to_string())
            .args(words)
            .current_dir(&self.tree.root)
            .env("CARGO_TARGET_DIR", &self.tree.build)
            .stdin(std::process::Stdio::null())
            .stdout(output)
            .stderr(errors)
            .status()
            .map_err(|why| fail(&why))?;
        match status.code() {
            Some(0) => Ok(Ended::Passed),
            // 124: it took too long; 137: it did not even end when it was told to.
            Some(124 | 137) => Ok(Ended::TimedOut),
            Some(125..=127) => Err(fail(&format!("{words:?} can't be run"))),
            _ => Ok(Ended::Failed),
        }
    }
}

fn baseline(bench: &Bench, killer: &Killer, log: &Path) -> Result<Baseline> {
    clear(log)?;
    let unfit = |what: &str| Baseline::Unfit(format!("its killer {what}: {}", log.display()));
    if let Some(build) = killer.build() {
        match bench.command(&build, PATIENCE, log)? {
            Ended::Passed => {}
            Ended::Failed => return Ok(unfit("does not compile")),
            Ended::TimedOut => return Ok(unfit("its build does not end")),
        }
    }
    let began = Instant::now();
    match bench.command(&killer.run(), PATIENCE, log)? {
        Ended::Passed => {}
        Ended::Failed => return Ok(unfit("fails without any mutant")),
        Ended::TimedOut => return Ok(unfit("does not end")),
    }
    // A filter that fits no test passes always.
    if killer.is_test() && passed(&read(log)?) == 0 {
        return Ok(unfit("tests nothing"));
    }
    Ok(Baseline::Passed(began.elapsed()))
}

fn attempt(
    bench: &Bench,
    mutant: &Mutant,
    baselines: &BTreeMap<Killer, Baseline>,
) -> Result<Report> {
    let began = Instant::now();
    let log = bench.logs.join(format!("{}.log", mutant.name));
    clear(&log)?;
    let outcome = match &mutant.killer {
        None => Outcome::Redundant,
        Some(killer) => match baselines.get(killer) {
            Some(Baseline::Passed(took)) => in_place(bench, mutant, killer, *took, &log)?,
            Some(Baseline::Unfit(why)) => Outcome::Unfit { why: why.clone() },
            None => Outcome::Unfit {
                why: "its killer was not run without a mutant".to_owned(),
            },
        },
    };
    Ok(Report {
        name: mutant.name.clone(),
        killer: mutant.killer.as_ref().map(ToString::to_string),
        outcome,
        seconds: began.elapsed().as_secs(),
        log,
    })
}

/// Puts the mutant in, sees what the killer says, and takes it out again.
fn in_place(
    bench: &Bench,
    mutant: &Mutant,
    killer: &Killer,
    took: Duration,
    log: &Path,
) -> Result<Outcome> {
    let path = bench.tree.root.join(&mutant.file);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let changed = match mutant.applied_to(&text) {
        Ok(changed) => changed,
        // In another commit than the one the table was read in.
        Err(why) => {
            return Ok(Outcome::Unfit {
                why: why.to_string(),
            });
        }
    };
    fs::write(&path, changed).map_err(Error::io("write", &path))?;
    let outcome = try_killer(bench, killer, took, log);
    fs::write(&path, text).map_err(Error::io("write", &path))?;
    outcome
}

fn try_killer(bench: &Bench, killer: &Killer, took: Duration, log: &Path) -> Result<Outcome> {
    if let Some(build) = killer.build() {
        match bench.command(&build, PATIENCE, log)? {
            Ended::Passed => {}
            Ended::Failed | Ended::TimedOut => return Ok(Outcome::Broken),
        }
    }
    Ok(
        match bench.command(&killer.run(), took * SLOWER + SLACK, log)? {
            Ended::Passed => Outcome::Survived,
            Ended::TimedOut => Outcome::TimedOut,
            Ended::Failed => Outcome::Killed {
                by: failed(&read(log)?),
            },
        },
    )
}

fn clear(log: &Path) -> Result<()> {
    fs::write(log, "").map_err(Error::io("write", log))
}

fn read(log: &Path) -> Result<String> {
    let bytes = fs::read(log).map_err(Error::io("read", log))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// How many tests passed, by what the test programs print at their ends.
fn passed(log: &str) -> u64 {
    log.lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "))
        .filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// The names of the tests that failed.
fn failed(log: &str) -> Vec<String> {
    let mut names: Vec<String> = log
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(|name| name.trim_end_matches(" - should panic").to_owned())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_test_programs_print_is_understood() {
        let log = "\
running 2 tests
test a::one ... ok
test a::two ... FAILED
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out
test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
";
        assert_eq!(failed(log), ["a::two"]);
        assert_eq!(passed(log), 12);
        assert_eq!(passed("test result: ok. 0 passed; 0 failed"), 0);
    }
}
