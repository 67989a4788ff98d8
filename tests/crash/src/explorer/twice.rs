//! A power cut during the recovery from a power cut. What the recovery writes is
//! recorded, and states of that are explored as those of the story are.

use std::io;
use std::sync::Arc;

use super::{Depth, Explorer, Outcome};
use crate::check::Between;
use crate::facts::Facts;
use crate::story::Step;
use crate::{Log, Mark, Recorder, Replayer, State, states};

/// States that are looked at of one recovery.
pub(super) const STATES: u32 = 24;
/// The recovery's own steps.
const BOOT: u32 = 0;
const COMMAND: u32 = 1;

impl Explorer {
    /// Explores what a second power cut can leave of a state's recovery.
    pub(super) fn cut_twice(&mut self, state: &State, outcome: &mut Outcome) -> io::Result<()> {
        let log = Arc::new(self.recover(state).map_err(|why| of("record", &why))?);
        let replayer = Replayer::new(Arc::clone(&log), "second");
        let mut replayer = replayer.map_err(|why| of("replay", &why))?;
        for second in states::enumerate(&log, 1, STATES as usize) {
            self.look_at_second(state, &log, &mut replayer, &second, outcome)?;
            if !outcome.violations.is_empty() {
                let path =
                    std::env::temp_dir().join(format!("op-dbus-second.{}", std::process::id()));
                log.save(&path)?;
                outcome.second = Some((second.to_string(), path));
                break;
            }
        }
        replayer.close().map_err(|why| of("end", &why))
    }

    /// Looks at one state of a recovery that was recorded before.
    pub fn second(&mut self, state: &State, log: Log, second: &State) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        let log = Arc::new(log);
        let mut replayer = Replayer::new(Arc::clone(&log), "second")?;
        self.look_at_second(state, &log, &mut replayer, second, &mut outcome)?;
        replayer.close()?;
        Ok(outcome)
    }

    fn look_at_second(
        &mut self,
        state: &State,
        log: &Log,
        replayer: &mut Replayer,
        second: &State,
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        let recording = Arc::clone(&self.recording);
        let first = recording.between(state);
        let within = log.step_at(second.position);
        let acknowledged = within.acknowledged;
        // The command that was run again said that it is done: it is, but for its
        // lines of the log, which may stand there more than once.
        let done = first.after.map(|after| Facts {
            log: first.before.log.clone(),
            ..after.clone()
        });
        let between = Between {
            before: match (acknowledged, &done) {
                (Some(COMMAND), Some(done)) => done,
                _ => first.before,
            },
            again: within.in_flight == Some(COMMAND) || acknowledged == Some(COMMAND),
            boots: match acknowledged {
                None => (1, 2),
                Some(_) => (2, 2),
            },
            twice: true,
            ..first
        };
        let node = replayer.present(second)?.to_owned();
        self.host.begin_trials_fresh(first.before.fresh)?;
        self.host.use_device(&node)?;
        let judged = self.boot(&between, Depth::Twice, outcome);
        let down = self.host.down();
        judged.and(down)
    }

    /// Records the recovery: the first boot, and the command that was in flight.
    fn recover(&mut self, state: &State) -> io::Result<Log> {
        let recording = Arc::clone(&self.recording);
        let image = state.image(&recording.log).map_err(io::Error::other)?;
        let recorder = Recorder::new(image)?;
        let fresh = recording.between(state).before.fresh;
        self.host.begin_trials_fresh(fresh)?;
        self.host.use_device(recorder.node())?;
        self.host.next_boot()?;
        recorder.mark(Mark::Begin(BOOT));
        let ran = self.host.boot()?;
        if ran.succeeded() {
            recorder.mark(Mark::Acknowledged(BOOT));
        }
        if let Some(words) = recording.in_flight(state).and_then(to_run_again) {
            recorder.mark(Mark::Begin(COMMAND));
            if self.host.stage(words)?.succeeded() {
                recorder.mark(Mark::Acknowledged(COMMAND));
            }
        }
        self.host.down()?;
        recorder.finish()
    }
}

/// Says what of the second power cut failed.
fn of(what: &str, why: &io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("{what} the recovery: {why}"))
}

/// Commands that change no role: what holds once they were run again is what
/// would have held without the power cut.
fn to_run_again(step: &Step) -> Option<&[String]> {
    let words = step.command()?;
    let command = words.first()?.as_str();
    ["receive", "prune"].contains(&command).then_some(words)
}
