//! How far a run of cuts has come: all that is needed to go on, or to see a
//! violation again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use crate::chance::Chance;
use crate::error::{Context, Error, Result};
use crate::powercut::Tally;

/// The version every device starts with.
pub const FIRST: &str = "v1.0.0";

/// The cut that the next boot recovers from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Its number in the run, from 1.
    pub number: u32,
    /// Requests of the boot's log that came before it.
    pub position: usize,
    /// What was under way.
    pub during: String,
}

/// What must hold of the audit log and the record beyond the facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtLeast {
    /// Lines of the audit log.
    pub lines: u64,
    /// Sequence of the record.
    pub sequence: u64,
}

/// Something that must hold and does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// After which cut.
    pub cut: u32,
    /// What was under way then.
    pub during: String,
    /// What was found.
    pub what: String,
    /// How it is seen again.
    pub command: String,
}

/// What was done so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Boots, with those that no cut ended.
    pub boots: u32,
    /// Cuts by what was under way.
    pub during: BTreeMap<String, u32>,
    /// Cuts that came when it was acknowledged already.
    pub acknowledged: u32,
    /// Boots whose choice was of this role (or none: rescue).
    pub roles: BTreeMap<String, u32>,
    /// Requests at the cuts.
    pub requests: Requests,
    /// Seconds, all processes of the run together.
    pub seconds: f64,
}

/// [`Tally`], added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Durable at the cut.
    pub durable: usize,
    /// Not durable, and kept.
    pub kept: usize,
    /// Kept in part.
    pub torn: usize,
    /// Lost.
    pub lost: usize,
}

impl Requests {
    /// Adds one cut's.
    pub fn add(&mut self, tally: Tally) {
        self.durable += tally.durable;
        self.kept += tally.kept;
        self.torn += tally.torn;
        self.lost += tally.lost;
    }
}

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Kernel of the guest: a Debian suite.
    pub suite: String,
    /// Directory with the machine: kernel, initramfs, disks. A run that is resumed
    /// has the programs and the releases that it began with.
    #[serde(default)]
    pub machine: PathBuf,
    /// The seed.
    pub seed: u64,
    /// Whether the disk ignores flushes: then nothing can hold, and a run that
    /// finds no violation is blind.
    #[serde(default)]
    pub lying_disk: bool,
    /// Cuts made.
    pub made: u32,
    /// The last one; none: the device is a new one.
    pub cut: Option<Cut>,
    /// Cuts this device has been through.
    pub age: u32,
    /// What may be the case on its disk.
    pub possible: Vec<Facts>,
    /// What else must hold.
    pub at_least: AtLeast,
    /// How many requests each kind of deed makes.
    pub typical: BTreeMap<String, usize>,
    /// What was done.
    pub totals: Totals,
    /// What was found.
    pub violations: Vec<Violation>,
}

impl State {
    /// A run that begins.
    pub fn new(suite: &str, seed: u64) -> Self {
        Self {
            suite: suite.to_owned(),
            machine: PathBuf::new(),
            seed,
            lying_disk: false,
            made: 0,
            cut: None,
            age: 0,
            possible: vec![Facts::begin(FIRST)],
            at_least: AtLeast::default(),
            typical: BTreeMap::new(),
            totals: Totals::default(),
            violations: Vec::new(),
        }
    }

    /// The next boot is one of a new device.
    pub fn new_device(&mut self) {
        self.cut = None;
        self.age = 0;
        self.possible = vec![Facts::begin(FIRST)];
        self.at_least = AtLeast::default();
    }

    /// The choices for one purpose at cut `number`.
    pub fn chance(&self, number: u32, purpose: Purpose) -> Chance {
        Chance::new(self.seed, u64::from(number) * 4 + purpose as u64)
    }

    /// What was done, for people.
    pub fn summary(&self) -> String {
        let totals = &self.totals;
        let list = |counts: &BTreeMap<String, u32>| {
            let words: Vec<String> = counts
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            words.join(", ")
        };
        let Requests {
            durable,
            kept,
            torn,
            lost,
        } = totals.requests;
        format!(
            "{} cuts of {} with seed {}, {} boots, {:.0} s: {} violations\n\
             during {}; {} of them when it was acknowledged\n\
             then ran {}\n\
             of requests at the cut, {durable} were durable, {kept} kept, {torn} torn, {lost} lost",
            self.made,
            self.suite,
            self.seed,
            totals.boots,
            totals.seconds,
            self.violations.len(),
            list(&totals.during),
            totals.acknowledged,
            list(&totals.roles),
        )
    }

    /// Reads the file `path`.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).at("read", path)?;
        serde_json::from_str(&text)
            .map_err(|why| Error::Host(format!("{} is no state of cuts: {why}", path.display())))
    }

    /// Writes it to `directory`, whole or not at all.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let path = file(directory);
        let fresh = path.with_extension("new");
        let text = serde_json::to_vec_pretty(self)
            .map_err(std::io::Error::from)
            .at("write", &path)?;
        fs::write(&fresh, text).at("write", &fresh)?;
        fs::rename(&fresh, &path).at("replace", &path)
    }
}

/// The state's file in the directory of a run.
pub fn file(directory: &Path) -> PathBuf {
    directory.join("state.json")
}

/// What choices are for: each purpose draws from a stream of its own.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// What the device does.
    Story = 0,
    /// Where the cut falls.
    Place = 1,
    /// What the disk keeps.
    Disk = 2,
}
