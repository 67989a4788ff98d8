//! What each command does.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Explore, How, Prepare, Record, Replay, Run, UnderTest, Verdict, Worker, say};
use crate::error::{At as _, Error, Result};
use crate::explore::{Plan, Progress, explore};
use crate::explorer::{Depth, Explorer};
use crate::host::enter_namespace;
use crate::prepared::Prepared;
use crate::programs::Programs;
use crate::recording::Recording;
use crate::report::{Found, Summary};
use crate::{Log, worker};

impl UnderTest {
    fn find(&self) -> Result<Programs> {
        Programs::new(&self.stage, &self.activate)
    }
}

impl Run {
    pub(super) fn run(self) -> Result<Verdict> {
        let programs = self.programs.find()?;
        // Another run's would be mixed with this one's.
        let dir = fresh(&self.dir)?;
        say(&format!("everything is made in {}", dir.display()));
        let prepared = Prepared::make(&dir.join("prepared"), &programs)?;
        let log = dir.join("log");
        record(prepared, programs, &log)?;
        let arguments = vec!["--log".to_owned(), log.display().to_string()];
        let recording = Recording::load(&log, &crate::recording::Elsewhere::default())?;
        self.how.explore(&recording, &log, arguments)
    }
}

/// A new directory in `dir`: `run.1`, `run.2` …
fn fresh(dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir).at("create directory", dir)?;
    let dir = dir.canonicalize().at("open", dir)?;
    for number in 1..10_000 {
        let path = dir.join(format!("run.{number}"));
        match fs::create_dir(&path) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.at("create directory", &path).map(|()| path),
        }
    }
    Err(Error::Other(format!(
        "{}: too many runs; delete old ones",
        dir.display()
    )))
}

impl Prepare {
    pub(super) fn run(self) -> Result<Verdict> {
        let programs = self.programs.find()?;
        let prepared = Prepared::make(&self.dir, &programs)?;
        say(&format!("{} releases are prepared", prepared.digests.len()));
        Ok(Verdict::Fine)
    }
}

impl Record {
    pub(super) fn run(self) -> Result<Verdict> {
        let programs = self.programs.find()?;
        let prepared = Prepared::open(&self.prepared)?;
        record(prepared, programs, &self.log)?;
        Ok(Verdict::Fine)
    }
}

fn record(prepared: Prepared, programs: Programs, log: &Path) -> Result<()> {
    enter_namespace().at("enter a mount namespace for", log)?;
    let place = tempfile::Builder::new()
        .prefix("opc")
        .tempdir()
        .at("create a directory in", Path::new("/tmp"))?;
    let mut count = 0;
    let recording = Recording::make(prepared, programs, place.path(), |_| count += 1)?;
    recording.save(log)?;
    say(&format!(
        "{count} steps are recorded: {} entries in {}",
        recording.log.entries.len(),
        log.display()
    ));
    Ok(())
}

impl Explore {
    pub(super) fn run(self) -> Result<Verdict> {
        let recording = Recording::load(&self.log, &self.elsewhere)?;
        let mut arguments = vec!["--log".to_owned(), self.log.display().to_string()];
        for (name, path) in [
            ("--prepared", &self.elsewhere.prepared),
            ("--stage", &self.elsewhere.stage),
            ("--activate", &self.elsewhere.activate),
        ] {
            if let Some(path) = path {
                arguments.extend([name.to_owned(), path.display().to_string()]);
            }
        }
        self.how.explore(&recording, &self.log, arguments)
    }
}

impl How {
    fn explore(self, recording: &Recording, log: &Path, arguments: Vec<String>) -> Result<Verdict> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let program = std::env::current_exe().at("find", Path::new("/proc/self/exe"))?;
        let evidence = self.evidence.unwrap_or_else(|| {
            let mut name = log.as_os_str().to_owned();
            name.push(".evidence");
            name.into()
        });
        fs::create_dir_all(&evidence).at("create directory", &evidence)?;
        // The programs under test run in another directory.
        let evidence = evidence.canonicalize().at("open", &evidence)?;
        let plan = Plan {
            program,
            arguments,
            states: self.states,
            seed: self.seed,
            workers: self.workers.unwrap_or(3 * cores),
            max_violations: self.max_violations.max(1),
            again: self.again,
            twice: self.twice,
            limit: Duration::from_secs(self.limit),
            evidence,
        };
        let mut line = Line::new();
        let summary = explore(recording, &plan, |progress| line.tell(progress))?;
        line.end();
        print(&summary, self.json)?;
        Ok(if summary.violations.is_empty() {
            Verdict::Fine
        } else {
            Verdict::Violations
        })
    }
}

fn print(summary: &Summary, json: bool) -> Result<()> {
    for found in &summary.violations {
        say(&format!("\n{found}\n"));
    }
    let text = if json {
        serde_json::to_string(summary).map_err(io::Error::from)
    } else {
        Ok(summary.to_string())
    };
    text.and_then(|text| writeln!(io::stdout(), "{text}"))
        .at("write", Path::new("standard output"))
}

/// Progress: one line that changes on a terminal, plain lines now and then elsewhere.
struct Line {
    terminal: bool,
    told: Duration,
}

/// How often a plain line is written.
const PLAIN: Duration = Duration::from_secs(10);

impl Line {
    fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            told: Duration::ZERO,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "numbers for people")]
    fn tell(&mut self, progress: &Progress) {
        if !self.terminal && progress.elapsed < self.told + PLAIN {
            return;
        }
        self.told = progress.elapsed;
        let speed = progress.explored as f64 / progress.elapsed.as_secs_f64().max(0.001);
        let text = format!(
            "{} of {} states, {speed:.0} a second, {} violations",
            progress.explored, progress.of, progress.violations
        );
        if self.terminal {
            let _ = write!(io::stderr(), "\r{text}\x1b[K");
        } else {
            say(&text);
        }
    }

    fn end(&self) {
        if self.terminal {
            say("");
        }
    }
}

impl Replay {
    pub(super) fn run(self) -> Result<Verdict> {
        let recording = Recording::load(&self.log, &self.elsewhere)?;
        enter_namespace().at("enter a mount namespace for", &self.log)?;
        let place = tempfile::Builder::new()
            .prefix("opc")
            .tempdir()
            .at("create a directory in", Path::new("/tmp"))?;
        let recording = std::sync::Arc::new(recording);
        let mut explorer = Explorer::new(std::sync::Arc::clone(&recording), place.path())?;
        if let Some(image) = &self.image {
            explorer.image_of(&self.state, image).at("write", image)?;
        }
        let outcome = match self.second.as_slice() {
            [log, second] => {
                let path = Path::new(log);
                let log = Log::load(path).at("read", path)?;
                let second = second.parse().map_err(Error::Other)?;
                explorer.second(&self.state, log, &second)
            }
            _ => explorer.explore(&self.state, Depth::Again),
        };
        let outcome = outcome.at("explore", &self.log)?;
        explorer.leave().at("leave", place.path())?;
        for ran in &outcome.ran {
            say(&ran.to_string());
        }
        if outcome.violations.is_empty() {
            say(&format!(
                "no violation in state {}, {}",
                self.state,
                recording.moment(&self.state)
            ));
            return Ok(Verdict::Fine);
        }
        let arguments = vec!["--log".to_owned(), self.log.display().to_string()];
        let found = Found::new(&recording, &self.state, outcome, place.path(), &arguments);
        for violation in &found.violations {
            say(&format!("- {violation}"));
        }
        say(&format!("in state {}, {}", self.state, found.moment));
        Ok(Verdict::Violations)
    }
}

impl Worker {
    pub(super) fn run(self) -> Result<Verdict> {
        let recording = Recording::load(&self.log, &self.elsewhere)?;
        worker::serve(recording, &self.place)?;
        Ok(Verdict::Fine)
    }
}
