//! The state machine, searched to closure: every interleaving of events, with
//! power going between any two durable steps, counts that can't be made durable,
//! copies that rot, and versions that are bad.
//!
//! | Module | Holds |
//! |---|---|
//! | [`shape`] | a record reduced to what decisions read |
//! | [`abstraction`] | that this makes no difference |
//! | [`medium`] | the three files, and a program's hands on them |
//! | [`writes`] | what the shipped writer does to them, however its calls end |
//! | [`fate`] | what is not the programs' to decide |
//! | [`play`], [`prune`] | a device, and what may happen to it |
//! | [`check`], [`liveness`] | the invariants |
//! | [`search`], [`words`] | breadth first; a violation told in words |
//! | [`faults`] | mistakes put in on purpose |
//! | [`long`] | long stories over the shipped limits |
//!
//! The programs are in `common/programs.rs`; the decisions, the writer and the
//! activator's loop are the shipped ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub
)]

#[path = "../common/mod.rs"]
mod common;

mod abstraction;
mod check;
mod fate;
mod faults;
mod liveness;
mod long;
mod medium;
mod play;
mod prune;
mod search;
mod shape;
mod words;
mod writes;

use faults::DriverFault;
use medium::Library;
use op_dbus_bootstate::record::Limits;
use play::{Model, Op};
use search::{Found, search};
use shape::Scope;
use writes::{Tables, WriterFault};

fn scope(tries: u8, refunds: u8, good_boots: u8, epochs: &[u32]) -> Scope {
    Scope {
        limits: Limits {
            tries,
            refunds,
            good_boots,
        },
        epochs: epochs.to_vec(),
    }
}

/// Searches, prints what was seen, and fails with the story of a violation.
fn holds(scope: Scope, tables: Tables) -> Found {
    println!("{scope:?}");
    keeps(&Model::new(Library::new(scope, tables), None))
}

fn keeps(model: &Model) -> Found {
    let found = search(model);
    println!("{found}");
    assert!(found.violation.is_none(), "{found}");
    found
}

#[test]
fn every_story_of_one_version_keeps_the_invariants() {
    holds(scope(1, 1, 2, &[0]), Tables::remembering());
}

/// Minutes: `make test-model`.
#[test]
#[ignore = "two versions to closure take minutes: make test-model"]
fn every_story_of_two_versions_keeps_the_invariants() {
    holds(scope(1, 0, 1, &[0, 0]), Tables::remembering());
}

/// Longer still: some fifteen minutes.
#[test]
#[ignore = "three versions to closure take long: make test-model"]
fn every_story_of_three_versions_keeps_the_invariants() {
    holds(scope(1, 0, 1, &[0, 0, 0]), Tables::remembering());
}

/// What `writes` takes for granted: with the real writer called for every medium,
/// not once for every situation, the very same states come about.
#[test]
fn the_writer_looks_at_nothing_but_the_situation() {
    let world = || scope(1, 0, 1, &[0]);
    let remembered = holds(world(), Tables::remembering());
    let forgotten = holds(world(), Tables::of_whole_media());
    assert_eq!(remembered.states, forgotten.states);
    assert_eq!(remembered.transitions, forgotten.transitions);
}

/// The length of the shortest story in which a fault shows.
fn story_of(driver: Option<DriverFault>, writer: Option<WriterFault>) -> (u8, usize) {
    let mut tables = Tables::remembering();
    tables.fault = writer;
    let world = scope(1, 1, 1, &[0]);
    let found = search(&Model::new(Library::new(world, tables), driver));
    println!("{driver:?} {writer:?}: {found}\n");
    let (violation, story) = found.violation.expect("the fault does not show");
    (violation.invariant, story.len())
}

#[test]
fn faults_of_programs_are_found() {
    use DriverFault::{
        AcknowledgesEarly, ActivatesBeforeCount, ForgetsQuarantine, IgnoresFailedCount,
        RefundsWithoutEnd, TakesNoTry,
    };
    for (fault, invariant, length) in [
        (IgnoresFailedCount, 2, 2),
        (AcknowledgesEarly, 3, 1),
        (TakesNoTry, 2, 6),
        (RefundsWithoutEnd, 2, 6),
        (ForgetsQuarantine, 6, 3),
        (ActivatesBeforeCount, 2, 2),
    ] {
        assert_eq!(
            story_of(Some(fault), None),
            (invariant, length),
            "{fault:?}"
        );
    }
}

/// Good, its fallback, and a prune that looks at good alone.
#[test]
fn a_prune_that_takes_the_fallback_is_found() {
    let library = Library::new(scope(1, 0, 1, &[0, 0]), Tables::remembering());
    let mut model = Model::new(library, Some(DriverFault::PrunesFallback));
    model.ops.retain(|op| {
        use play::How::Usual;
        matches!(
            op,
            Op::Boot(Usual) | Op::Down | Op::Stage { forced: false, .. } | Op::Bless | Op::Prune
        )
    });
    let found = search(&model);
    println!("{found}");
    let (violation, story) = found.violation.expect("the fault does not show");
    assert_eq!((violation.invariant, story.len()), (7, 7));
}

#[test]
fn faults_of_the_writer_are_found() {
    use WriterFault::{NewerFirst, OneCopyOnly, RepairsBackwards};
    for (fault, invariant, length) in [
        (NewerFirst, 3, 2),
        (OneCopyOnly, 3, 1),
        (RepairsBackwards, 5, 1),
    ] {
        assert_eq!(
            story_of(None, Some(fault)),
            (invariant, length),
            "{fault:?}"
        );
    }
}
