//! Faults and power cuts on light guests: each case of each scenario is a test.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use op_dbus_tests::{Boots, all};
use op_dbus_vm::catalogue;
use op_dbus_vm::debian::profile::Suite;
use op_dbus_vm::scenario::Kind;
use op_dbus_vm::suite::Chosen;

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
        tests
    });
    let (count, seconds) = boots.total();
    if count > 0 {
        println!("{count} boots of the light guest, {seconds:.0} s of guest time (emulated)");
    }
    op_dbus_tests::exit(&conclusion, sound)
}
