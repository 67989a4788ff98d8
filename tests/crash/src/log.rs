//! What reached the disk, in the order it arrived.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::Image;

/// Where a story stands, by the number of its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The step's command is about to start.
    Begin(u32),
    /// The step's command ended and reported success.
    Acknowledged(u32),
}

/// One thing that reached the disk, or a mark between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Data for this offset in bytes. Both it and the length are multiples of a
    /// sector (512 bytes).
    Write {
        /// In bytes from the start of the disk.
        offset: u64,
        /// The content.
        data: Arc<[u8]>,
    },
    /// Whatever was written before this is on the medium now.
    Flush,
    /// Where the story stands.
    Mark(Mark),
}

/// What the programs had said at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// The last step that was acknowledged.
    pub acknowledged: Option<u32>,
    /// The step that had begun, and was not acknowledged.
    pub in_flight: Option<u32>,
}

/// A recording: what the disk held before, and all that came then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The disk before the first entry.
    pub base: Image,
    /// In the order of their arrival.
    pub entries: Vec<Entry>,
}

impl Log {
    /// Writes the log to one file.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Reads what [`Log::save`] wrote.
    pub fn load(path: &Path) -> io::Result<Self> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// What had begun and what was acknowledged when the first `position`
    /// entries had happened.
    pub fn step_at(&self, position: usize) -> Within {
        let mut within = Within::default();
        for entry in self.entries.iter().take(position) {
            match entry {
                Entry::Mark(Mark::Begin(step)) => within.in_flight = Some(*step),
                Entry::Mark(Mark::Acknowledged(step)) => {
                    within = Within {
                        acknowledged: Some(*step),
                        in_flight: None,
                    }
                }
                Entry::Write { .. } | Entry::Flush => {}
            }
        }
        within
    }
}
