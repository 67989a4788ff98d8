//! What the shipped [`Writer`] does to the three files, in every way a call of it
//! can end. It is run on real blocks; with [`Tables::remembering`] once for every
//! *situation* instead of once for every medium: which copies are valid, which is
//! newer, whether they are equal, and what is asked. It looks at nothing else, as
//! `the_writer_looks_at_nothing_but_the_situation` shows by running it on all of
//! a smaller world's media.

use std::collections::HashMap;
use std::rc::Rc;

use op_dbus_bootstate::codec::Block;
use op_dbus_bootstate::record::Record;
use op_dbus_bootstate::store::{Copy, Storage, Writer, load};

use crate::fate::{Fact, Slip};
use crate::medium::{Held, Medium, SEQUENCE};
use crate::shape::{Records, Scope, Shape};

/// What is asked of the writer.
#[derive(Debug, Clone, std::marker::Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Commit,
    Repair,
    KeepBlessed,
}

/// How the call ended.
#[derive(Debug, Clone, std::marker::Copy, PartialEq, Eq)]
pub enum End {
    /// It returned success.
    Done,
    /// It returned an error, and writes nothing more.
    Failed,
    /// It never returned.
    PowerGone,
}

/// What became of one file.
#[derive(Debug, Clone, std::marker::Copy, PartialEq, Eq)]
pub enum Left {
    Kept,
    Written,
    Broken,
}

/// One way a call can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub end: End,
    pub left: [Left; 3],
    pub fact: Option<Fact>,
}

/// A writer with a fault put in on purpose, to see the search find it.
#[derive(Debug, Clone, std::marker::Copy, PartialEq, Eq)]
pub enum WriterFault {
    /// Writes the newer copy first.
    NewerFirst,
    /// Reports success with one copy written.
    OneCopyOnly,
    /// Repairs the newer copy from the older.
    RepairsBackwards,
}

type Situation = (Call, bool, bool, i8, bool, bool);
type Whole = (Option<Shape>, Option<Shape>, Option<Shape>, Shape);

/// Runs by situation.
#[derive(Debug)]
pub struct Tables {
    known: HashMap<(Situation, Option<Whole>), Rc<[Run]>>,
    /// Whether the whole content is told apart, not only the situation.
    whole: bool,
    pub fault: Option<WriterFault>,
    /// How often the writer was really run.
    pub calls: u64,
}

impl Tables {
    pub fn remembering() -> Self {
        Self {
            known: HashMap::new(),
            whole: false,
            fault: None,
            calls: 0,
        }
    }

    /// Every content for real, which takes many times as long.
    pub fn of_whole_media() -> Self {
        Self {
            whole: true,
            ..Self::remembering()
        }
    }

    /// The ways a call can go; the first is the usual one.
    pub fn runs(
        &mut self,
        records: &mut Records,
        scope: &Scope,
        medium: &Medium,
        call: Call,
        next: Shape,
    ) -> Rc<[Run]> {
        let situation = (
            call,
            medium.zero.is_some(),
            medium.one.is_some(),
            medium.newer,
            medium.zero.map(|held| held.shape) == medium.one.map(|held| held.shape),
            medium.blessed.is_some(),
        );
        let shape = |held: Option<Held>| held.map(|held| held.shape);
        let whole = (shape(medium.zero), shape(medium.one), medium.blessed, next);
        let key = (situation, self.whole.then_some(whole));
        if let Some(runs) = self.known.get(&key) {
            return Rc::clone(runs);
        }
        let mut files = Files::of(records, scope, medium);
        let next = records.get(scope, next, SEQUENCE);
        let mut runs = vec![files.run(call, &next, None)];
        self.calls += 1;
        let writes = std::mem::take(&mut files.written);
        for (nth, &copy) in writes.iter().enumerate() {
            for slip in [
                Slip::PowerBefore,
                Slip::PowerWithin,
                Slip::Refused,
                Slip::Persisted,
            ] {
                let mut files = Files::of(records, scope, medium);
                let run = Run {
                    fact: Some(Fact::Slip {
                        call,
                        nth: u8::try_from(nth).unwrap(),
                        copy,
                        slip,
                    }),
                    ..files.run(call, &next, Some((nth, slip)))
                };
                self.calls += 1;
                assert_eq!(
                    files.written.len(),
                    nth + 1,
                    "a write after one that failed: {run:?}"
                );
                runs.push(run);
            }
        }
        if let Some(fault) = self.fault {
            fault.spoil(call, medium, &mut runs);
        }
        let runs: Rc<[Run]> = runs.into();
        self.known.insert(key, Rc::clone(&runs));
        runs
    }
}

impl WriterFault {
    /// The same runs, as a writer with this fault would have them.
    fn spoil(self, call: Call, medium: &Medium, runs: &mut [Run]) {
        match self {
            // The order is the only difference: the copies change places. Where
            // the real one has no choice (equal copies) neither has this.
            Self::NewerFirst if call == Call::Commit => {
                for run in runs {
                    run.left.swap(0, 1);
                    if let Some(Fact::Slip { copy, .. }) = &mut run.fact {
                        *copy = match copy {
                            Copy::Zero => Copy::One,
                            Copy::One => Copy::Zero,
                            Copy::Blessed => Copy::Blessed,
                        };
                    }
                }
            }
            Self::OneCopyOnly if call == Call::Commit => {
                let first = runs.iter().find_map(|run| match run.fact {
                    Some(Fact::Slip { copy, nth: 0, .. }) => Some(copy),
                    _ => None,
                });
                for run in runs.iter_mut().filter(|run| run.end == End::Done) {
                    match first {
                        Some(Copy::Zero) => run.left[1] = Left::Kept,
                        _ => run.left[0] = Left::Kept,
                    }
                }
            }
            Self::RepairsBackwards if call == Call::Repair && medium.newer != 0 => {
                for run in runs {
                    run.left.swap(0, 1);
                }
            }
            _ => {}
        }
    }
}

/// Three files in memory, and one slip to come.
struct Files {
    copies: [Option<Vec<u8>>; 3],
    slip: Option<(usize, Slip)>,
    written: Vec<Copy>,
    left: [Left; 3],
}

impl Files {
    fn of(records: &mut Records, scope: &Scope, medium: &Medium) -> Self {
        let mut block = |shape, sequence| Some(records.block(scope, shape, sequence).to_vec());
        let (zero, one) = medium.sequences();
        Self {
            copies: [
                medium.zero.and_then(|held| block(held.shape, zero)),
                medium.one.and_then(|held| block(held.shape, one)),
                medium.blessed.and_then(|shape| block(shape, 1)),
            ],
            slip: None,
            written: Vec::new(),
            left: [Left::Kept; 3],
        }
    }

    fn run(&mut self, call: Call, next: &Record, slip: Option<(usize, Slip)>) -> Run {
        self.slip = slip;
        let base = load(&mut &mut *self).verdict().record().cloned();
        let mut writer = Writer::new(&mut *self);
        let outcome = match call {
            Call::Commit => writer.commit(base.as_ref(), next.clone()).map(|_| ()),
            Call::Repair => writer.repair().map(|_| ()),
            Call::KeepBlessed => writer.keep_blessed(next),
        };
        let end = match (&outcome, slip) {
            (Ok(()), None) => End::Done,
            (Err(_), Some((_, Slip::PowerBefore | Slip::PowerWithin))) => End::PowerGone,
            (Err(_), Some(_)) => End::Failed,
            other => panic!("{call:?}: {other:?}"),
        };
        if slip.is_some() {
            // Poisoned: whatever else it is asked for, nothing is written.
            writer.repair().unwrap_err();
            writer.commit(base.as_ref(), next.clone()).unwrap_err();
            writer.keep_blessed(next).unwrap_err();
        }
        Run {
            end,
            left: self.left,
            fact: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("refused")]
struct Refused;

impl Storage for &mut Files {
    type Error = Refused;

    fn read(&mut self, copy: Copy) -> Result<Option<Vec<u8>>, Refused> {
        Ok(self.copies[copy as usize].clone())
    }

    fn write(&mut self, copy: Copy, block: &Block) -> Result<(), Refused> {
        let nth = self.written.len();
        self.written.push(copy);
        let slip = self.slip.filter(|&(at, _)| at == nth).map(|(_, slip)| slip);
        let (left, content) = match slip {
            None | Some(Slip::Persisted) => (Left::Written, Some(block.to_vec())),
            Some(Slip::PowerWithin) => (Left::Broken, None),
            Some(Slip::PowerBefore | Slip::Refused) => {
                return Err(Refused);
            }
        };
        self.left[copy as usize] = left;
        self.copies[copy as usize] = content;
        match slip {
            None => Ok(()),
            Some(_) => Err(Refused),
        }
    }
}
