//! One state after the other: present it, boot it, look at it, judge it.

mod twice;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::check::{self, Between, Sights, Signed, Violation};
use crate::error::{At as _, Result};
use crate::host::Host;
use crate::programs::Ran;
use crate::recording::Recording;
use crate::story::Step;
use crate::times::{self, Times, Watch};
use crate::{Replayer, State};

/// Boot ids of the explorer: none of the story's.
const FIRST_BOOT: u64 = 1 << 32;

/// How closely a state is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Depth {
    /// One boot.
    Boot,
    /// Then another one, and the command that was interrupted again; `verify`
    /// and `audit verify` are asked each time.
    Again,
    /// Power goes once more while the first boot is at work, or the command that
    /// is run again.
    Twice,
}

impl Depth {
    /// How many states are looked at.
    pub(crate) fn states(self) -> u32 {
        match self {
            Self::Boot | Self::Again => 1,
            Self::Twice => 1 + twice::STATES,
        }
    }
}

/// What came of a state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// What must not be.
    pub violations: Vec<Violation>,
    /// What ran.
    pub ran: Vec<Ran>,
    /// The state that the second power cut left, where there was one, and the log
    /// it is one of.
    pub second: Option<(String, PathBuf)>,
    /// Where the time went.
    pub times: Times,
}

impl Outcome {
    /// Notes what the programs since the first `before` took, and the looking
    /// beside them.
    fn account(&mut self, before: usize, watch: &Watch) {
        let mut looked = watch.spent();
        for ran in self.ran.iter().skip(before) {
            looked.wall = looked.wall.saturating_sub(ran.spent.wall);
            self.times.spend(&ran.name(), ran.spent);
        }
        self.times.spend(times::LOOK, looked);
    }
}

/// Explores states of one recording, on one device.
#[derive(Debug)]
pub struct Explorer {
    recording: Arc<Recording>,
    replayer: Replayer,
    host: Host,
    files: Vec<&'static str>,
    signed: Signed,
    /// Locked by each explorer while it has anything mounted.
    turns: File,
    /// Locked while one waits for that.
    gate: File,
}

impl Explorer {
    /// An explorer with its host in an existing directory; the thread must have
    /// entered a namespace.
    pub fn new(recording: Arc<Recording>, place: &Path) -> Result<Self> {
        let host = Host::new(place, &recording.programs, FIRST_BOOT).at("set up", place)?;
        let certificate = recording.prepared.certificate();
        host.trust(&certificate).at("copy", &certificate)?;
        let replayer =
            Replayer::new(Arc::clone(&recording.log), "explorer").at("replay at", place)?;
        let releases = recording.prepared.releases();
        let versions = recording.prepared.digests.keys();
        let signed = check::signed(&releases, versions).at("read", &releases)?;
        // Files that every explorer of the recording has.
        let lock = |path: PathBuf| File::open(&path).at("open", &path);
        Ok(Self {
            turns: lock(recording.prepared.disk())?,
            gate: lock(certificate)?,
            signed,
            files: recording.files(),
            recording,
            replayer,
            host,
        })
    }

    /// Explores a state. An error is the host's fault.
    pub fn explore(&mut self, state: &State, depth: Depth) -> io::Result<Outcome> {
        self.wait_for_turn(state, depth)?;
        let outcome = self.explore_in_turn(state, depth);
        flock(&self.turns, FlockOperation::Unlock)?;
        outcome
    }

    /// Where prune is to be run again, waits until no other explorer has anything
    /// mounted: it keeps what an overlay anywhere on the host seems to need, by the
    /// names of its layers.
    fn wait_for_turn(&self, state: &State, depth: Depth) -> io::Result<()> {
        let command = self.recording.in_flight(state).and_then(Step::command);
        let is_prune = command
            .and_then(<[String]>::first)
            .is_some_and(|word| word == "prune");
        let kind = if is_prune && depth != Depth::Boot {
            FlockOperation::LockExclusive
        } else {
            FlockOperation::LockShared
        };
        // Who waits here has nothing mounted, and who comes later waits as well.
        flock(&self.gate, FlockOperation::LockExclusive)?;
        flock(&self.turns, kind)?;
        flock(&self.gate, FlockOperation::Unlock)?;
        Ok(())
    }

    fn explore_in_turn(&mut self, state: &State, depth: Depth) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        if depth == Depth::Twice {
            let watch = Watch::own();
            self.cut_twice(state, &mut outcome)?;
            // All that happened meanwhile is a part of it.
            outcome.times = Times::default();
            outcome.times.spend(times::TWICE, watch.spent());
            return Ok(outcome);
        }
        let (all, own) = (Watch::process(), Watch::own());
        let watch = Watch::own();
        let node = self.replayer.present(state)?.to_owned();
        let fresh = self.recording.between(state).before.fresh;
        self.host.begin_trials_fresh(fresh)?;
        self.host.use_device(&node)?;
        outcome.times.spend(times::PRESENT, watch.spent());
        let judged = self.judge(state, depth, &mut outcome);
        judged.and(self.down(&mut outcome))?;
        let mut disk = all.spent();
        disk.cpu = disk.cpu.saturating_sub(own.spent().cpu);
        disk.wall = Duration::ZERO;
        outcome.times.spend(times::DISK, disk);
        Ok(outcome)
    }

    fn judge(&mut self, state: &State, depth: Depth, outcome: &mut Outcome) -> io::Result<()> {
        let recording = Arc::clone(&self.recording);
        let between = recording.between(state);
        self.boot(&between, depth, outcome)?;
        if depth == Depth::Boot || !outcome.violations.is_empty() {
            return Ok(());
        }
        self.down(outcome)?;
        let later = Between {
            boots: (2, 2),
            ..between
        };
        self.boot(&later, depth, outcome)?;
        if let Some(step) = recording.in_flight(state) {
            if outcome.violations.is_empty() {
                let watch = Watch::own();
                let before = outcome.ran.len();
                let found = check::rerun(step, &later, &self.host, &mut outcome.ran)?;
                outcome.account(before, &watch);
                outcome.violations.extend(found);
            }
        }
        Ok(())
    }

    /// A boot with a new boot id, and all checks.
    fn boot(
        &mut self,
        between: &Between<'_>,
        depth: Depth,
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        let watch = Watch::own();
        let before = outcome.ran.len();
        self.host.next_boot()?;
        let sights = Sights {
            files: &self.files,
            signed: &self.signed,
            verify: depth != Depth::Boot,
        };
        let seen = check::observe(&self.host, &sights, &mut outcome.ran)?;
        let digests = &self.recording.prepared.digests;
        let violations = check::judge(between, digests, &seen);
        if !violations.is_empty() {
            outcome.violations.extend(violations);
        }
        outcome.account(before, &watch);
        Ok(())
    }

    fn down(&self, outcome: &mut Outcome) -> io::Result<()> {
        let watch = Watch::own();
        let down = self.host.down();
        outcome.times.spend(times::UNMOUNT, watch.spent());
        down
    }

    /// Ends it: its directory is as empty as it was.
    pub fn leave(self) -> io::Result<()> {
        self.host.leave()?;
        self.replayer.close()
    }

    /// Writes a state, as the power cut left it, to a file.
    pub fn image_of(&mut self, state: &State, path: &Path) -> io::Result<()> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        self.replayer.present(state)?;
        self.replayer.image_to(path)
    }
}
