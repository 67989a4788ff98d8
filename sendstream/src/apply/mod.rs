//! Does what a stream says, as `btrfs receive` does, without trusting it.
//!
//! Memory: the walker's one command (64 KiB in version 1, else 192 KiB), content
//! on its way into a file (1 MiB), one decompressed extent and the decompressor's
//! window (128 KiB each), and 64 open directories with their paths (at most 4 KiB
//! each): under 2 MiB, whatever the stream.
//!
//! What ends differently than with `btrfs receive`, and why:
//! - An entry that the next command moves is made where it is moved to; where it
//!   would inherit something there, it is not.
//! - A directory's times are set when it is let go of, so they end as they were
//!   sent also where the stream makes entries afterwards. `btrfs receive` leaves
//!   the root of a full stream with the time of the receiving.
//! - A file is never made over one that is there, a device never opened, and a
//!   symlink's mode never changed.
//! - Compressed data that cannot be decompressed is refused instead of written.

mod create;
pub(crate) mod decode;
mod extents;
mod file;
mod meta;
mod steps;
mod subvolume;
mod tree;

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::BorrowedFd;

use self::steps::Applier;
use self::subvolume::Subvolume;
use self::tree::Tree;
use crate::error::{Problem, StreamError};
use crate::pass::{Begin, Pass, Summary};
use crate::policy::Policy;

/// A stream whose first command has been read. Nothing has been written yet.
#[derive(Debug)]
pub struct Incoming<R> {
    pass: Pass<R>,
    direct: bool,
}

/// Where a stream is received.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// A directory on Btrfs that nobody else can write to.
    pub area: BorrowedFd<'a>,
    /// Name of the new subvolume in it; the stream's own name decides nothing.
    pub name: &'a OsStr,
    /// The subvolume an incremental stream builds on: the one that was the
    /// sender's parent, or what was received of it. That its content is still
    /// that one is for the caller to make sure.
    pub parent: Option<BorrowedFd<'a>>,
}

impl<R: Read> Incoming<R> {
    /// Reads the header and the first command.
    pub fn open(source: R, policy: &Policy) -> Result<Self, StreamError> {
        Ok(Self {
            pass: Pass::open(source, policy)?,
            direct: true,
        })
    }

    /// What the stream is about.
    pub fn begin(&self) -> &Begin {
        self.pass.begin()
    }

    /// Decompresses what was sent compressed instead of offering it to the
    /// kernel as it is, like `btrfs receive --force-decompress`.
    #[must_use]
    pub fn decompressing(mut self) -> Self {
        self.direct = false;
        self
    }

    /// Receives the stream into a new subvolume, which ends up read-only and
    /// with the received UUID set. Not durable before the caller syncs the file
    /// system. On an error nothing is left of the subvolume.
    ///
    /// Paths are resolved beneath the subvolume by `openat2(2)` (Linux 5.6),
    /// extended attributes of what is neither file nor directory are set
    /// through `/proc`; needs `CAP_SYS_ADMIN`.
    pub fn apply(self, destination: &Destination<'_>) -> Result<Summary, StreamError> {
        let begin = self.pass.begin().clone();
        let early = |problem| self.pass.error(problem);
        let parent = match (&begin.parent, destination.parent) {
            (None, _) => None,
            (Some(wanted), Some(parent)) => {
                subvolume::is_parent(parent, wanted).map_err(early)?;
                Some(parent)
            }
            (Some(_), None) => return Err(early(Problem::NoParent)),
        };
        let subvolume = Subvolume::create(destination, parent).map_err(early)?;
        let tree = subvolume.open().map_err(early)?;
        let parent = parent.map(subvolume::reopen).transpose().map_err(early)?;
        let mut applier = Applier::new(
            Tree::new(tree),
            parent.map(Tree::new),
            begin.uuid,
            self.direct,
        );
        let ended = self.pass.run(|frame| applier.command(&frame.parsed))?;
        applier
            .finish()
            .and_then(|()| subvolume.finish(&begin))
            .map_err(|problem| ended.walker.error(problem, 0))?;
        Ok(ended.summary)
    }
}
