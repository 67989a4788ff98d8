//! What `shape` leaves out makes no difference: long stories are played on whole
//! records, and every event of them once more on records made from nothing but the
//! shapes. Both must answer the same, and leave records of the same shapes.

use op_dbus_activator::choose::Unfit;
use op_dbus_bootstate::cmdline::Select;
use op_dbus_bootstate::codec;
use op_dbus_bootstate::record::{Limits, Outcome};
use op_dbus_bootstate::store::{Copy, Writer, load};
use op_dbus_bootstate::transition::Running;
use op_dbus_bootstate::{Deployment, Record, Slot};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::common::programs::{self, Answer, Host, Logged, Plan};
use crate::common::{Fault, Medium, boot};
use crate::medium::SEQUENCE;
use crate::play::{How, Op, command};
use crate::shape::{Records, RunShape, Scope, Shape, THIS_BOOT, V, number};

fn scope() -> impl Strategy<Value = Scope> {
    (1_u8..=3, 0_u8..=3, 1_u8..=5).prop_map(|(tries, refunds, good_boots)| Scope {
        limits: Limits {
            tries,
            refunds,
            good_boots,
        },
        epochs: vec![0, 0, 1, 2],
    })
}

/// One event, and what it meets.
#[derive(Debug, Clone)]
struct Event {
    pick: prop::sample::Index,
    /// Of each version: 0 well, 1 missing, 2 can't be mounted, 3 the host fails.
    health: [u8; 4],
    /// What one of the writes does.
    fault: Option<(usize, Fault)>,
    log: bool,
    /// Whom the audit log names.
    history: Option<V>,
}

fn event() -> impl Strategy<Value = Event> {
    let health = prop_oneof![
        8 => prop::array::uniform4(prop_oneof![12 => Just(0), 1 => 1_u8..4]),
        1 => Just([1; 4]),
    ];
    let fault = (
        0_usize..4,
        prop_oneof![
            Just(Fault::Lost),
            Just(Fault::Torn(512)),
            Just(Fault::Refused),
            Just(Fault::FailedButPersisted),
        ],
    );
    (
        any::<prop::sample::Index>(),
        health,
        prop::option::weighted(0.2, fault),
        prop::bool::weighted(0.9),
        prop::option::of(0_u8..4),
    )
        .prop_map(|(pick, health, fault, log, history)| Event {
            pick,
            health,
            fault,
            log,
            history,
        })
}

/// The device around the record: the same for both.
struct Around<'a> {
    scope: &'a Scope,
    event: &'a Event,
    /// Whether anything was to be logged. A record of a shape has a boot attempt
    /// waiting; where the whole one has none, nothing is logged.
    has_logged: Option<bool>,
    logged: bool,
}

impl Host for Around<'_> {
    fn check(&mut self, deployment: &Deployment) -> Result<(), Unfit> {
        match self.event.health[usize::from(number(&deployment.digest))] {
            1 => Err(Unfit::Candidate(Outcome::Missing, String::new())),
            _ => Ok(()),
        }
    }

    fn activate(&mut self, _: Slot, deployment: &Deployment) -> Result<(), Unfit> {
        match self.event.health[usize::from(number(&deployment.digest))] {
            2 => Err(Unfit::Candidate(Outcome::ActivationFailed, String::new())),
            3 => Err(Unfit::Host(String::new())),
            _ => Ok(()),
        }
    }

    fn rebuild(&mut self) -> Option<Record> {
        let good = self.event.history?;
        Some(Record {
            good: Some(self.scope.deployment(good)),
            ..Record::default()
        })
    }

    fn log(&mut self, _: bool) -> Logged {
        self.logged = true;
        match self.has_logged {
            // An attempt of the shape's own making.
            Some(false) => Logged::Nothing,
            _ if self.event.log => Logged::Written,
            _ => Logged::Failed,
        }
    }
}

/// A device with whole records, or with those of shapes.
#[derive(Debug, Clone)]
struct Device {
    medium: Medium,
    /// The number of this boot.
    now: u8,
    running: Option<Running>,
}

/// What can be told of it by shapes.
type Told = ([Option<Shape>; 3], i8, Option<RunShape>);

impl Device {
    fn told(&self, scope: &Scope) -> Told {
        let read = |copy: Copy| {
            let bytes = self.medium.copies[copy as usize].as_ref()?;
            codec::decode(bytes).ok()
        };
        let shape = |record: &Record| Shape::of(record, boot(self.now), scope.limits);
        let (zero, one) = (read(Copy::Zero), read(Copy::One));
        let newer = match (&zero, &one) {
            (Some(zero), Some(one)) => one.sequence.cmp(&zero.sequence) as i8,
            _ => 0,
        };
        // As in `medium`: of no account while there is a copy. Whether a bless
        // writes it anew may hang on causes and order in the quarantine.
        let is_lost = zero.is_none() && one.is_none();
        let blessed = read(Copy::Blessed).filter(|_| is_lost);
        let blessed = blessed.map(|record| shape(&record).blessed());
        (
            [zero.as_ref().map(shape), one.as_ref().map(shape), blessed],
            newer,
            self.running.as_ref().map(RunShape::of),
        )
    }

    /// The same device, of nothing but its shapes.
    fn of_shapes(&self, scope: &Scope, records: &mut Records) -> Self {
        let ([zero, one, blessed], newer, running) = self.told(scope);
        let mut block = |shape: Option<Shape>, sequence: u64| {
            shape.map(|shape| records.block(scope, shape, sequence).to_vec())
        };
        Self {
            medium: Medium {
                copies: [
                    block(zero, SEQUENCE - u64::from(newer > 0)),
                    block(one, SEQUENCE - u64::from(newer < 0)),
                    block(blessed, 1),
                ],
                ..Medium::default()
            },
            now: THIS_BOOT,
            running: running.map(|run| run.running(scope)),
        }
    }

    /// Lets a program run; what it answered, in a form that can be compared.
    fn play(&mut self, around: &mut Around<'_>, op: Op) -> String {
        let (scope, running) = (around.scope, self.running.take());
        self.medium.fault.clone_from(&around.event.fault);
        let mut writer = Writer::new(&mut self.medium);
        let answer = match op {
            Op::Boot(how) | Op::AskAgain(how) => {
                let plan = plan(scope, how, self.now);
                self.running = programs::boot(&mut writer, around, &plan);
                String::new()
            }
            _ => {
                let command = command(scope, op);
                let answer = programs::command(
                    &mut writer,
                    around,
                    &command,
                    running.as_ref(),
                    scope.limits,
                );
                self.running = running;
                match answer {
                    Answer::Failed(_) => "failed".to_owned(),
                    // In brackets: the cause of a quarantine, which is for people.
                    Answer::Refused(why) => why.split(" (").take(1).collect(),
                    other @ Answer::Done(_) => format!("{other:?}"),
                }
            }
        };
        self.medium.fault = None;
        self.medium.writes.clear();
        // Else a second torn write might complete what a first one left, in one of
        // the two only. No program tells a broken file from a missing one.
        for copy in &mut self.medium.copies {
            *copy = copy.take().filter(|bytes| codec::decode(bytes).is_ok());
        }
        answer
    }
}

fn plan(scope: &Scope, how: How, now: u8) -> Plan {
    let named = match how {
        How::Version(version) => Some(scope.deployment(version)),
        _ => None,
    };
    Plan {
        boot_id: boot(now),
        select: match how {
            How::Usual | How::ReadOnly => None,
            How::Good => Some(Select::Good),
            How::Fallback => Some(Select::Fallback),
            How::Nothing => Some(Select::None),
            How::Version(version) => Some(Select::Version(scope.deployment(version).version)),
        },
        named,
        limits: scope.limits,
        read_only: how == How::ReadOnly,
    }
}

/// The events of a device that is on, or off; booting and judging more often than
/// by chance, or no version would ever get to be good.
fn choices(scope: &Scope, up: bool, runs: bool) -> Vec<Op> {
    let usual = Op::Boot(How::Usual);
    let mut ops = Op::all(scope.versions());
    ops.retain(|op| match op {
        Op::Boot(_) => !up,
        Op::Rot { .. } => true,
        Op::Bless | Op::Condemn | Op::OrderlyShutdown => runs,
        Op::Prune | Op::Receive(_) => false,
        _ => up,
    });
    if up {
        ops.extend([Op::Down; 20]);
        ops.push(Op::AskAgain(How::Usual));
    } else {
        ops.extend([usual; 30]);
    }
    if runs {
        ops.extend([Op::Bless; 4]);
        ops.extend([Op::Condemn, Op::OrderlyShutdown]);
    }
    ops
}

/// Plays one event on both, and compares.
fn step(scope: &Scope, device: &mut Device, up: &mut bool, event: &Event) -> Result<Op, String> {
    let op = *event
        .pick
        .get(&choices(scope, *up, device.running.is_some()));
    match op {
        Op::Down => {
            *up = false;
            device.running = None;
            return Ok(op);
        }
        Op::Rot { first } => {
            device.medium.copies[usize::from(!first)] = None;
            return Ok(op);
        }
        Op::Boot(_) => {
            *up = true;
            // Not that of a boot some record may remember.
            device.now = device.now % 250 + 1;
        }
        _ => {}
    }
    let mut records = Records::default();
    let mut shapes = device.of_shapes(scope, &mut records);
    if shapes.told(scope) != device.told(scope) {
        return Err(format!("{op:?}: a record of a shape has another"));
    }
    let mut around = Around {
        scope,
        event,
        has_logged: None,
        logged: false,
    };
    let whole = device.play(&mut around, op);
    let mut around = Around {
        has_logged: Some(around.logged),
        ..around
    };
    let reduced = shapes.play(&mut around, op);
    if whole != reduced {
        return Err(format!("{op:?}: {whole}, by shapes {reduced}"));
    }
    let (whole, reduced) = (device.told(scope), shapes.told(scope));
    if whole != reduced {
        let verdict = load(&mut &mut device.medium).verdict();
        return Err(format!(
            "{op:?}: {whole:#?}\nby shapes {reduced:#?}\n{verdict:?}"
        ));
    }
    Ok(op)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/model/abstraction.regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whole_records_and_shapes_behave_the_same(
        scope in scope(),
        events in prop::collection::vec(event(), 1..200),
    ) {
        let mut device = Device {
            medium: Medium::holding(&Record::default()),
            now: 0,
            running: None,
        };
        let mut up = false;
        let mut story = Vec::new();
        for event in &events {
            match step(&scope, &mut device, &mut up, event) {
                Ok(op) => story.push(format!("{op:?}")),
                Err(why) => return Err(TestCaseError::fail(format!("{}\n{event:?}\n{why}", story.join("\n")))),
            }
        }
    }
}
