//! The record's three files as the search keeps them, and a program's hands on them.

use std::cell::RefCell;

use op_dbus_bootstate::Record;
use op_dbus_bootstate::store::{Loaded, Reading, Verdict};

use crate::common::boot;
use crate::common::programs::Copies;
use crate::fate::Fate;
use crate::shape::{Records, Scope, Shape, THIS_BOOT, V};
use crate::writes::{Call, End, Left, Tables};

/// The sequence of the newer copy; the older has one less. What they are does not
/// matter: the next is one more than the highest.
pub const SEQUENCE: u64 = 11;

/// A valid copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held {
    pub shape: Shape,
    /// How often its trial has run since it was staged.
    pub runs: u8,
    /// Whether a reader may go by it: it is what was acknowledged last, or what
    /// somebody tried to write since.
    pub allowed: bool,
}

/// The three files. None: lost, whether absent, rotten or half written; no
/// program tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Medium {
    pub zero: Option<Held>,
    pub one: Option<Held>,
    /// Which of two valid copies is newer: -1 the first, 1 the second, 0 neither.
    pub newer: i8,
    /// What `record.blessed` holds. It is not read before both copies are lost, so
    /// it is not remembered before either: see `Model::kept`.
    pub blessed: Option<Shape>,
    /// Both copies rotted: what was acknowledged is lost, and nobody's fault.
    pub forgiven: bool,
}

impl Medium {
    /// As `prepare` leaves it: a record that names nothing.
    pub fn prepared(nothing: Shape) -> Self {
        let held = Some(Held {
            shape: nothing,
            runs: 0,
            allowed: true,
        });
        Self {
            zero: held,
            one: held,
            newer: 0,
            blessed: None,
            forgiven: false,
        }
    }

    pub fn sequences(&self) -> (u64, u64) {
        (
            SEQUENCE - u64::from(self.newer > 0),
            SEQUENCE - u64::from(self.newer < 0),
        )
    }

    pub fn held(&self) -> impl Iterator<Item = Held> {
        self.zero.into_iter().chain(self.one)
    }

    /// What a reader finds.
    pub fn loaded(&self, records: &mut Records, scope: &Scope) -> Loaded {
        let mut reading = |shape: Option<Shape>, sequence| {
            shape.map_or(Reading::Absent, |shape| {
                Reading::Valid(Box::new(records.get(scope, shape, sequence)))
            })
        };
        let (zero, one) = self.sequences();
        Loaded {
            zero: reading(self.zero.map(|held| held.shape), zero),
            one: reading(self.one.map(|held| held.shape), one),
            blessed: reading(self.blessed, 1),
        }
    }

    /// The copy a reader goes by; none when both are lost.
    pub fn current(&self) -> Option<Held> {
        match (self.zero, self.one) {
            (Some(zero), Some(one)) if self.newer == 0 => (zero.shape == one.shape).then_some(zero),
            (Some(zero), Some(one)) => Some(if self.newer < 0 { zero } else { one }),
            (zero, one) => zero.or(one),
        }
    }

    /// The shape of the record that counts, from wherever it comes.
    pub fn counts(&self) -> Option<Shape> {
        self.current().map(|held| held.shape).or(self.blessed)
    }

    /// One of the copies rots.
    pub fn rot(&self, first: bool) -> Self {
        let mut next = *self;
        *(if first { &mut next.zero } else { &mut next.one }) = None;
        next.newer = 0;
        next.forgiven |= next.current().is_none();
        next
    }

    /// A trial is activated: one run more in every copy that has counted it. One
    /// that was staged anew in a boot that has run it goes on under that boot's
    /// count: none of its own is taken yet.
    pub fn count_run(&mut self, version: V) {
        for held in [&mut self.zero, &mut self.one].into_iter().flatten() {
            if held.shape.has_counted(version) && held.shape.trial.is_some_and(|t| t.booted) {
                held.runs = held.runs.saturating_add(1);
            }
        }
    }

    pub fn aged(&self) -> Self {
        let aged = |held: Held| Held {
            shape: held.shape.aged(),
            ..held
        };
        Self {
            zero: self.zero.map(aged),
            one: self.one.map(aged),
            ..*self
        }
    }

    pub fn renumbered(&self, to: &[V]) -> Self {
        let new = |held: Held| Held {
            shape: held.shape.renumbered(to),
            ..held
        };
        Self {
            zero: self.zero.map(new),
            one: self.one.map(new),
            blessed: self.blessed.map(|shape| shape.renumbered(to)),
            ..*self
        }
    }

    /// Which copy is called the first makes no difference to anyone: the older is
    /// written first, whichever it is.
    pub fn mirrored(&self) -> Self {
        Self {
            zero: self.one,
            one: self.zero,
            newer: -self.newer,
            ..*self
        }
    }
}

/// What every play shares.
#[derive(Debug)]
pub struct Library {
    pub scope: Scope,
    /// Everything `record.blessed` may ever hold.
    pub kept: Vec<Shape>,
    pub records: RefCell<Records>,
    pub tables: RefCell<Tables>,
}

impl Library {
    pub fn new(scope: Scope, tables: Tables) -> Self {
        Self {
            kept: scope.kept(),
            scope,
            records: RefCell::default(),
            tables: RefCell::new(tables),
        }
    }

    pub fn shape(&self, record: &Record) -> Shape {
        Shape::of(record, boot(THIS_BOOT), self.scope.limits)
    }

    pub fn loaded(&self, medium: &Medium) -> Loaded {
        medium.loaded(&mut self.records.borrow_mut(), &self.scope)
    }
}

/// One program's hands on the medium.
#[derive(Debug)]
pub struct Hands<'a> {
    pub library: &'a Library,
    pub fate: &'a Fate,
    pub medium: &'a RefCell<Medium>,
    poisoned: bool,
}

impl<'a> Hands<'a> {
    pub fn new(library: &'a Library, fate: &'a Fate, medium: &'a RefCell<Medium>) -> Self {
        Self {
            library,
            fate,
            medium,
            poisoned: false,
        }
    }

    /// One call of the writer, ending in one of the ways it can.
    fn call(&mut self, call: Call, next: Shape) -> Result<(), String> {
        if self.poisoned || !self.fate.has_power() {
            return Err("poisoned".to_owned());
        }
        let mut medium = *self.medium.borrow();
        let runs = self.library.tables.borrow_mut().runs(
            &mut self.library.records.borrow_mut(),
            &self.library.scope,
            &medium,
            call,
            next,
        );
        let run = &runs[self.fate.choose(runs.len())];
        if let Some(fact) = run.fact {
            self.fate.note(fact);
        }
        if call == Call::KeepBlessed {
            let kept = &self.library.kept;
            assert!(kept.contains(&next.blessed()), "not foreseen: {next:?}");
        } else {
            medium.write(call, next, run.left);
            if run.end == End::Done {
                medium.acknowledge();
            }
        }
        *self.medium.borrow_mut() = medium;
        match run.end {
            End::Done => return Ok(()),
            End::Failed => self.poisoned = true,
            End::PowerGone => self.fate.cut_power(),
        }
        Err("the medium refused".to_owned())
    }
}

impl Medium {
    /// Takes what became of the two copies. A repair writes what the other one
    /// holds, a commit what is newer than both.
    fn write(&mut self, call: Call, next: Shape, left: [Left; 3]) {
        let before = self.current();
        let runs = match next.trial {
            Some(trial) if trial.booted => before
                .filter(|held| held.shape.trial.map(|t| t.version) == Some(trial.version))
                .map_or(0, |held| held.runs),
            _ => 0,
        };
        let written = Held {
            shape: next,
            runs,
            allowed: true,
        };
        let newer = match (left[0], left[1]) {
            (Left::Written, Left::Written) => 0,
            (Left::Written, _) | (_, Left::Written) if call == Call::Repair && before.is_some() => {
                0
            }
            (Left::Written, _) => -1,
            (_, Left::Written) => 1,
            _ => self.newer,
        };
        for (copy, left) in [(&mut self.zero, left[0]), (&mut self.one, left[1])] {
            match left {
                Left::Kept => {}
                Left::Written => *copy = Some(written),
                Left::Broken => *copy = None,
            }
        }
        if self.zero.is_some() || self.one.is_some() {
            self.blessed = None;
            self.forgiven = false;
        }
        self.newer = if self.zero.is_some() && self.one.is_some() {
            newer
        } else {
            0
        };
    }

    /// The writer said that it is done: nobody may go by anything else now.
    fn acknowledge(&mut self) {
        let now = self.current().map(|held| held.shape);
        self.forgiven = false;
        for copy in [&mut self.zero, &mut self.one].into_iter().flatten() {
            copy.allowed = Some(copy.shape) == now;
        }
    }
}

impl Copies for Hands<'_> {
    fn load(&mut self) -> Loaded {
        self.library.loaded(&self.medium.borrow())
    }

    fn commit(&mut self, _: Option<&Record>, next: Record) -> Result<Record, String> {
        self.call(Call::Commit, self.library.shape(&next))?;
        Ok(next)
    }

    fn repair(&mut self) -> Result<bool, String> {
        let found = self.load().verdict();
        let Some(record) = found.record() else {
            return Ok(false);
        };
        self.call(Call::Repair, self.library.shape(record))?;
        Ok(!matches!(found, Verdict::Intact(_)))
    }

    fn keep_blessed(&mut self, record: &Record) -> Result<(), String> {
        self.call(Call::KeepBlessed, self.library.shape(record))
    }
}
