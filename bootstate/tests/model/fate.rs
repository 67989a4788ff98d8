//! What is not the programs' to decide: where power goes, what the medium
//! refuses, which version is bad. A play asks; the search answers every question
//! in every way, a long story by the dice.

use std::cell::{Cell, RefCell};

use op_dbus_bootstate::store::Copy;

use crate::shape::V;
use crate::writes::Call;

/// Something that went otherwise than usual, for the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    Slip {
        call: Call,
        nth: u8,
        copy: Copy,
        slip: Slip,
    },
    Health(V, Health),
    LogFailed,
    StillMounted,
    /// Both copies are lost; `record.blessed` names these.
    Kept(Option<V>, Option<V>),
    Rebuilt(Option<V>, Option<V>),
    /// What keeps a version from being pruned, besides the record.
    Keeper(Keeper),
    Pruned(V),
    /// Power goes before prune is done.
    PruneCut,
}

/// Who needs a version besides the record and the running boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    Nobody,
    Pin(V),
    Mount(V),
    /// `record.blessed`, with its good and its fallback.
    Blessed(Option<V>, Option<V>),
}

/// What becomes of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slip {
    /// Power goes before it.
    PowerBefore,
    /// Power goes in its middle.
    PowerWithin,
    /// It is reported as failed, and did not happen.
    Refused,
    /// It is reported as failed, and happened all the same.
    Persisted,
}

/// What a boot finds of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Its subvolume is missing or altered.
    Gone,
    /// Its subvolume can't be read.
    Unreadable,
    /// It is counted, and then can't be mounted.
    Unmountable,
    /// It is counted, and then something of the host fails.
    HostFails,
}

#[derive(Debug, Default)]
pub struct Fate {
    script: RefCell<Vec<(u16, u16)>>,
    at: Cell<usize>,
    facts: RefCell<Vec<Fact>>,
    power_gone: Cell<bool>,
}

impl Fate {
    /// One that answers 0, the usual, to whatever the numbers given do not answer.
    pub fn of(numbers: &[u16]) -> Self {
        Self {
            script: RefCell::new(numbers.iter().map(|&number| (number, 0)).collect()),
            ..Self::default()
        }
    }

    /// One of `count` ways to go on; 0 is the usual one. Without power there is
    /// nothing to ask.
    pub fn choose(&self, count: usize) -> usize {
        if self.power_gone.get() || count < 2 {
            return 0;
        }
        let count = u16::try_from(count).unwrap();
        let at = self.at.get();
        self.at.set(at + 1);
        let mut script = self.script.borrow_mut();
        if at == script.len() {
            script.push((0, count));
        }
        let (answer, of) = &mut script[at];
        *of = count;
        *answer %= count;
        usize::from(*answer)
    }

    pub fn note(&self, fact: Fact) {
        self.facts.borrow_mut().push(fact);
    }

    pub fn facts(&self) -> Vec<Fact> {
        self.facts.borrow().clone()
    }

    pub fn cut_power(&self) {
        self.power_gone.set(true);
    }

    pub fn has_power(&self) -> bool {
        !self.power_gone.get()
    }

    /// Whether a given answer was left unused: the dice had more to say.
    pub fn answers(&self) -> Vec<u16> {
        let script = self.script.borrow();
        script[..self.at.get()].iter().map(|&(n, _)| n).collect()
    }

    /// Moves on to the next way all questions can be answered. `false`: that was all.
    pub fn next(&mut self) -> bool {
        let script = self.script.get_mut();
        script.truncate(self.at.get());
        self.at.set(0);
        self.facts.get_mut().clear();
        self.power_gone.set(false);
        while let Some((answer, count)) = script.pop() {
            if answer + 1 < count {
                script.push((answer + 1, count));
                return true;
            }
        }
        false
    }
}
