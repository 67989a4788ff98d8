//! One pass over a stream: one subvolume, its commands within the policy, END,
//! and nothing after it.

use std::io::Read;

use crate::attrs::Parsed;
use crate::error::{Problem, StreamError};
use crate::policy::{self, Policy, Sources};
use crate::walk::{Frame, Walker};
use crate::wire::{Attr, Command};

/// The subvolume an incremental stream builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its UUID, or the one it was itself received from.
    pub uuid: [u8; 16],
    /// Its transaction at sending.
    pub ctransid: u64,
}

/// The first command: what the stream is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Stream version.
    pub version: u32,
    /// Name of the subvolume that was sent.
    pub name: String,
    /// Its UUID, which becomes the received UUID.
    pub uuid: [u8; 16],
    /// Its transaction at sending.
    pub ctransid: u64,
    /// What it builds on; none is a full stream.
    pub parent: Option<Parent>,
}

/// What a whole stream held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Stream version.
    pub version: u32,
    /// Name of the subvolume that was sent.
    pub name: String,
    /// Its UUID, which becomes the received UUID.
    pub uuid: [u8; 16],
    /// Its transaction at sending.
    pub ctransid: u64,
    /// What it builds on; none is a full stream.
    pub parent: Option<Parent>,
    /// Commands, END included.
    pub commands: u64,
    /// Length of the stream in bytes.
    pub bytes: u64,
    /// File content it brings, uncompressed, in bytes; cloned content not counted.
    pub content: u64,
}

impl Begin {
    fn new(parsed: &Parsed<'_>, version: u32) -> Result<Self, Problem> {
        let parent = match parsed.command {
            Command::Subvol => None,
            Command::Snapshot => Some(Parent {
                uuid: parsed.uuid(Attr::CloneUuid)?,
                ctransid: parsed.u64(Attr::CloneCtransid)?,
            }),
            _ => return Err(Problem::NoSubvolume),
        };
        Ok(Self {
            version,
            name: policy::subvolume_name(parsed)?.to_owned(),
            uuid: parsed.uuid(Attr::Uuid)?,
            ctransid: parsed.u64(Attr::Ctransid)?,
            parent,
        })
    }

    /// The subvolumes its clones may read from.
    pub(crate) fn sources(&self) -> Sources {
        Sources {
            own: self.uuid,
            parent: self.parent.as_ref().map(|parent| parent.uuid),
        }
    }
}

/// A stream that is being read, past its first command.
#[derive(Debug)]
pub(crate) struct Pass<R> {
    walker: Walker<R>,
    policy: Policy,
    begin: Begin,
    content: u64,
}

impl<R: Read> Pass<R> {
    /// Reads the header and the first command.
    pub(crate) fn open(source: R, policy: &Policy) -> Result<Self, StreamError> {
        let mut walker = Walker::new(source)?;
        let version = walker.version();
        let frame = walker.next_frame()?;
        let length = frame.raw.len();
        let begin = Begin::new(&frame.parsed, version);
        let begin = begin.map_err(|problem| walker.error(problem, length))?;
        Ok(Self {
            walker,
            policy: *policy,
            begin,
            content: 0,
        })
    }

    pub(crate) fn begin(&self) -> &Begin {
        &self.begin
    }

    /// An error about the first command.
    pub(crate) fn error(&self, problem: Problem) -> StreamError {
        self.walker.error(problem, self.walker.last_raw().len())
    }

    pub(crate) fn walker(&self) -> &Walker<R> {
        &self.walker
    }

    /// Hands every command that passes to `each`, but for the first and END,
    /// until END has been read and nothing follows it.
    pub(crate) fn run(
        mut self,
        mut each: impl FnMut(&Frame<'_>) -> Result<(), Problem>,
    ) -> Result<Ended<R>, StreamError> {
        loop {
            let frame = self.walker.next_frame()?;
            let length = frame.raw.len();
            if frame.parsed.command == Command::End {
                break;
            }
            let checked = self.policy.check(&frame.parsed, self.begin.sources());
            let done = checked.and_then(|content| each(&frame).map(|()| content));
            let content = done.map_err(|problem| self.walker.error(problem, length))?;
            self.content = self.content.saturating_add(content);
        }
        if !self.walker.at_end()? {
            return Err(self.walker.error(Problem::Trailing, 0));
        }
        Ok(Ended {
            summary: Summary {
                version: self.begin.version,
                name: self.begin.name,
                uuid: self.begin.uuid,
                ctransid: self.begin.ctransid,
                parent: self.begin.parent,
                commands: self.walker.commands(),
                bytes: self.walker.offset(),
                content: self.content,
            },
            walker: self.walker,
        })
    }
}

/// A stream that was read to its end.
pub(crate) struct Ended<R> {
    pub(crate) summary: Summary,
    /// Still holds the last command.
    pub(crate) walker: Walker<R>,
}
