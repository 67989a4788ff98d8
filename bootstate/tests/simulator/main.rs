//! Every call of every operation on the record, times everything a medium can do
//! wrong at it; and again at every call while recovering from the first.
//!
//! `cargo test -p op-dbus-bootstate --test simulator -- --nocapture` prints the table.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub
)]

#[path = "../common/mod.rs"]
mod common;

mod acts;
mod disk;
mod starts;
mod table;

use std::collections::HashSet;

use acts::{Act, Outcome, Promise, act};
use disk::{Call, Disk, Error};
use op_dbus_bootstate::Slot;
use op_dbus_bootstate::codec;
use op_dbus_bootstate::store::{Copy, Verdict, Writer, load};
use starts::Start;
use table::Table;

/// How often an act calls the medium, and for what, when nothing goes wrong.
fn calls(what: Act, disk: &Disk) -> Vec<Call> {
    let mut disk = disk.recovered();
    let promise = Promise::of(&disk);
    act(what, &mut disk, promise);
    disk.calls
}

fn errors(call: Call) -> Vec<Error> {
    match call {
        Call::Read(_) => Error::of_reads(),
        Call::Write(_) => Error::of_writes(),
    }
}

/// What is checked after every act; recovery only once for every content.
#[derive(Default)]
struct Checks {
    table: Table,
    recovered: HashSet<Vec<Option<Vec<u8>>>>,
}

impl Checks {
    /// Does an act with an error at one call, and checks what must hold after it.
    fn strike(
        &mut self,
        story: &str,
        disk: &Disk,
        promise: &Promise,
        what: Act,
        (at, call, error): (usize, Call, Error),
    ) -> (Disk, Promise) {
        let mut struck = disk.with_error(at, error);
        let Outcome { promise, running } = act(what, &mut struck, promise.clone());
        self.table.count(what, call, error);
        let story = || format!("{story}; {what:?}, call {at} {call:?}, {error:?}");
        assert_eq!(
            struck.writes_after_failure(),
            0,
            "{}: written after a failure",
            story()
        );
        let after = struck.recovered();
        let verdict = load(&mut &mut after.clone()).verdict();
        let found = verdict.record();
        if has_a_copy(disk) {
            assert!(
                !matches!(verdict, Verdict::Rebuilt(_) | Verdict::Lost),
                "{}: both copies are gone",
                story()
            );
        }
        assert!(
            promise.holds(found),
            "{}: found {verdict:?}\nallowed {promise:?}",
            story()
        );
        if let Some(running) = running.filter(|run| run.slot == Slot::Trial) {
            assert!(
                found.is_some_and(|found| found.counted_boot(running.boot_id).is_some()),
                "{}: a trial runs uncounted",
                story()
            );
        }
        if self.recovered.insert(after.files()) {
            recovers(&story(), &after);
        }
        (after, promise)
    }
}

fn has_a_copy(disk: &Disk) -> bool {
    [Copy::Zero, Copy::One].into_iter().any(|copy| {
        disk.file(copy)
            .is_some_and(|bytes| codec::decode(bytes).is_ok())
    })
}

/// Recovery says what reading said, comes to an end, and is idempotent.
fn recovers(story: &str, disk: &Disk) {
    let mut disk = disk.recovered();
    let before = load(&mut &mut disk).verdict();
    let mut writer = Writer::new(&mut disk);
    writer.repair().unwrap();
    assert!(!writer.repair().unwrap(), "{story}: a second repair");
    let after = load(&mut &mut disk).verdict();
    match (&before, &after) {
        (Verdict::Lost, Verdict::Lost) => {}
        (Verdict::Rebuilt(before), Verdict::Intact(after)) => {
            assert_eq!(before.good, after.good, "{story}");
        }
        (before, Verdict::Intact(after)) => {
            assert_eq!(
                before.record(),
                Some(&**after),
                "{story}: a repair changed it"
            );
        }
        other => panic!("{story}: {other:?}"),
    }
}

/// What a second error can tell apart: the verdict on each file.
fn class(disk: &Disk) -> Vec<Option<Vec<u8>>> {
    let valid = |file: Option<Vec<u8>>| file.filter(|bytes| codec::decode(bytes).is_ok());
    disk.files().into_iter().map(valid).collect()
}

/// Else its errors would strike a command that was refused before it wrote.
#[test]
fn a_stage_writes_wherever_none_is_on_trial() {
    let mut starts = 0;
    for start in Start::all().filter(|start| start.takes_a_stage()) {
        let called = calls(Act::Stage, &start.disk());
        let writes = called.iter().filter(|call| matches!(call, Call::Write(_)));
        assert!(writes.count() >= 2, "{start:?}: {called:?}");
        starts += 1;
    }
    assert_eq!(starts, 7);
}

#[test]
fn one_error_at_any_call_is_survived() {
    let mut checks = Checks::default();
    for start in Start::all() {
        let disk = start.disk();
        let promise = Promise::of(&disk);
        for what in Act::ALL {
            for (at, call) in calls(what, &disk).into_iter().enumerate() {
                for error in errors(call) {
                    checks.strike(
                        &format!("{start:?}"),
                        &disk,
                        &promise,
                        what,
                        (at, call, error),
                    );
                }
            }
        }
    }
    println!("{}", checks.table);
}

/// The second error strikes at every call of the program that comes next. What
/// the first can leave, it can leave in many ways: each content is taken once.
#[test]
fn a_second_error_while_recovering_is_survived() {
    let mut first = Checks::default();
    let mut second = Checks::default();
    let mut seen = HashSet::new();
    for start in Start::all() {
        let disk = start.disk();
        let promise = Promise::of(&disk);
        for what in Act::ALL {
            for (at, call) in calls(what, &disk).into_iter().enumerate() {
                for error in errors(call).into_iter().filter(|error| error.is_typical()) {
                    let story = format!("{start:?}");
                    let (left, promise) =
                        first.strike(&story, &disk, &promise, what, (at, call, error));
                    if !seen.insert((class(&left), format!("{promise:?}"))) {
                        continue;
                    }
                    let story = format!("{story}; {what:?}, call {at} {call:?}, {error:?}");
                    for next in [Act::Repair, Act::Boot, Act::Stage] {
                        again(&mut second, &story, &left, &promise, next);
                    }
                }
            }
        }
    }
    println!("{} media after a first error\n{}", seen.len(), second.table);
}

/// Every error at every call of the act that follows.
fn again(checks: &mut Checks, story: &str, disk: &Disk, promise: &Promise, next: Act) {
    for (at, call) in calls(next, disk).into_iter().enumerate() {
        for error in errors(call).into_iter().filter(|error| error.is_typical()) {
            checks.strike(story, disk, promise, next, (at, call, error));
        }
    }
}
