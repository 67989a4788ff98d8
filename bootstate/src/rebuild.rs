//! A record from what is left when all three copies are lost: the newest version
//! that has run before, by the audit log, and is still intact.

use crate::audit::{Kind, Line};
use crate::ident::Digest;
use crate::record::{Deployment, Record};

/// Versions a rebuild looks at. More than a store keeps by far.
const MAX_CANDIDATES: usize = 64;

/// Reads the log forward and keeps which digests proved themselves, in order.
#[derive(Debug, Clone, Default)]
pub struct History {
    blessed: Vec<Digest>,
}

impl History {
    /// Takes the next line. Lines need not verify: what they name is checked
    /// against the store, and a log in doubt is better than no version at all.
    pub fn line(&mut self, line: &Line) {
        let Some(digest) = line.digest else { return };
        match line.event {
            Kind::Blessed | Kind::Restored | Kind::Rotated => {
                self.blessed.retain(|known| *known != digest);
                if self.blessed.len() >= MAX_CANDIDATES {
                    self.blessed.remove(0);
                }
                self.blessed.push(digest);
            }
            Kind::Condemned => self.blessed.retain(|known| *known != digest),
            _ => {}
        }
    }

    /// Digests that proved themselves and were not condemned since, the last first.
    pub fn candidates(&self) -> impl Iterator<Item = Digest> {
        self.blessed.iter().rev().copied()
    }

    /// A fresh record whose good is the last blessed deployment that is intact,
    /// and whose fallback is the one before it.
    pub fn rebuild(&self, intact: impl Fn(&Digest) -> Option<Deployment>) -> Option<Record> {
        let mut found = self.candidates().filter_map(|digest| intact(&digest));
        let good = found.next()?;
        Some(Record {
            epoch_floor: good.epoch,
            fallback: found.next(),
            good: Some(good),
            ..Record::default()
        })
    }
}
