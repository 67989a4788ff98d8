use super::*;
use crate::example::deployment;
use op_dbus_bootstate::Digest;
use op_dbus_bootstate::cmdline::Select;
use op_dbus_bootstate::record::{Choice, Limits, Origin, Trial};
use proptest::prelude::*;

/// How one version fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Altered,
    Unmountable,
    HostBroken,
}

/// A medium and a host with faults, which checks the order of things.
struct Faulty {
    fates: [Fate; 3],
    /// Commits that still succeed.
    commits: usize,
    medium: Record,
    boot_id: BootId,
    running: Option<(Slot, Digest)>,
    checked: Option<Digest>,
}

impl World for Faulty {
    fn check(&mut self, _: Slot, deployment: &Deployment) -> Result<(), Unfit> {
        assert_eq!(self.running, None, "nothing is tried beside what runs");
        self.checked = Some(deployment.digest);
        match self.fates[usize::from(deployment.digest.0[0])] {
            Fate::Altered => Err(Unfit::Candidate(Outcome::Altered, "altered".to_owned())),
            _ => Ok(()),
        }
    }

    fn commit(&mut self, base: &Record, next: Record) -> Result<Record, String> {
        assert_eq!(*base, self.medium, "decided on what stands on the medium");
        self.commits = self.commits.checked_sub(1).ok_or("medium")?;
        self.medium = next;
        Ok(self.medium.clone())
    }

    fn activate(&mut self, _: &Record, slot: Slot, deployment: &Deployment) -> Result<(), Unfit> {
        assert_eq!(self.checked, Some(deployment.digest), "never unchecked");
        if slot == Slot::Trial {
            let counted = self.medium.counted_boot(self.boot_id).unwrap();
            let choice = Choice::Deployment {
                slot,
                digest: deployment.digest,
            };
            assert_eq!(counted.choice, choice, "a trial never runs uncounted");
        }
        let fate = self.fates[usize::from(deployment.digest.0[0])];
        assert_ne!(fate, Fate::Altered, "never what is not what was published");
        match fate {
            Fate::Unmountable => Err(Unfit::Candidate(
                Outcome::ActivationFailed,
                "unmountable".to_owned(),
            )),
            Fate::HostBroken => Err(Unfit::Host("host".to_owned())),
            _ => {
                self.running = Some((slot, deployment.digest));
                Ok(())
            }
        }
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Fine),
        2 => Just(Fate::Altered),
        2 => Just(Fate::Unmountable),
        1 => Just(Fate::HostBroken),
    ]
}

fn select() -> impl Strategy<Value = Option<Select>> {
    prop_oneof![
        6 => Just(None),
        1 => Just(Some(Select::Good)),
        1 => Just(Some(Select::Fallback)),
        1 => Just(Some(Select::None)),
        1 => Just(Some(Select::Version("v2.0.0".parse().unwrap()))),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    (any::<[bool; 3]>(), 0..4_u8, 0..8_u8).prop_map(|(present, tries_left, good_unblessed)| {
        Record {
            fallback: present[0].then(|| deployment(0)),
            good: present[1].then(|| deployment(1)),
            trial: present[2].then(|| Trial {
                deployment: deployment(2),
                tries_left,
                refunds_left: 3,
                attempts: 3 - tries_left,
                origin: Origin::Stage,
            }),
            good_unblessed,
            ..Record::default()
        }
    })
}

proptest! {
    #[test]
    fn whatever_fails_the_order_is_kept_and_it_ends(
        fates in any::<()>().prop_flat_map(|()| [fate(), fate(), fate()]),
        commits in 0..6_usize,
        record in record(),
        choice in select(),
        durable in any::<bool>(),
    ) {
        let boot_id = BootId([9; 16]);
        let named = deployment(2);
        let mut world = Faulty {
            fates,
            commits,
            medium: record.clone(),
            boot_id,
            running: None,
            checked: None,
        };
        let chosen = choose(
            Question {
                record: record.clone(),
                boot_id,
                select: choice.as_ref(),
                named: Some(&named),
                limits: Limits::default(),
                not_durable: (!durable).then(|| "read-only".to_owned()),
            },
            &mut world,
        );
        prop_assert_eq!(&chosen.record, &world.medium);
        if chosen.host.is_none() {
            let reported = chosen.selection.candidate.map(|(slot, found)| (slot, found.digest));
            prop_assert_eq!(reported, world.running, "the report tells what runs");
        } else {
            prop_assert_eq!(world.running, None);
        }
        if choice.is_some() {
            prop_assert_eq!(&world.medium, &record, "an operator's choice is not counted");
        }
        let good_usable = fates[1] == Fate::Fine && record.good.is_some();
        let by_record = choice.is_none() && record.good_unblessed < 5;
        if by_record && good_usable && chosen.host.is_none() {
            prop_assert!(world.running.is_some(), "an intact good is never passed over for rescue");
        }
        // Asked again in the same boot, nothing more is counted.
        if chosen.host.is_none() && chosen.selection.counted && chosen.failures.is_empty() {
            let before = world.medium.clone();
            world.running = None;
            world.commits = 9;
            choose(
                Question {
                    record: before.clone(),
                    boot_id,
                    select: None,
                    named: None,
                    limits: Limits::default(),
                    not_durable: None,
                },
                &mut world,
            );
            prop_assert_eq!(world.medium, before);
        }
    }
}
