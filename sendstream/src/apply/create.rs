//! Entries that a stream makes.
//!
//! `btrfs send` makes every entry under a name of its own (`o257-7-0`) in the
//! subvolume's root and moves it to its place with the next command. Making it
//! in its place right away saves the kernel the half of its work on directories.

use std::io;
use std::os::fd::AsFd as _;

use rustix::fs::{FileType, Mode};

use super::file::Writer;
use super::tree::{Place, Tree};
use crate::attrs::Parsed;
use crate::error::Problem;
use crate::wire::{Attr, Command};

/// An entry to be made.
#[derive(Debug)]
pub(crate) struct New {
    path: Vec<u8>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    File,
    Dir,
    Node { kind: FileType, device: u64 },
    Symlink(Vec<u8>),
}

impl New {
    /// What a command makes, if it makes something.
    pub(crate) fn parse(parsed: &Parsed<'_>) -> Result<Option<Self>, Problem> {
        let node = |kind| Kind::Node { kind, device: 0 };
        let kind = match parsed.command {
            Command::MkFile => Kind::File,
            Command::MkDir => Kind::Dir,
            Command::MkFifo => node(FileType::Fifo),
            Command::MkSock => node(FileType::Socket),
            Command::MkNod => Kind::Node {
                // The policy has seen that it is a kind of node.
                kind: FileType::from_raw_mode(u32::try_from(parsed.u64(Attr::Mode)?).unwrap_or(0)),
                device: parsed.u64(Attr::Rdev)?,
            },
            Command::Symlink => Kind::Symlink(parsed.bytes(Attr::PathLink)?.to_owned()),
            _ => return Ok(None),
        };
        Ok(Some(Self {
            path: parsed.bytes(Attr::Path)?.to_owned(),
            kind,
        }))
    }

    /// The name the stream gave it.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// What is being done, for messages.
    pub(crate) fn operation(&self) -> &'static str {
        match self.kind {
            Kind::File => "create file",
            Kind::Dir => "create directory",
            Kind::Node { .. } => "create node",
            Kind::Symlink(_) => "create symlink",
        }
    }

    /// Makes it under the name the stream gave it.
    pub(crate) fn make(&self, tree: &mut Tree, writer: &mut Writer) -> io::Result<()> {
        let place = tree.place(&self.path)?;
        self.make_at(&self.path, &place, tree, writer)
    }

    /// Makes it where it would be moved next, if that comes to the same.
    /// Whatever is in the way (an entry to be replaced, a directory that is not
    /// there), the way by the stream's name deals with it or fails as it should.
    pub(crate) fn make_moved(&self, to: &[u8], tree: &mut Tree, writer: &mut Writer) -> bool {
        tree.place(to).is_ok_and(|place| {
            place.0.is_plain().unwrap_or(false) && self.make_at(to, &place, tree, writer).is_ok()
        })
    }

    fn make_at(
        &self,
        path: &[u8],
        place: &Place<'_>,
        tree: &mut Tree,
        writer: &mut Writer,
    ) -> io::Result<()> {
        let (dir, name) = place;
        let private = Mode::RUSR | Mode::WUSR;
        match &self.kind {
            Kind::File => writer.create(path, place)?,
            Kind::Dir => {
                rustix::fs::mkdirat(dir.as_fd(), *name, private | Mode::XUSR)?;
                tree.made(path, place)?;
            }
            Kind::Node { kind, device } => {
                rustix::fs::mknodat(dir.as_fd(), *name, *kind, private, *device)?;
            }
            Kind::Symlink(target) => {
                rustix::fs::symlinkat(target.as_slice(), dir.as_fd(), *name)?;
            }
        }
        Ok(())
    }
}
