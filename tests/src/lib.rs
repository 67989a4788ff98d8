//! The harness of the VM tests: ordinary test programs (`--list`, filters,
//! `test result:` line) whose tests are plays on machines.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use op_dbus_vm::Result;
use op_dbus_vm::player::Progress;
use op_dbus_vm::suite::Lab;
use op_dbus_vm::timeline::Timeline;

/// Environment variable: also play what `make test` has no time for.
pub const ALL: &str = "OP_DBUS_VM_ALL";

/// Most guests at a time; the machines this runs on have two cores.
const GUESTS: usize = 2;

/// Whether everything is to be played.
pub fn all() -> bool {
    std::env::var_os(ALL).is_some_and(|value| value != "0" && !value.is_empty())
}

/// Counts boots over all tests of a program.
#[derive(Debug, Default)]
pub struct Boots {
    numbers: Mutex<(usize, f64)>,
}

impl Boots {
    /// How many, and the seconds they took together.
    pub fn total(&self) -> (usize, f64) {
        self.numbers.lock().map_or((0, 0.0), |numbers| *numbers)
    }

    /// Counts boots that were not played.
    pub fn count(&self, boots: u32, seconds: f64) {
        if let Ok(mut numbers) = self.numbers.lock() {
            numbers.0 += usize::try_from(boots).unwrap_or(usize::MAX);
            numbers.1 += seconds;
        }
    }

    /// Plays, counts every boot (preparing ones as well), and turns the outcome
    /// into that of a test: the timeline goes along with a failure.
    pub fn play(
        &self,
        play: impl FnOnce(&mut dyn FnMut(Progress<'_>)) -> (Timeline, Result<()>),
    ) -> std::result::Result<(), Failed> {
        let mut count = |progress: Progress<'_>| {
            let Progress::Ended(boot) = progress else {
                return;
            };
            if let Ok(mut numbers) = self.numbers.lock() {
                numbers.0 += 1;
                numbers.1 += boot.seconds;
            }
        };
        let (timeline, result) = play(&mut count);
        result.map_err(|error| Failed::from(format!("{error}\n{}", timeline.text())))
    }
}

/// Opens the lab and runs what `tests` makes of it, at most [`GUESTS`] at a
/// time. Listing needs neither root nor a build.
pub fn run(tests: impl FnOnce(Option<Arc<Lab>>) -> Vec<Trial>) -> (Conclusion, bool) {
    let mut arguments = Arguments::from_args();
    let threads = arguments.test_threads.unwrap_or(GUESTS).min(GUESTS);
    arguments.test_threads = Some(threads);
    if arguments.list {
        return (libtest_mimic::run(&arguments, tests(None)), true);
    }
    let lab = match op_dbus_vm::sandbox::enter().and_then(|()| Lab::open()) {
        Ok(lab) => Some(Arc::new(lab)),
        Err(error) => {
            eprintln!("the VM tests can't run: {error}");
            None
        }
    };
    let sound = lab.is_some();
    (libtest_mimic::run(&arguments, tests(lab)), sound)
}

/// The exit code of a test program.
pub fn exit(conclusion: &Conclusion, sound: bool) -> ExitCode {
    if conclusion.has_failed() || !sound {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
