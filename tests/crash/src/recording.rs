//! A recorded story: the log, and beside it what else a replay needs to know.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::check::Between;
use crate::error::{At as _, Error, Result};
use crate::facts::Facts;
use crate::host::Host;
use crate::prepared::Prepared;
use crate::programs::Programs;
use crate::story::{self, Action, Step};
use crate::{Image, Log, Recorder, State};

/// What stands beside the log, in a file of its name with `.json` added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Beside {
    prepared: PathBuf,
    programs: Programs,
    /// Names of the story's steps: another story needs another recording.
    steps: Vec<String>,
    /// The record's sequence after each step.
    sequences: Vec<u64>,
}

/// A recorded story.
#[derive(Debug, Clone)]
pub struct Recording {
    /// What reached the disk.
    pub log: Arc<Log>,
    /// What was done, and what holds since then.
    pub steps: Vec<Step>,
    /// What it began with.
    pub prepared: Prepared,
    /// The programs it was done with.
    pub programs: Programs,
    before: Facts,
}

impl Recording {
    /// Performs the story and writes down what reaches the disk. `place` is an
    /// existing directory for the host.
    pub fn make(
        prepared: Prepared,
        programs: Programs,
        place: &Path,
        told: impl FnMut(&str),
    ) -> Result<Self> {
        let disk = prepared.disk();
        let image = Image::read(&disk).at("read", &disk)?;
        let recorder = Recorder::new(image).at("record on", &disk)?;
        let mut host = Host::new(place, &programs, 0).at("set up", place)?;
        host.use_device(recorder.node()).at("set up", place)?;
        let steps = story::steps(&prepared.releases(), &prepared.certificate());
        let performed = story::perform(&steps, &mut host, |mark| recorder.mark(mark), told);
        let left = host.leave();
        let sequences = performed?;
        left.at("leave", place)?;
        let log = recorder.finish().at("record on", &disk)?;
        Ok(Self::with(
            Arc::new(log),
            steps,
            sequences,
            prepared,
            programs,
        ))
    }

    fn with(
        log: Arc<Log>,
        mut steps: Vec<Step>,
        sequences: Vec<u64>,
        prepared: Prepared,
        programs: Programs,
    ) -> Self {
        for (step, sequence) in steps.iter_mut().zip(sequences) {
            step.facts.sequence = sequence;
        }
        Self {
            log,
            steps,
            prepared,
            programs,
            before: story::before(),
        }
    }

    /// Writes it to a file, and what belongs to it to another beside it.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.log.save(path).at("write", path)?;
        let beside = Beside {
            prepared: self.prepared.dir().to_owned(),
            programs: self.programs.clone(),
            steps: self.steps.iter().map(|step| step.name.clone()).collect(),
            sequences: self.steps.iter().map(|step| step.facts.sequence).collect(),
        };
        let path = &beside_path(path);
        let text = serde_json::to_vec_pretty(&beside).map_err(std::io::Error::from);
        let text = text.at("write", path)?;
        std::fs::write(path, text).at("write", path)
    }

    /// Reads it again. The prepared directory and the programs may be elsewhere by
    /// now, or others.
    pub fn load(path: &Path, elsewhere: &Elsewhere) -> Result<Self> {
        let log = Log::load(path).at("read", path)?;
        let path = &beside_path(path);
        let text = std::fs::read(path).at("read", path)?;
        let beside: Beside = serde_json::from_slice(&text)
            .map_err(std::io::Error::from)
            .at("read", path)?;
        let dir = elsewhere.prepared.as_ref().unwrap_or(&beside.prepared);
        let prepared = Prepared::open(dir)?;
        let programs = Programs::new(
            elsewhere.stage.as_ref().unwrap_or(&beside.programs.stage),
            elsewhere
                .activate
                .as_ref()
                .unwrap_or(&beside.programs.activate),
        )?;
        let steps = story::steps(&prepared.releases(), &prepared.certificate());
        if !steps.iter().map(|step| &step.name).eq(&beside.steps) {
            return Err(Error::Other(format!(
                "{}: tells another story than this program; record it again",
                path.display()
            )));
        }
        Ok(Self::with(
            Arc::new(log),
            steps,
            beside.sequences,
            prepared,
            programs,
        ))
    }

    /// What may be found in a state, one boot after the power cut.
    pub fn between(&self, state: &State) -> Between<'_> {
        let within = self.log.step_at(state.position);
        let step = |number: Option<u32>| self.step(number?);
        let in_flight = step(within.in_flight);
        Between {
            before: step(within.acknowledged).map_or(&self.before, |step| &step.facts),
            after: in_flight.map(|step| &step.facts),
            change: match in_flight.map(|step| &step.action) {
                Some(Action::User(change)) => Some(*change),
                _ => None,
            },
            again: false,
            boots: (1, 1),
            twice: false,
        }
    }

    /// A step by its number.
    pub fn step(&self, number: u32) -> Option<&Step> {
        self.steps.get(usize::try_from(number).ok()?)
    }

    /// The step that was under way in a state.
    pub fn in_flight(&self, state: &State) -> Option<&Step> {
        self.step(self.log.step_at(state.position).in_flight?)
    }

    /// Where a state is in the story, in words.
    pub fn moment(&self, state: &State) -> String {
        let within = self.log.step_at(state.position);
        let name = |number: u32| {
            let name = self.step(number).map_or("?", |step| &step.name);
            format!("{number} ({name})")
        };
        match (within.acknowledged, within.in_flight) {
            (None, None) => "before the first step".to_owned(),
            (None, Some(step)) => format!("within step {}", name(step)),
            (Some(done), None) => format!("after step {}", name(done)),
            (Some(done), Some(step)) => {
                format!("within step {}, after {}", name(step), name(done))
            }
        }
    }

    /// Files of the overlays that the story cares for.
    pub fn files(&self) -> Vec<&'static str> {
        let changed = self.steps.iter().filter_map(|step| match &step.action {
            Action::User(change) => Some(change.path),
            _ => None,
        });
        let overlays = self
            .steps
            .iter()
            .flat_map(|step| step.facts.overlays.values());
        let held = overlays.flat_map(|files| files.keys().copied());
        let published = story::published("any").into_keys();
        let mut files: Vec<_> = changed.chain(held).chain(published).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

/// What is not where it was when the story was recorded.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Elsewhere {
    /// The prepared directory [default: the one it was recorded with]
    #[arg(long, value_name = "DIR")]
    pub prepared: Option<PathBuf>,
    /// The op-dbus-stage to run [default: the one it was recorded with]
    #[arg(long, value_name = "PROGRAM")]
    pub stage: Option<PathBuf>,
    /// The op-dbus-activate to run [default: the one it was recorded with]
    #[arg(long, value_name = "PROGRAM")]
    pub activate: Option<PathBuf>,
}

fn beside_path(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".json");
    name.into()
}
