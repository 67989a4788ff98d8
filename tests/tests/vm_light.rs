//! Faults and power cuts on light guests: each case of each scenario is a test.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use op_dbus_tests::{Boots, all};
use op_dbus_vm::catalogue;
use op_dbus_vm::cuts::state::State;
use op_dbus_vm::debian::profile::Suite;
use op_dbus_vm::scenario::Kind;
use op_dbus_vm::suite::{Chosen, Lab};

/// How many power cuts a run of this program makes for each kernel.
const CUTS: u32 = 50;

/// The story of `make test`, the same for everybody: what a longer search with
/// other seeds finds is a bug to look into, not a reason why a change can't land.
const SEED: u64 = 20_780;

/// Random power cuts; a violation says how it is seen again.
fn random_cuts(lab: &Lab, suite: Suite, boots: &Boots) -> Result<(), Failed> {
    let seed = match std::env::var("OP_DBUS_SEED") {
        Ok(text) => text.parse()?,
        Err(_) => SEED,
    };
    let directory = lab.directory(&format!("random-cuts-{}", suite.name()));
    let state = State::new(suite.name(), seed);
    let state = lab
        .cut_power(state, &directory, CUTS, |_| ())
        .map_err(|why| format!("seed {seed}: {why}"))?;
    boots.count(state.totals.boots, state.totals.seconds);
    println!("{}", state.summary());
    match state.violations.first() {
        None => Ok(()),
        Some(violation) => Err(Failed::from(format!(
            "after cut {}, during {}: {}\nagain: {}",
            violation.cut, violation.during, violation.what, violation.command
        ))),
    }
}

/// A control: where flushes are ignored, promises can't hold, and it is noticed.
fn lying_disk(lab: &Lab, suite: Suite, boots: &Boots) -> Result<(), Failed> {
    let directory = lab.directory(&format!("lying-disk-{}", suite.name()));
    let mut state = State::new(suite.name(), 1);
    state.lying_disk = true;
    let state = lab.cut_power(state, &directory, 10, |_| ())?;
    boots.count(state.totals.boots, state.totals.seconds);
    if state.violations.is_empty() {
        return Err("ten cuts of a disk that lies, and nothing was noticed".into());
    }
    Ok(())
}

fn main() -> ExitCode {
    let boots = Arc::new(Boots::default());
    let (conclusion, sound) = op_dbus_tests::run(|lab| {
        let mut tests = Vec::new();
        for (suite, always) in [(Suite::Bookworm, true), (Suite::Trixie, false)] {
            for name in catalogue::names() {
                let Ok(found) = Chosen::find(name) else {
                    continue;
                };
                if found.scenario.guest != Kind::Light {
                    continue;
                }
                for chosen in found.cases() {
                    let boots = Arc::clone(&boots);
                    let lab = lab.clone();
                    let title = format!("{}: {}", suite.name(), chosen.title());
                    let trial = Trial::test(title, move || {
                        let lab = lab.ok_or_else(|| Failed::from("no lab"))?;
                        boots.play(|tell| lab.play_light(suite, &chosen, tell))
                    });
                    tests.push(trial.with_ignored_flag(!always && !all()));
                }
            }
        }
        for (suite, always) in [(Suite::Bookworm, true), (Suite::Trixie, false)] {
            let (boots, lab) = (Arc::clone(&boots), lab.clone());
            let trial = Trial::test(format!("{}: random-cuts", suite.name()), move || {
                let lab = lab.ok_or_else(|| Failed::from("no lab"))?;
                random_cuts(&lab, suite, &boots)
            });
            tests.push(trial.with_ignored_flag(!always && !all()));
        }
        let (boots, lab) = (Arc::clone(&boots), lab.clone());
        tests.push(Trial::test(
            "bookworm: a-lying-disk-is-noticed",
            move || {
                let lab = lab.ok_or_else(|| Failed::from("no lab"))?;
                lying_disk(&lab, Suite::Bookworm, &boots)
            },
        ));
        tests
    });
    let (count, seconds) = boots.total();
    if count > 0 {
        println!("{count} boots of the light guest, {seconds:.0} s of guest time (emulated)");
    }
    op_dbus_tests::exit(&conclusion, sound)
}
