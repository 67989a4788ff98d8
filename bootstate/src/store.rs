//! The record's redundant store: two copies, and the one kept since the last bless.
//!
//! Reading, deciding and repairing are apart: [`load`] reads all three copies,
//! [`Loaded::verdict`] says what they amount to, and only [`Writer`] writes. A
//! read-only tool shares the first two.

use crate::codec::{self, Block, CodecError};
use crate::record::Record;

/// One of the three files that hold a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Copy {
    /// `record.0`
    Zero,
    /// `record.1`
    One,
    /// `record.blessed`, rewritten after each bless.
    Blessed,
}

impl Copy {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Zero, Self::One, Self::Blessed];

    /// Its file name in the store's `boot/` directory.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Zero => "record.0",
            Self::One => "record.1",
            Self::Blessed => "record.blessed",
        }
    }
}

/// The medium.
pub trait Storage {
    /// What can go wrong with it.
    type Error: std::error::Error;

    /// Reads a copy from the medium, not from a cache. `None`: it does not exist.
    fn read(&mut self, copy: Copy) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Overwrites a copy in place; when it returns, the new content survives a power cut.
    fn write(&mut self, copy: Copy, block: &Block) -> Result<(), Self::Error>;
}

/// One copy as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// A record.
    Valid(Box<Record>),
    /// No such file.
    Absent,
    /// A file that is no record.
    Bad(CodecError),
    /// The medium refused, in its own words.
    Unreadable(String),
}

impl Reading {
    fn record(&self) -> Option<&Record> {
        match self {
            Self::Valid(record) => Some(record),
            _ => None,
        }
    }

    fn newer_format(&self) -> Option<u32> {
        match self {
            Self::Bad(CodecError::NewerFormat(format)) => Some(*format),
            _ => None,
        }
    }
}

/// All three copies as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// `record.0`
    pub zero: Reading,
    /// `record.1`
    pub one: Reading,
    /// `record.blessed`
    pub blessed: Reading,
}

/// What the copies amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Both copies agree.
    Intact(Box<Record>),
    /// One copy is older (a crash between the two writes); the newer one counts.
    Stale(Box<Record>, Copy),
    /// One copy is lost; the other counts.
    OneCopy(Box<Record>, Copy),
    /// Both are lost; this is the one of the last bless, without trial and counts.
    Rebuilt(Box<Record>),
    /// All three are lost.
    Lost,
    /// A newer release wrote a format this program does not read. Nothing may be
    /// written; what is readable of older formats is given for an uncounted boot.
    NewerFormat(u32, Option<Box<Record>>),
}

impl Verdict {
    /// The record to go by, if there is one.
    pub fn record(&self) -> Option<&Record> {
        match self {
            Self::Intact(record)
            | Self::Stale(record, _)
            | Self::OneCopy(record, _)
            | Self::Rebuilt(record) => Some(record),
            Self::NewerFormat(_, record) => record.as_deref(),
            Self::Lost => None,
        }
    }

    /// A word for `activation.json` and status.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Intact(_) => "intact",
            Self::Stale(..) => "stale-copy",
            Self::OneCopy(..) => "one-copy",
            Self::Rebuilt(_) => "rebuilt-blessed",
            Self::Lost => "missing",
            Self::NewerFormat(..) => "newer-format",
        }
    }
}

fn read_copy(storage: &mut impl Storage, copy: Copy) -> Reading {
    match storage.read(copy) {
        Ok(None) => Reading::Absent,
        Ok(Some(bytes)) => match codec::decode(&bytes) {
            Ok(record) => Reading::Valid(Box::new(record)),
            Err(why) => Reading::Bad(why),
        },
        Err(why) => Reading::Unreadable(why.to_string()),
    }
}

/// Reads all three copies. Never fails: what can't be read is part of the answer.
pub fn load(storage: &mut impl Storage) -> Loaded {
    Loaded {
        zero: read_copy(storage, Copy::Zero),
        one: read_copy(storage, Copy::One),
        blessed: read_copy(storage, Copy::Blessed),
    }
}

impl Loaded {
    /// Decides what the copies amount to.
    pub fn verdict(&self) -> Verdict {
        if let Some(format) = self.zero.newer_format().or(self.one.newer_format()) {
            let readable = self
                .zero
                .record()
                .or(self.one.record())
                .or(self.blessed.record());
            return Verdict::NewerFormat(format, readable.cloned().map(Box::new));
        }
        match (&self.zero, &self.one) {
            (Reading::Valid(zero), Reading::Valid(one)) => {
                if zero.sequence > one.sequence {
                    Verdict::Stale(zero.clone(), Copy::One)
                } else if one.sequence > zero.sequence {
                    Verdict::Stale(one.clone(), Copy::Zero)
                } else if zero == one {
                    Verdict::Intact(zero.clone())
                } else {
                    // Two histories: neither can be told to be the acknowledged one.
                    self.without_copies()
                }
            }
            (Reading::Valid(zero), _) => Verdict::OneCopy(zero.clone(), Copy::One),
            (_, Reading::Valid(one)) => Verdict::OneCopy(one.clone(), Copy::Zero),
            _ => self.without_copies(),
        }
    }

    fn without_copies(&self) -> Verdict {
        match (&self.blessed, self.blessed.newer_format()) {
            (Reading::Valid(record), _) => {
                let mut record = record.clone();
                record.trial = None;
                record.good_unblessed = 0;
                record.fallback_unblessed = 0;
                record.escalation = crate::record::Escalation::None;
                record.last_boot = None;
                Verdict::Rebuilt(record)
            }
            (_, Some(format)) => Verdict::NewerFormat(format, None),
            _ => Verdict::Lost,
        }
    }

    /// Which of the two copies is to be written first: the one whose loss would
    /// cost least, so that the best one stands until the new one is durable.
    fn first_to_write(&self) -> [Copy; 2] {
        match (self.zero.record(), self.one.record()) {
            (Some(zero), Some(one)) if one.sequence < zero.sequence => [Copy::One, Copy::Zero],
            (Some(_), None) => [Copy::One, Copy::Zero],
            _ => [Copy::Zero, Copy::One],
        }
    }

    /// Why nothing is known of the two copies, where the medium is to blame for it.
    fn unreadable<E: std::error::Error>(&self) -> Option<CommitError<E>> {
        match (&self.zero, &self.one) {
            (Reading::Valid(_), _) | (_, Reading::Valid(_)) => None,
            (Reading::Unreadable(why), _) => Some((Copy::Zero, why)),
            (_, Reading::Unreadable(why)) => Some((Copy::One, why)),
            _ => None,
        }
        .map(|(copy, why)| CommitError::Unreadable {
            copy,
            why: why.clone(),
        })
    }

    fn highest_sequence(&self) -> u64 {
        [&self.zero, &self.one, &self.blessed]
            .into_iter()
            .filter_map(|reading| reading.record().map(|record| record.sequence))
            .max()
            .unwrap_or(0)
    }
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum CommitError<E: std::error::Error> {
    /// The medium refused. The write may nevertheless persist, so this writer
    /// writes nothing more.
    #[error("{}: {error}", copy.file_name())]
    Medium {
        /// Which copy.
        copy: Copy,
        /// The medium's own error.
        error: E,
    },
    /// An earlier write of this process failed.
    #[error("an earlier write of the boot record failed; nothing more is written in this boot")]
    Poisoned,
    /// Somebody else wrote between reading and writing.
    #[error("the boot record changed while this program was deciding; run the command again")]
    Conflict,
    /// Nothing can be read back of what was decided upon.
    #[error("the boot record can't be read back: {}: {why}; look at the store's disk", copy.file_name())]
    Unreadable {
        /// A copy that can't be read.
        copy: Copy,
        /// The medium's own error.
        why: String,
    },
    /// A newer release owns the record.
    #[error(
        "the boot record has format {0}, newer than this program writes; use the newer release's program"
    )]
    NewerFormat(u32),
    /// The record can't be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// The only one who writes records.
#[derive(Debug)]
pub struct Writer<S> {
    storage: S,
    poisoned: bool,
}

impl<S: Storage> Writer<S> {
    /// A writer onto a medium.
    pub fn new(storage: S) -> Self {
        Self {
            storage,
            poisoned: false,
        }
    }

    /// Reads all three copies.
    pub fn load(&mut self) -> Loaded {
        load(&mut self.storage)
    }

    /// Replaces the record that was decided upon (`base`; `None`: there was none)
    /// by its successor: both copies, the older first, each durable before the
    /// next. Returns the record as written, with its new sequence.
    pub fn commit(
        &mut self,
        base: Option<&Record>,
        next: Record,
    ) -> Result<Record, CommitError<S::Error>> {
        self.check_poison()?;
        let loaded = self.load();
        let verdict = loaded.verdict();
        if let Verdict::NewerFormat(format, _) = verdict {
            return Err(CommitError::NewerFormat(format));
        }
        if verdict.record() != base {
            return Err(loaded.unreadable().unwrap_or(CommitError::Conflict));
        }
        let next = Record {
            sequence: loaded.highest_sequence().saturating_add(1),
            ..next
        };
        let block = codec::encode(&next)?;
        for copy in loaded.first_to_write() {
            self.write(copy, &block)?;
        }
        Ok(next)
    }

    /// Brings a stale or lost copy up to the one that counts, or both up to a
    /// rebuilt record. Returns whether anything had to be written.
    pub fn repair(&mut self) -> Result<bool, CommitError<S::Error>> {
        self.check_poison()?;
        match self.load().verdict() {
            Verdict::Intact(_) | Verdict::Lost => Ok(false),
            Verdict::Stale(record, copy) | Verdict::OneCopy(record, copy) => {
                self.write(copy, &codec::encode(&record)?)?;
                Ok(true)
            }
            Verdict::Rebuilt(record) => {
                self.commit(Some(&record), (*record).clone())?;
                Ok(true)
            }
            Verdict::NewerFormat(format, _) => Err(CommitError::NewerFormat(format)),
        }
    }

    /// Keeps a record as the one of the last bless. Called after its commit.
    pub fn keep_blessed(&mut self, record: &Record) -> Result<(), CommitError<S::Error>> {
        self.check_poison()?;
        self.write(Copy::Blessed, &codec::encode(record)?)
    }

    fn check_poison(&self) -> Result<(), CommitError<S::Error>> {
        if self.poisoned {
            Err(CommitError::Poisoned)
        } else {
            Ok(())
        }
    }

    fn write(&mut self, copy: Copy, block: &Block) -> Result<(), CommitError<S::Error>> {
        self.storage.write(copy, block).map_err(|error| {
            self.poisoned = true;
            CommitError::Medium { copy, error }
        })
    }
}
