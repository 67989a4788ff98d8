//! Streams made to do harm, received for real on a loop-mounted file system
//! with canaries around the area. Root only.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::large_stack_arrays,
    reason = "helpers of tests fail by panicking; tables are as long as they are"
)]

#[path = "../streams/build.rs"]
mod build;
mod cases;
mod endings;
mod honest;
mod memory;
mod random;
mod say;
mod world;

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use cases::{Case, Expect};
use op_dbus_sendstream::{Policy, StreamError, Summary, vet};
use world::{World, difference};

/// A receiver that waits for somebody else is caught, too.
fn watched(limit: Duration, what: &str, work: impl FnOnce()) {
    let (done, waiting) = mpsc::channel::<()>();
    let what = what.to_owned();
    let watch = std::thread::spawn(move || {
        if waiting.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("HANGS: {what}");
            std::process::exit(1);
        }
    });
    work();
    drop(done);
    watch.join().unwrap();
}

/// What is wrong with how a stream was judged, if anything.
fn judged(by: &str, result: Result<Summary, StreamError>, words: &[&str]) -> Option<String> {
    match result {
        Ok(_) => Some(format!("{by} accepts it")),
        Err(why) => {
            let text = why.to_string();
            let fits = words.iter().any(|words| text.contains(words));
            (!fits).then(|| format!("{by} says {text:?} instead of {words:?}"))
        }
    }
}

fn vetted(case: &Case) -> Option<String> {
    let result = vet(case.bytes.as_slice(), &case.policy);
    match (case.expect, result) {
        (Expect::Vet(words), result) => judged("vet", result, &[words]),
        (Expect::Apply(_), Ok(_)) => None,
        (Expect::Apply(_), Err(why)) => Some(format!("vet refuses what only apply can: {why}")),
    }
}

fn report(faults: &[String], count: usize) {
    println!(
        "{count} hostile streams, {} not as they should be",
        faults.len()
    );
    assert!(faults.is_empty(), "\n  {}", faults.join("\n  "));
}

#[test]
fn every_hostile_stream_is_refused_without_a_file_system() {
    let cases = cases::all("/nowhere");
    let rules: BTreeSet<_> = cases.iter().map(|case| &case.rule).collect();
    assert_eq!(rules.len(), cases.len(), "one stream for each rule");
    let faults: Vec<_> = cases
        .iter()
        .filter_map(|case| vetted(case).map(|fault| format!("{}: {fault}", case.rule)))
        .collect();
    report(&faults, cases.len());
}

/// Receives every hostile stream in the same area, one after the other.
fn receive_all(apply: impl Fn(&World, &Case) -> Result<Summary, StreamError>) {
    let Some(world) = World::new() else { return };
    let cases = cases::all(world.outside().to_str().unwrap());
    let before = world.listing();
    let mut faults = Vec::new();
    for case in &cases {
        let mut fault = |text: String| faults.push(format!("{}: {text}", case.rule));
        let words = match &case.expect {
            Expect::Vet(words) => std::slice::from_ref(words),
            Expect::Apply(words) => words,
        };
        watched(Duration::from_secs(60), &case.rule, || {
            if let Some(text) = judged("apply", apply(&world, case), words) {
                fault(text);
            }
        });
        let after = world.listing();
        if after != before {
            // Nothing after this can be told apart from it.
            fault(format!("CHANGED OUTSIDE: {}", difference(&before, &after)));
            break;
        }
        let left = world.left();
        if !left.is_empty() {
            fault(format!("leaves {left:?}"));
            world.clean();
        }
    }
    report(&faults, cases.len());
    let peak = memory::peak();
    assert!(peak < memory::LIMIT, "{peak} KiB");
}

#[test]
fn every_hostile_stream_is_refused_and_leaves_nothing() {
    receive_all(|world, case| world.apply(case.bytes.as_slice(), &case.policy, case.parent));
}

/// As where the kernel does not take compressed extents.
#[test]
fn every_hostile_stream_is_refused_when_decompressing() {
    receive_all(|world, case| {
        world.apply_decompressing(case.bytes.as_slice(), &case.policy, case.parent)
    });
}

/// Whatever a policy allows, nothing gets outside.
#[test]
fn with_everything_allowed_nothing_gets_outside() {
    let Some(world) = World::new() else { return };
    let cases = cases::all(world.outside().to_str().unwrap());
    let before = world.listing();
    for case in &cases {
        watched(Duration::from_secs(60), &case.rule, || {
            let _ = world.apply(case.bytes.as_slice(), &Policy::everything(), case.parent);
        });
        let after = world.listing();
        assert_eq!(difference(&before, &after), "", "{}", case.rule);
        world.clean();
    }
}
