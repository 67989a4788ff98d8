//! The shape of a whole stream: one subvolume, its commands, END, nothing more.

use std::io::{self, Read};

use crate::attrs::Parsed;
use crate::error::{Problem, StreamError};
use crate::policy::{self, Policy, Sources};
use crate::walk::Walker;
use crate::wire::{Attr, Command};

/// The subvolume an incremental stream builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its UUID, or the one it was itself received from.
    pub uuid: [u8; 16],
    /// Its transaction at sending.
    pub ctransid: u64,
}

/// What a vetted stream holds.
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

/// Reads a stream to its end and refuses it for the first thing that is wrong.
pub fn vet(source: impl Read, policy: &Policy) -> Result<Summary, StreamError> {
    vet_into(source, policy, |_| Ok(()))
}

/// Likewise, handing each part (the header, then every command) to `sink` once
/// it has passed. END is handed over only when nothing follows it.
pub fn vet_into(
    source: impl Read,
    policy: &Policy,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Summary, StreamError> {
    let mut walker = Walker::new(source)?;
    sink(walker.header()).map_err(|why| walker.error(Problem::Sink(why), 0))?;
    let mut pass = Pass {
        policy,
        begin: None,
        content: 0,
    };
    loop {
        let frame = walker.next_frame()?;
        let (length, last) = (frame.raw.len(), frame.parsed.command == Command::End);
        if last {
            // END without what it ends is refused like any other first command.
            let checked = pass.command(&frame.parsed);
            checked.map_err(|problem| walker.error(problem, length))?;
            break;
        }
        let passed = match pass.command(&frame.parsed) {
            Ok(()) => sink(frame.raw).map_err(Problem::Sink),
            Err(problem) => Err(problem),
        };
        passed.map_err(|problem| walker.error(problem, length))?;
    }
    finish(walker, pass, sink)
}

fn finish<R: Read>(
    mut walker: Walker<R>,
    pass: Pass<'_>,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Summary, StreamError> {
    if !walker.at_end()? {
        return Err(walker.error(Problem::Trailing, 0));
    }
    let end = walker.last_raw();
    sink(end).map_err(|why| walker.error(Problem::Sink(why), 0))?;
    let begin = pass
        .begin
        .ok_or_else(|| walker.error(Problem::NoSubvolume, 0))?;
    Ok(Summary {
        version: walker.version(),
        name: begin.name,
        uuid: begin.uuid,
        ctransid: begin.ctransid,
        parent: begin.parent,
        commands: walker.commands(),
        bytes: walker.offset(),
        content: pass.content,
    })
}

/// The first command.
struct Begin {
    name: String,
    uuid: [u8; 16],
    ctransid: u64,
    parent: Option<Parent>,
}

impl Begin {
    fn new(parsed: &Parsed<'_>) -> Result<Self, Problem> {
        let parent = match parsed.command {
            Command::Subvol => None,
            Command::Snapshot => Some(Parent {
                uuid: parsed.uuid(Attr::CloneUuid)?,
                ctransid: parsed.u64(Attr::CloneCtransid)?,
            }),
            _ => return Err(Problem::NoSubvolume),
        };
        Ok(Self {
            name: policy::subvolume_name(parsed)?.to_owned(),
            uuid: parsed.uuid(Attr::Uuid)?,
            ctransid: parsed.u64(Attr::Ctransid)?,
            parent,
        })
    }
}

struct Pass<'p> {
    policy: &'p Policy,
    begin: Option<Begin>,
    content: u64,
}

impl Pass<'_> {
    fn command(&mut self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        let Some(begin) = &self.begin else {
            self.begin = Some(Begin::new(parsed)?);
            return Ok(());
        };
        let sources = Sources {
            own: begin.uuid,
            parent: begin.parent.as_ref().map(|parent| parent.uuid),
        };
        let content = self.policy.check(parsed, sources)?;
        self.content = self.content.saturating_add(content);
        Ok(())
    }
}
