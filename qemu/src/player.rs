//! Plays the steps of a scenario on a machine.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use op_dbus_vm_guest::proto::Request;
use serde_json::Value;

use crate::bench::Bench;
use crate::error::{Context, Error, Result};
use crate::expect::Expect;
use crate::guest::{Ending, Guest};
use crate::refusal::Standing;
use crate::scenario::{Boot, Cut, Refused, Run, Step};
use crate::timeline::{self, Timeline};
use crate::{damage, release};

/// Environment variable: a whole number that all deadlines are multiplied by,
/// for slow hosts.
pub const PATIENCE: &str = "OP_DBUS_VM_PATIENCE";

/// What [`PATIENCE`] says; 1 when it says nothing sensible.
pub fn patience() -> u32 {
    std::env::var(PATIENCE)
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|factor| *factor > 0)
        .unwrap_or(1)
}

/// Deadlines; none is waited out unless something is wrong.
#[derive(Debug, Clone, Copy)]
struct Patience {
    ready: Duration,
    command: Duration,
    end: Duration,
}

/// What the player tells while it plays.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A boot of this number begins.
    Started(usize),
    /// Something was done or seen in the running boot.
    Note(&'a str),
    /// A boot ended.
    Ended(&'a timeline::Boot),
}

/// Plays scenarios on one machine, one after the other. The machine is left as
/// the last step leaves it, so that scenarios can follow each other.
pub struct Player<'a> {
    bench: Bench<'a>,
    guest: Option<Guest>,
    /// The boot that runs or ran last, as it was asked for.
    boot: Boot,
    /// A machine that goes on by itself, until the next boot is asked for.
    going_on: Option<Guest>,
    timeline: Timeline,
    notes: Vec<String>,
    patience: Patience,
    tell: Box<dyn FnMut(Progress<'_>) + 'a>,
}

impl<'a> Player<'a> {
    /// A player for the machine `name` on `bench`.
    pub fn new(name: &str, bench: Bench<'a>, tell: impl FnMut(Progress<'_>) + 'a) -> Self {
        let factor = u64::from(patience());
        let seconds = |seconds: u64| Duration::from_secs(seconds.saturating_mul(factor));
        let patience = if bench.is_debian() {
            Patience {
                ready: seconds(600),
                command: seconds(480),
                end: seconds(900),
            }
        } else {
            Patience {
                ready: seconds(180),
                command: seconds(180),
                end: seconds(180),
            }
        };
        Self {
            bench,
            guest: None,
            boot: Boot::default(),
            going_on: None,
            timeline: Timeline {
                machine: name.to_owned(),
                boots: Vec::new(),
            },
            notes: Vec::new(),
            patience,
            tell: Box::new(tell),
        }
    }

    /// The boots so far.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The machine.
    pub fn bench(&self) -> &Bench<'a> {
        &self.bench
    }

    /// The running guest; booted, and awaited until it answers, if need be.
    pub fn guest(&mut self) -> Result<&mut Guest> {
        if self.guest.is_none() {
            self.boot(&Boot::default())?;
        }
        let ready = self.patience.ready;
        let Some(guest) = &mut self.guest else {
            return Err(Error::Scenario("no guest is running".into()));
        };
        if guest.ready().is_none() {
            guest.wait_ready(ready)?;
        }
        Ok(guest)
    }

    /// Plays `steps`. After a failure the machine is off and the error names
    /// the step.
    pub fn play(&mut self, steps: &[Step]) -> Result<()> {
        for (number, step) in steps.iter().enumerate() {
            if let Err(error) = self.step(step) {
                let what = format!("step {} {}: {error}", number + 1, describe(step));
                self.note(&what);
                if let Some(guest) = self.guest.take() {
                    self.over(guest, Ending::PowerCut)?;
                }
                self.save()?;
                return Err(Error::Expectation(what));
            }
        }
        self.save()
    }

    /// Switches the machine off in good order if it is on.
    pub fn finish(&mut self) -> Result<()> {
        if self.guest.is_some() {
            self.leave(Ending::PowerOff)?;
        }
        self.going_on = None;
        self.save()
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Note(text) => {
                self.note(text);
                Ok(())
            }
            Step::Stage(version) => self.stage(version),
            Step::Refused(refused) => self.refused(refused),
            Step::Run(run) => self.run(run),
            Step::Keep(keep) => {
                let within = self.patience.command;
                self.guest()?.keep(&keep.path, &keep.text, within)?;
                self.note(&format!("a user writes {}", keep.path));
                Ok(())
            }
            Step::Cut(cut) if cut.argv.is_empty() => self.cut_activation(cut),
            Step::Cut(cut) => self.cut_program(cut),
            Step::Boot(boot) => {
                self.boot(boot)?;
                self.guest().map(drop)
            }
            Step::Leave(how) => self.leave(*how),
            Step::Ends(how) => self.ends(*how),
            Step::Settled(_) => self.settled(),
            Step::Crash(times) => (0..*times).try_for_each(|_| self.leave(Ending::Panic)),
            Step::Expect(expect) => self.expect(expect),
            Step::Damage(damage) => {
                self.off("damage the store")?;
                self.bench.with_store(|store| damage::apply(damage, store))
            }
        }
    }

    fn stage(&mut self, version: &str) -> Result<()> {
        let within = self.patience.command;
        let path = release::path_in_guest(&format!("{version}.json"));
        let guest = self.guest()?;
        let received = guest.check(&["op-dbus-stage", "receive", "--json", &path], within)?;
        guest.check(&["op-dbus-stage", "stage", version], within)?;
        let how = match stream(&received) {
            Some(file) => format!(" ({file})"),
            None => String::new(),
        };
        self.note(&format!("received and staged {version}{how}"));
        Ok(())
    }

    fn refused(&mut self, refused: &Refused) -> Result<()> {
        let within = self.patience.command;
        let before = Standing::of(self.guest()?, within)?;
        let path = release::path_in_guest(&refused.release);
        let run = refused.run(&path)?;
        let said = self.checked(&run)?;
        // Progress comes before it.
        let why = said.lines().last().unwrap_or_default();
        let why = why.trim_start_matches("op-dbus-stage: ");
        self.note(&format!("refused ({}): {why}", run.code));
        before.kept(&Standing::of(self.guest()?, within)?)
    }

    fn run(&mut self, run: &Run) -> Result<()> {
        self.checked(run)?;
        self.note(&format!("{} → {}", run.argv.join(" "), run.code));
        Ok(())
    }

    /// Runs a program, holds exit code and words against what is wanted, and
    /// returns what it said.
    fn checked(&mut self, run: &Run) -> Result<String> {
        let within = self.patience.command;
        let argv: Vec<&str> = run.argv.iter().map(String::as_str).collect();
        let exit = self.guest()?.run(&argv, within)?;
        let output = format!("{}{}", exit.stdout, exit.stderr);
        if exit.code != run.code {
            return Err(Error::Expectation(format!(
                "exit code {} in place of {}: {}",
                exit.code,
                run.code,
                output.trim()
            )));
        }
        if let Some(says) = run
            .says
            .as_ref()
            .filter(|says| !output.contains(says.as_str()))
        {
            return Err(Error::Expectation(format!(
                "does not say \"{says}\", but: {}",
                output.trim()
            )));
        }
        Ok(output)
    }

    fn cut_program(&mut self, cut: &Cut) -> Result<()> {
        self.guest()?;
        let within = self.patience.command;
        self.note(&format!("{}: power cut at {}", cut.argv.join(" "), cut.at));
        self.cut(|guest| guest.wait_cut(&cut.argv, &cut.at, within))
    }

    fn cut_activation(&mut self, cut: &Cut) -> Result<()> {
        let options = format!("{}{}", op_dbus_vm_guest::init::CUT_KEY, cut.at);
        self.boot(&Boot {
            options,
            ..Boot::default()
        })?;
        let within = self.patience.ready;
        self.note(&format!("activation: power cut at {}", cut.at));
        self.cut(|guest| guest.wait_paused(&cut.at, within))
    }

    fn cut(&mut self, wait: impl FnOnce(&mut Guest) -> Result<()>) -> Result<()> {
        let Some(mut guest) = self.guest.take() else {
            return Err(Error::Scenario("no guest is running".into()));
        };
        if let Err(error) = wait(&mut guest) {
            self.guest = Some(guest);
            return Err(error);
        }
        self.over(guest, Ending::PowerCut)
    }

    fn leave(&mut self, how: Ending) -> Result<()> {
        let within = self.patience.end;
        let ending = self.guest()?.leave(how, within)?;
        self.end_must_be(how, ending)
    }

    fn ends(&mut self, how: Ending) -> Result<()> {
        if self.guest.is_none() {
            self.boot(&Boot::default())?;
        }
        let within = self.patience.end;
        let Some(guest) = &mut self.guest else {
            return Err(Error::Scenario("no guest is running".into()));
        };
        let ending = guest.wait_end(within)?;
        self.end_must_be(how, ending)
    }

    fn end_must_be(&mut self, wanted: Ending, ending: Ending) -> Result<()> {
        if let Some(guest) = self.guest.take() {
            self.over(guest, ending)?;
        }
        if ending == wanted {
            return Ok(());
        }
        Err(Error::Expectation(format!(
            "the boot ended by {} in place of {}",
            ending.word(),
            wanted.word()
        )))
    }

    /// systemd knows when nothing is left to start; the light guest has nothing
    /// to wait for.
    fn settled(&mut self) -> Result<()> {
        if !self.bench.is_debian() {
            return self.guest().map(drop);
        }
        let within = self.patience.command;
        let guest = self.guest()?;
        let exit = guest.run(&["systemctl", "is-system-running", "--wait"], within)?;
        let state = exit.stdout.trim().to_owned();
        if state == "running" {
            return Ok(());
        }
        let failed = guest.run(&["systemctl", "--failed", "--plain", "--no-legend"], within)?;
        Err(Error::Expectation(format!(
            "the host is {state}: {}",
            failed.stdout.trim()
        )))
    }

    fn expect(&mut self, expect: &Expect) -> Result<()> {
        let within = self.patience.command;
        for note in expect.check(self.guest()?, within)? {
            self.note(&note);
        }
        Ok(())
    }

    fn boot(&mut self, boot: &Boot) -> Result<()> {
        self.off("boot")?;
        let held = boot.fail.as_ref().filter(|fail| !fail.from.is_empty());
        let faults = match held {
            Some(fail) => self.bench.faults(fail)?,
            None => Vec::new(),
        };
        let number = self.timeline.boots.len() + 1;
        (self.tell)(Progress::Started(number));
        // A machine of other devices is another one.
        let going_on = self.going_on.take().filter(|_| self.boot == *boot);
        self.boot = boot.clone();
        if let Some(mut guest) = going_on {
            guest.go_on();
            self.guest = Some(guest);
            return Ok(());
        }
        let console = self.console(number);
        let guest = self.guest.insert(self.bench.start(boot, &console)?);
        if let Some(fail) = held {
            guest.wait_paused(&fail.from, self.patience.ready)?;
            guest.fail(&faults)?;
            guest.send(&Request::GoOn)?;
        }
        Ok(())
    }

    fn off(&self, what: &str) -> Result<()> {
        if self.guest.is_none() {
            return Ok(());
        }
        Err(Error::Scenario(format!("can't {what}: the machine is on")))
    }

    fn console(&self, number: usize) -> PathBuf {
        self.bench.directory().join(format!("boot-{number:02}.log"))
    }

    fn note(&mut self, text: &str) {
        (self.tell)(Progress::Note(text));
        self.notes.push(text.to_owned());
    }

    /// Books a boot that is over; a power cut is carried out here.
    fn over(&mut self, mut guest: Guest, ending: Ending) -> Result<()> {
        let number = self.timeline.boots.len() + 1;
        if ending == Ending::PowerCut {
            guest.cut()?;
            let kept = self.bench.power_was_cut()?;
            if !kept.is_empty() {
                self.note(&kept);
            }
        }
        let boot = timeline::Boot {
            number,
            choice: timeline::choice(guest.console()),
            ready_seconds: guest.ready().map(|(_, seconds)| seconds),
            seconds: guest.seconds(),
            ending,
            notes: std::mem::take(&mut self.notes),
            console: guest.log().display().to_string(),
        };
        self.going_on = Some(guest).filter(|it| ending != Ending::PowerCut && it.goes_on());
        (self.tell)(Progress::Ended(&boot));
        self.timeline.boots.push(boot);
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let path = self.bench.directory().join("timeline.json");
        let json = serde_json::to_vec_pretty(&self.timeline)
            .map_err(std::io::Error::from)
            .at("write", &path)?;
        fs::write(&path, json).at("write", &path)?;
        let path = self.bench.directory().join("timeline.txt");
        fs::write(&path, self.timeline.text()).at("write", &path)
    }
}

/// Which stream `receive --json` took; none when there was nothing to do.
fn stream(report: &str) -> Option<String> {
    let value: Value = serde_json::from_str(report.lines().last()?).ok()?;
    Some(value.get("stream")?.as_str()?.to_owned())
}

fn describe(step: &Step) -> String {
    let text = format!("{step:?}");
    let mut short: String = text.chars().take(120).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_read_from_the_report() {
        let report = r#"{"command":"receive","stream":"v1.from-v0.btrfs.zst"}"#;
        assert_eq!(stream(report).unwrap(), "v1.from-v0.btrfs.zst");
        assert_eq!(stream(r#"{"result":"already-there"}"#), None);
        assert_eq!(stream(""), None);
    }
}
