//! Each rule by an example, and over any input that nothing needed ever goes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::ident::{BootId, Identity, Uuid};
use crate::quarantine::{Cause, Entry};
use crate::record::{Deployment, LastBoot, Origin, Reason as BootReason, Slot, Trial};

/// Names whose order by semver is not that of their text.
const NAMES: [&str; 8] = [
    "v1.9.0",
    "v1.10.0",
    "v1.8.0",
    "v2.0.0-rc.1",
    "v2.0.0",
    "v1.0.0",
    "1.0.0",
    "v3.0.0",
];

fn version(index: usize) -> Version {
    NAMES[index].parse().unwrap()
}

fn digest(index: usize) -> Digest {
    Digest([u8::try_from(index).unwrap() + 1; 32])
}

fn candidate(index: usize, condition: Condition) -> Candidate {
    Candidate {
        version: version(index),
        digest: Some(digest(index)),
        condition,
    }
}

fn whole(indexes: impl IntoIterator<Item = usize>) -> Vec<Candidate> {
    let candidate = |index| candidate(index, Condition::Whole);
    indexes.into_iter().map(candidate).collect()
}

fn deployment(index: usize) -> Deployment {
    Deployment {
        version: version(index),
        digest: digest(index),
        identity: Identity {
            uuid: Uuid([1; 16]),
            received_uuid: Uuid([2; 16]),
            ctransid: 1,
            rtransid: 1,
        },
        epoch: 0,
    }
}

fn trial(index: usize) -> Trial {
    Trial {
        deployment: deployment(index),
        tries_left: 3,
        refunds_left: 3,
        attempts: 0,
        origin: Origin::Stage,
    }
}

fn booted(index: usize) -> LastBoot {
    LastBoot {
        boot_id: BootId([1; 16]),
        choice: Choice::Deployment {
            slot: Slot::Named,
            digest: digest(index),
        },
        reason: BootReason::CommandLine,
        after_rescue: false,
        refunded: false,
        verdict: None,
    }
}

fn quarantine(record: &mut Record, index: usize) {
    record.quarantine.add(Entry {
        digest: digest(index),
        version: version(index),
        cause: Cause::Condemned,
    });
}

/// Everything a decision is made of.
#[derive(Debug, Clone)]
struct World {
    candidates: Vec<Candidate>,
    record: Option<Record>,
    blessed: Option<Record>,
    running: Option<Running>,
    mounted: BTreeSet<Version>,
    pinned: BTreeSet<Version>,
    parents: BTreeSet<Version>,
    keep: usize,
}

impl World {
    fn new(candidates: Vec<Candidate>, keep: usize) -> Self {
        Self {
            candidates,
            record: Some(Record::default()),
            blessed: None,
            running: None,
            mounted: BTreeSet::new(),
            pinned: BTreeSet::new(),
            parents: BTreeSet::new(),
            keep,
        }
    }

    fn record(&mut self) -> &mut Record {
        self.record.as_mut().unwrap()
    }

    fn decide(&self) -> Vec<Decision> {
        let needs = Needs {
            record: self.record.as_ref(),
            blessed: self.blessed.as_ref(),
            running: self.running.as_ref(),
            mounted: &self.mounted,
            pinned: &self.pinned,
            parents: &self.parents,
            keep: NonZeroUsize::new(self.keep).unwrap(),
        };
        decide(&self.candidates, &needs)
    }

    /// The names that go, in their order.
    fn gone(&self) -> Vec<String> {
        removals(&self.decide())
            .into_iter()
            .map(|one| one.candidate.version.to_string())
            .collect()
    }

    fn kept(&self, index: usize) -> Vec<Reason> {
        let decisions = self.decide();
        let mut found = decisions
            .into_iter()
            .filter(|one| one.candidate.version == version(index));
        found.next().unwrap().kept
    }
}

#[test]
fn the_newest_by_semver_stay() {
    let mut world = World::new(whole(0..5), 3);
    assert_eq!(world.gone(), ["v1.8.0", "v1.9.0"], "the oldest first");
    world.keep = 1;
    assert_eq!(world.gone().len(), 4);
    world.keep = 5;
    assert_eq!(world.gone(), [""; 0]);
    assert_eq!(World::new(Vec::new(), 1).gone(), [""; 0]);
}

#[test]
fn what_the_record_names_stays_by_name_and_by_content() {
    let mut world = World::new(whole(0..5), 1);
    world.record().good = Some(deployment(0));
    world.record().fallback = Some(deployment(2));
    world.record().trial = Some(trial(1));
    assert_eq!(world.gone(), ["v2.0.0-rc.1"]);
    assert_eq!(world.kept(0), [Reason::Good]);
    assert_eq!(world.kept(1), [Reason::Trial]);
    assert_eq!(world.kept(2), [Reason::Fallback]);

    // The same name with a receipt that is lost, and the same content elsewhere.
    world.candidates[0].digest = None;
    world.candidates[3].digest = Some(digest(0));
    assert_eq!(world.gone(), [""; 0]);
}

#[test]
fn what_runs_is_mounted_pinned_or_built_on_stays() {
    let mut world = World::new(whole(0..6), 1);
    world.running = Some(Running {
        version: Some(version(0)),
        digest: None,
    });
    world.mounted.insert(version(1));
    world.pinned.insert(version(2));
    // Its boot was counted; `activation.json` is lost.
    world.record().last_boot = Some(booted(3));
    world.parents.insert(version(5));
    assert_eq!(world.gone(), [""; 0]);
    assert_eq!(world.kept(5), [Reason::Parent]);
    assert_eq!(world.kept(0), [Reason::Running]);
    assert_eq!(world.kept(1), [Reason::Mounted]);
    assert_eq!(world.kept(2), [Reason::Pinned]);
    assert_eq!(world.kept(3), [Reason::Running]);
}

/// A power cut between bless and its copy leaves a copy that is one bless old. A
/// device that then loses the other two boots by it.
#[test]
fn what_the_record_of_the_last_bless_names_stays() {
    let mut world = World::new(whole(0..5), 1);
    world.record().good = Some(deployment(4));
    world.blessed = Some(Record {
        good: Some(deployment(0)),
        fallback: Some(deployment(2)),
        trial: Some(trial(1)),
        ..Record::default()
    });
    assert_eq!(world.gone(), ["v1.10.0", "v2.0.0-rc.1"]);
    assert_eq!(world.kept(0), [Reason::LastBless]);
}

#[test]
fn nothing_goes_while_the_record_is_in_doubt() {
    let mut world = World::new(whole(0..5), 1);
    world.record = None;
    assert_eq!(world.gone(), [""; 0]);
    assert_eq!(world.kept(0), [Reason::RecordInDoubt]);
}

#[test]
fn what_is_of_no_use_goes_first_and_takes_no_place() {
    let mut world = World::new(whole(0..5), 2);
    world.candidates[3].condition = Condition::Unusable;
    world.candidates.push(candidate(7, Condition::Remains));
    quarantine(world.record(), 4);
    assert_eq!(
        world.gone(),
        ["v2.0.0-rc.1", "v2.0.0", "v3.0.0", "v1.8.0"],
        "v1.10.0 and v1.9.0 are the newest that are of use"
    );
    assert!(
        world
            .decide()
            .iter()
            .any(|one| one.quarantined && one.goes())
    );
    // Needed all the same.
    world.record().good = Some(deployment(7));
    world.pinned.insert(version(4));
    assert_eq!(world.gone(), ["v2.0.0-rc.1", "v1.8.0"]);
}

#[test]
fn what_is_not_ours_or_does_not_tell_stays() {
    let mut world = World::new(whole(0..5), 1);
    world.candidates[0].condition = Condition::Foreign;
    world.candidates[1].condition = Condition::Unreadable;
    assert_eq!(world.gone(), ["v1.8.0", "v2.0.0-rc.1"]);
}

#[test]
fn every_reason_is_told() {
    let mut world = World::new(whole([0]), 1);
    world.record().good = Some(deployment(0));
    world.pinned.insert(version(0));
    let decisions = world.decide();
    assert_eq!(decisions[0].words(), "good, pinned, one of the newest");
}

/// What a trial left when it ended in disorder: until it proved itself after all.
#[test]
fn a_discarded_overlay_goes_once_its_version_was_blessed() {
    let may_go = |record: &Record, asked| discarded_may_go(record, &whole([0])[0], asked);
    let mut record = Record {
        trial: Some(trial(0)),
        good: Some(deployment(1)),
        ..Record::default()
    };
    assert!(!may_go(&record, true), "on trial");
    record.trial = None;
    assert!(!may_go(&record, true), "taken back, or not good enough");
    record.good = Some(deployment(0));
    assert!(may_go(&record, true));
    assert!(
        !may_go(&record, false),
        "nobody could have looked at it yet"
    );
    record.fallback = Some(deployment(0));
    record.good = Some(deployment(1));
    assert!(may_go(&record, true) && may_go(&record, false));
    // On trial once more, as a rollback.
    record.trial = Some(trial(0));
    assert!(!may_go(&record, true));
    // Another content of that name.
    record.trial = None;
    record.fallback.as_mut().unwrap().digest = digest(5);
    assert!(!may_go(&record, true));
}

fn index() -> impl Strategy<Value = usize> {
    0..NAMES.len()
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        6 => Just(Condition::Whole),
        1 => Just(Condition::Unusable),
        1 => Just(Condition::Remains),
        1 => Just(Condition::Foreign),
        1 => Just(Condition::Unreadable),
    ]
}

prop_compose! {
    /// Digests are drawn apart from names, so that contents are shared and
    /// receipts belie the record.
    fn candidates()(
        found in proptest::collection::vec((condition(), proptest::option::of(index())), NAMES.len()),
        order in Just((0..NAMES.len()).collect::<Vec<_>>()).prop_shuffle(),
        count in 0..=NAMES.len(),
    ) -> Vec<Candidate> {
        order.into_iter().take(count).map(|at| Candidate {
            version: version(at),
            digest: found[at].1.map(digest),
            condition: found[at].0,
        }).collect()
    }
}

prop_compose! {
    fn record()(
        good in proptest::option::of(index()),
        fallback in proptest::option::of(index()),
        tried in proptest::option::of(index()),
        last in proptest::option::of(index()),
        bad in proptest::collection::vec(index(), 0..4),
    ) -> Record {
        let mut record = Record {
            good: good.map(deployment),
            fallback: fallback.map(deployment),
            trial: tried.map(trial),
            last_boot: last.map(booted),
            ..Record::default()
        };
        for index in bad {
            quarantine(&mut record, index);
        }
        record
    }
}

prop_compose! {
    fn world()(
        candidates in candidates(),
        record in proptest::option::weighted(0.9, record()),
        blessed in proptest::option::of(record()),
        running in proptest::option::of((proptest::option::of(index()), proptest::option::of(index()))),
        mounted in proptest::collection::vec(index(), 0..3),
        pinned in proptest::collection::vec(index(), 0..3),
        parents in proptest::collection::vec(index(), 0..3),
        keep in 1..=NAMES.len() + 1,
    ) -> World {
        World {
            candidates,
            record,
            blessed,
            running: running.map(|(name, content)| Running {
                version: name.map(version),
                digest: content.map(digest),
            }),
            mounted: mounted.into_iter().map(version).collect(),
            pinned: pinned.into_iter().map(version).collect(),
            parents: parents.into_iter().map(version).collect(),
            keep,
        }
    }
}

/// Whether anything at all speaks for a version, written down once more and
/// otherwise than in the code.
fn is_needed(world: &World, candidate: &Candidate) -> bool {
    let Some(record) = &world.record else {
        return true;
    };
    let listed = [&world.mounted, &world.pinned, &world.parents];
    let mut names: Vec<&Version> = listed.into_iter().flatten().collect();
    let mut contents: Vec<Digest> = Vec::new();
    let trial = record.trial.as_ref().map(|trial| &trial.deployment);
    let blessed = world.blessed.as_ref();
    for held in [
        record.good.as_ref(),
        record.fallback.as_ref(),
        trial,
        blessed.and_then(|blessed| blessed.good.as_ref()),
        blessed.and_then(|blessed| blessed.fallback.as_ref()),
    ]
    .into_iter()
    .flatten()
    {
        names.push(&held.version);
        contents.push(held.digest);
    }
    if let Some(running) = &world.running {
        names.extend(running.version.as_ref());
        contents.extend(running.digest);
    }
    if let Some(LastBoot {
        choice: Choice::Deployment { digest, .. },
        ..
    }) = &record.last_boot
    {
        contents.push(*digest);
    }
    let by_content = candidate
        .digest
        .is_some_and(|digest| contents.contains(&digest));
    by_content || names.contains(&&candidate.version)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn nothing_that_is_needed_goes_whatever_the_store_looks_like(world in world()) {
        for one in world.decide() {
            let ours = matches!(
                one.candidate.condition,
                Condition::Whole | Condition::Unusable | Condition::Remains
            );
            if is_needed(&world, &one.candidate) || !ours {
                prop_assert!(!one.goes(), "{:?}", one);
            }
        }
    }

    #[test]
    fn the_newest_of_use_stay_and_no_more_than_is_needed(world in world()) {
        let decisions = world.decide();
        prop_assert_eq!(decisions.len(), world.candidates.len());
        let of_use: Vec<_> = decisions
            .iter()
            .filter(|one| one.candidate.condition == Condition::Whole && !one.quarantined)
            .collect();
        for (place, one) in of_use.iter().enumerate() {
            let is_new = one.kept.contains(&Reason::Newest);
            prop_assert_eq!(is_new, place < world.keep, "{:?}", one);
        }
        for one in &decisions {
            // Whatever stays has a reason that holds.
            let ours = !matches!(one.candidate.condition, Condition::Foreign | Condition::Unreadable);
            if !one.goes() && ours && !one.kept.contains(&Reason::Newest) {
                prop_assert!(is_needed(&world, &one.candidate), "{:?}", one);
            }
        }
    }

    #[test]
    fn a_second_run_finds_nothing_more(world in world()) {
        let gone: Vec<_> = removals(&world.decide())
            .into_iter()
            .map(|one| one.candidate.version.clone())
            .collect();
        // After any part of the first: it may have been cut short.
        for done in 0..=gone.len() {
            let mut next = world.clone();
            next.candidates.retain(|one| !gone[..done].contains(&one.version));
            let left: Vec<_> = removals(&next.decide())
                .into_iter()
                .map(|one| one.candidate.version.clone())
                .collect();
            prop_assert_eq!(&left, &gone[done..]);
        }
    }

    #[test]
    fn the_order_they_are_found_in_does_not_matter(world in world(), seed in 0..8_usize) {
        let mut other = world.clone();
        let middle = seed.min(other.candidates.len());
        other.candidates.rotate_left(middle);
        prop_assert_eq!(world.gone(), other.gone());
    }

    #[test]
    fn a_pin_more_or_a_larger_number_never_deletes_more(world in world(), pin in index()) {
        let gone = world.gone();
        let mut more = world.clone();
        more.keep += 1;
        prop_assert!(more.gone().iter().all(|name| gone.contains(name)));
        let mut pinned = world.clone();
        pinned.pinned.insert(version(pin));
        let expected: Vec<_> = gone.into_iter().filter(|name| *name != NAMES[pin]).collect();
        prop_assert_eq!(pinned.gone(), expected);
    }
}
