//! The same events over larger limits: long stories, told by the dice.

use op_dbus_bootstate::record::Limits;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::check::Violation;
use crate::fate::Fate;
use crate::liveness::Liveness;
use crate::medium::Library;
use crate::play::{Device, Model, Op};
use crate::shape::Scope;
use crate::words::Words;
use crate::writes::Tables;

fn model() -> Model {
    let scope = Scope {
        limits: Limits {
            tries: 3,
            refunds: 3,
            good_boots: 5,
        },
        epochs: vec![0, 0, 1, 1, 2],
    };
    Model::new(Library::new(scope, Tables::remembering()), None)
}

/// Which of the possible events, and how its questions are answered. Most of the
/// time all goes as usual, or no story would get anywhere.
fn step() -> impl Strategy<Value = (prop::sample::Index, Vec<u16>)> {
    let answers = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(prop_oneof![2 => Just(0), 1 => any::<u16>()], 1..8),
    ];
    (any::<prop::sample::Index>(), answers)
}

/// Plays on; the device after it, and the line for the story.
fn play(
    model: &Model,
    device: &Device,
    (pick, answers): &(prop::sample::Index, Vec<u16>),
) -> (String, Result<Device, Violation>) {
    let allowed: Vec<Op> = model
        .ops
        .iter()
        .copied()
        .filter(|&op| model.allows(device, op))
        .collect();
    let op = *pick.get(&allowed);
    let fate = Fate::of(answers);
    let next = model.play(device, op, &fate);
    let names: Vec<_> = model.library.scope.versions().collect();
    let words = Words::new(&model.library.scope, &names);
    (words.told(op, &fate.facts(), next.as_ref().ok()), next)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/model/long.regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn long_stories_with_the_shipped_limits_keep_the_invariants(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let model = model();
        let mut liveness = Liveness::default();
        let mut device = model.start();
        let mut story = Vec::new();
        for (nth, step) in steps.iter().enumerate() {
            let (line, next) = play(&model, &device, step);
            story.push(format!("{:3}. {line}", nth + 1));
            let checked = next.and_then(|next| {
                liveness.recovery(&model.library, &next.medium)?;
                if nth % 16 == 0 && !next.up {
                    liveness.check(&model.library, &next.medium)?;
                }
                Ok(next)
            });
            match checked {
                Ok(next) => device = next,
                Err(why) => return Err(TestCaseError::fail(format!("{why}\n{}", story.join("\n")))),
            }
        }
    }
}
