//! What a power cut can leave, and which of all that is looked at.

use std::fmt;
use std::str::FromStr;

use crate::{Image, Log};

/// What became of the writes that no flush had covered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// All of them are on the medium.
    Prefix,
    /// Some are, by this seed.
    Subset(u64),
    /// Some are, and at least one of these only with some of its sectors.
    Torn(u64),
}

/// A power cut, and what it left. Written as `1234:prefix`, `1234:subset:77` or
/// `1234:torn:78`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    /// How many entries of the log had happened.
    pub position: usize,
    /// What was left of the last of them.
    pub kind: Kind,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Prefix => write!(f, "{}:prefix", self.position),
            Kind::Subset(seed) => write!(f, "{}:subset:{seed}", self.position),
            Kind::Torn(seed) => write!(f, "{}:torn:{seed}", self.position),
        }
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "{text}: no state; write POSITION:prefix, POSITION:subset:SEED or POSITION:torn:SEED"
            )
        };
        let mut parts = text.split(':');
        let position = parts
            .next()
            .and_then(|part| part.parse().ok())
            .ok_or_else(refuse)?;
        let kind = parts.next().ok_or_else(refuse)?;
        let mut seed = || {
            parts
                .next()
                .and_then(|part| part.parse().ok())
                .ok_or_else(refuse)
        };
        let kind = match kind {
            "prefix" => Kind::Prefix,
            "subset" => Kind::Subset(seed()?),
            "torn" => Kind::Torn(seed()?),
            _ => return Err(refuse()),
        };
        match parts.next() {
            None => Ok(Self { position, kind }),
            Some(_) => Err(refuse()),
        }
    }
}

impl State {
    /// What the disk holds after this power cut. None where the log is shorter.
    pub fn image(&self, log: &Log) -> Option<Image> {
        let _ = log;
        None
    }
}

/// At most `count` different states, always the same ones for a log and a seed,
/// in the order of their positions.
pub fn enumerate(log: &Log, seed: u64, count: usize) -> Vec<State> {
    let _ = (log, seed, count);
    Vec::new()
}
