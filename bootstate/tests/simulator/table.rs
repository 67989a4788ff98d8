//! How many errors were put in, by act and kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::acts::Act;
use crate::disk::{Call, Error};

#[derive(Debug, Default)]
pub struct Table {
    cells: BTreeMap<(String, &'static str), u64>,
}

impl Table {
    pub fn count(&mut self, act: Act, call: Call, error: Error) {
        let kind = match call {
            Call::Read(_) => "read",
            Call::Write(_) => "write",
        };
        *self
            .cells
            .entry((format!("{act:?}, {kind}"), error.word()))
            .or_default() += 1;
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: BTreeSet<_> = self.cells.keys().map(|(_, word)| *word).collect();
        let rows: BTreeSet<_> = self.cells.keys().map(|(row, _)| row.clone()).collect();
        write!(f, "{:24}", "")?;
        for word in &words {
            write!(f, "{word:>19}")?;
        }
        for row in rows {
            write!(f, "\n{row:24}")?;
            for word in &words {
                let count = self.cells.get(&(row.clone(), word)).copied().unwrap_or(0);
                write!(f, "{count:>19}")?;
            }
        }
        write!(f, "\n{} errors", self.cells.values().sum::<u64>())
    }
}
