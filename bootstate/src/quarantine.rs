//! Digests that must not be activated again.

use serde::{Deserialize, Serialize};

use crate::ident::Digest;
use crate::version::Version;

/// Entries the record has room for.
pub const CAPACITY: usize = 16;

/// Why a deployment is quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its health was judged bad.
    Condemned,
    /// It used up its tries without being blessed.
    TriesExhausted,
    /// It could not be mounted.
    ActivationFailed,
}

impl Cause {
    /// A few words for status.
    pub fn words(self) -> &'static str {
        match self {
            Self::Condemned => "judged unhealthy",
            Self::TriesExhausted => "used up its tries unblessed",
            Self::ActivationFailed => "could not be activated",
        }
    }
}

/// One quarantined digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// What is refused.
    pub digest: Digest,
    /// The name it had, for people.
    pub version: Version,
    /// Why.
    pub cause: Cause,
}

/// At most [`CAPACITY`] entries, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Quarantine(Vec<Entry>);

impl Quarantine {
    /// The entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Whether a digest is refused, and why.
    pub fn get(&self, digest: &Digest) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.digest == *digest)
    }

    /// Whether a digest is refused.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.get(digest).is_some()
    }

    /// Makes room for one more entry by dropping the oldest ones whose version
    /// is no longer in the store. `false`: none qualified, and nothing changed.
    #[must_use]
    pub fn make_room(&mut self, is_present: impl Fn(&Digest) -> bool) -> bool {
        while self.0.len() >= CAPACITY {
            let Some(index) = self.0.iter().position(|entry| !is_present(&entry.digest)) else {
                return false;
            };
            self.0.remove(index);
        }
        true
    }

    /// Takes a digest out, at the operator's explicit word.
    pub(crate) fn release(&mut self, digest: &Digest) {
        self.0.retain(|entry| entry.digest != *digest);
    }

    /// Adds an entry. Staging made room beforehand; should it be gone, the
    /// oldest entry yields, because early boot can refuse nothing.
    pub(crate) fn add(&mut self, entry: Entry) {
        if self.contains(&entry.digest) {
            return;
        }
        if self.0.len() >= CAPACITY {
            self.0.remove(0);
        }
        self.0.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u8) -> Entry {
        Entry {
            digest: Digest([n; 32]),
            version: format!("1.0.{n}").parse().unwrap(),
            cause: Cause::Condemned,
        }
    }

    #[test]
    fn evicts_only_absent_versions_oldest_first() {
        let mut quarantine = Quarantine::default();
        (0..16).for_each(|n| quarantine.add(entry(n)));
        let present = |digest: &Digest| digest.0[0] != 3 && digest.0[0] != 7;
        assert!(quarantine.make_room(present));
        assert!(!quarantine.contains(&Digest([3; 32])));
        assert!(quarantine.contains(&Digest([7; 32])));
    }

    #[test]
    fn full_of_present_versions_refuses() {
        let mut quarantine = Quarantine::default();
        (0..16).for_each(|n| quarantine.add(entry(n)));
        let before = quarantine.clone();
        assert!(!quarantine.make_room(|_| true));
        assert_eq!(quarantine, before);
    }

    #[test]
    fn never_grows_beyond_its_capacity() {
        let mut quarantine = Quarantine::default();
        (0..40).for_each(|n| quarantine.add(entry(n)));
        assert_eq!(quarantine.entries().len(), CAPACITY);
        assert!(quarantine.contains(&Digest([39; 32])));
    }
}
