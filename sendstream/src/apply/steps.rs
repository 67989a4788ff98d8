//! One command after the other.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use rustix::fs::AtFlags;

use super::create::New;
use super::extents::{CloneSource, EncodedWriter, allocate};
use super::file::Writer;
use super::meta::{Change, Target};
use super::tree::Tree;
use crate::attrs::Parsed;
use crate::error::{Problem, Shown};
use crate::wire::{Attr, Command};

/// Does to a subvolume what the commands say. They have passed the policy.
#[derive(Debug)]
pub(crate) struct Applier {
    tree: Tree,
    /// The subvolume it began as a snapshot of.
    parent: Option<Tree>,
    /// How clones name this subvolume.
    uuid: [u8; 16],
    writer: Writer,
    source: CloneSource,
    encoded: EncodedWriter,
    /// To be made as soon as the next command shows where.
    new: Option<New>,
}

/// Adds what was being done, to what, to an error of the system.
fn failed<'a>(operation: &'static str, path: &'a [u8]) -> impl Fn(io::Error) -> Problem + 'a {
    move |source| Problem::Apply {
        operation,
        path: Shown::new(path),
        source,
    }
}

impl Applier {
    pub(crate) fn new(tree: Tree, parent: Option<Tree>, uuid: [u8; 16], direct: bool) -> Self {
        Self {
            tree,
            parent,
            uuid,
            writer: Writer::new(),
            source: CloneSource::default(),
            encoded: EncodedWriter::new(direct),
            new: None,
        }
    }

    /// Applies one command between the first and END.
    pub(crate) fn command(&mut self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        if parsed.command == Command::Rename && self.make_in_place(parsed)? {
            return Ok(());
        }
        self.make_new()?;
        if parsed.command == Command::Write {
            return self.write(parsed);
        }
        // Everything else finds the content written that came before it.
        self.flush()?;
        if let Some(new) = New::parse(parsed)? {
            self.new = Some(new);
            return Ok(());
        }
        if let Some(change) = Change::parse(parsed)? {
            return self.change(parsed.bytes(Attr::Path)?, &change);
        }
        match parsed.command {
            Command::Rename => self.rename(parsed),
            Command::Link => self.link(parsed),
            Command::Unlink => self.remove(parsed, AtFlags::empty(), "delete file"),
            Command::RmDir => self.remove(parsed, AtFlags::REMOVEDIR, "delete directory"),
            Command::Truncate => self.truncate(parsed),
            Command::Clone => self.clone_range(parsed),
            Command::EncodedWrite => self.write_encoded(parsed),
            Command::Fallocate => self.allocate(parsed),
            // UPDATE_EXTENT only says what changed; FILEATTR is left, see policy.
            _ => Ok(()),
        }
    }

    /// Does what is still to be done at the end.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        self.make_new()?;
        self.flush()?;
        self.tree.settle().map_err(failed("set times", b""))
    }

    fn make_new(&mut self) -> Result<(), Problem> {
        let Some(new) = self.new.take() else {
            return Ok(());
        };
        let made = new.make(&mut self.tree, &mut self.writer);
        made.map_err(failed(new.operation(), new.path()))
    }

    /// Whether the command moved what was to be made, and it was made there.
    fn make_in_place(&mut self, parsed: &Parsed<'_>) -> Result<bool, Problem> {
        let from = parsed.bytes(Attr::Path)?;
        let Some(new) = self.new.take_if(|new| new.path() == from) else {
            return Ok(false);
        };
        let to = parsed.bytes(Attr::PathTo)?;
        let made = new.make_moved(to, &mut self.tree, &mut self.writer);
        if !made {
            self.new = Some(new);
        }
        Ok(made)
    }

    fn flush(&mut self) -> Result<(), Problem> {
        let Some(path) = self.writer.pending().map(Shown::new) else {
            return Ok(());
        };
        self.writer.flush().map_err(|source| Problem::Apply {
            operation: "write",
            path,
            source,
        })
    }

    /// The file at a path, open for writing.
    fn file(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Problem> {
        if let Some(fd) = self.writer.get(path) {
            return Ok(fd);
        }
        self.flush()?;
        let place = self.tree.place(path);
        let opened = place.and_then(|place| self.writer.open(path, &place));
        opened.map_err(failed("open for writing", path))
    }

    fn write(&mut self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        let path = parsed.bytes(Attr::Path)?;
        self.file(path)?;
        let (offset, data) = (parsed.u64(Attr::FileOffset)?, parsed.bytes(Attr::Data)?);
        let written = self.writer.write(offset, data);
        written.map_err(failed("write", path))
    }

    fn write_encoded(&mut self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        let path = parsed.bytes(Attr::Path)?;
        let fd = self.file(path)?;
        self.encoded.write(&fd, path, parsed)
    }

    fn truncate(&mut self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        let path = parsed.bytes(Attr::Path)?;
        let fd = self.file(path)?;
        rustix::fs::ftruncate(fd, parsed.u64(Attr::Size)?)
            .map_err(|why| failed("truncate", path)(why.into()))
    }

    fn allocate(&mut self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        let path = parsed.bytes(Attr::Path)?;
        let fd = self.file(path)?;
        allocate(&fd, parsed)?.map_err(failed("allocate", path))
    }

    fn clone_range(&mut self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        let path = parsed.bytes(Attr::Path)?;
        let target = self.file(path)?;
        let from = parsed.bytes(Attr::ClonePath)?;
        let own = parsed.uuid(Attr::CloneUuid)? == self.uuid;
        let source = if own {
            match self.writer.get(from) {
                Some(fd) => Ok(fd),
                None => self.source.open(own, from, &mut self.tree),
            }
        } else {
            let parent = self.parent.as_mut().ok_or(Problem::NoParent)?;
            self.source.open(own, from, parent)
        };
        let source = source.map_err(failed("open to clone from", from))?;
        op_dbus_btrfs::clone_range(
            &source,
            parsed.u64(Attr::CloneOffset)?,
            parsed.u64(Attr::CloneLen)?,
            &target,
            parsed.u64(Attr::FileOffset)?,
        )
        .map_err(failed("clone", path))
    }

    fn change(&mut self, path: &[u8], change: &Change<'_>) -> Result<(), Problem> {
        let target = Target::find(path, &mut self.tree, &self.writer);
        let changed = target.and_then(|target| {
            if let Target::File(fd) = &target {
                if self.writer.is_fresh() && change.is_done(fd)? {
                    return Ok(());
                }
                self.writer.is_used();
            }
            target.set(change)
        });
        changed.map_err(failed(change.operation(), path))
    }

    fn rename(&mut self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        let (from, to) = (parsed.bytes(Attr::Path)?, parsed.bytes(Attr::PathTo)?);
        let mut rename = || {
            let (old_dir, old) = self.tree.place(from)?;
            let (new_dir, new) = self.tree.place(to)?;
            rustix::fs::renameat(old_dir.as_fd(), old, new_dir.as_fd(), new)?;
            self.tree.forget(from)?;
            self.tree.forget(to)
        };
        rename().map_err(failed("rename", from))?;
        self.writer.renamed(from, to);
        self.source.forget();
        Ok(())
    }

    fn link(&mut self, parsed: &Parsed<'_>) -> Result<(), Problem> {
        let (path, existing) = (parsed.bytes(Attr::Path)?, parsed.bytes(Attr::PathLink)?);
        let mut link = || {
            let (old_dir, old) = self.tree.place(existing)?;
            let (new_dir, new) = self.tree.place(path)?;
            // Without flags a symlink is linked itself, not what it points to.
            let flags = AtFlags::empty();
            rustix::fs::linkat(old_dir.as_fd(), old, new_dir.as_fd(), new, flags)
                .map_err(io::Error::from)
        };
        link().map_err(failed("link", path))
    }

    fn remove(
        &mut self,
        parsed: &Parsed<'_>,
        flags: AtFlags,
        operation: &'static str,
    ) -> Result<(), Problem> {
        let path = parsed.bytes(Attr::Path)?;
        let mut remove = || {
            let (dir, name) = self.tree.place(path)?;
            rustix::fs::unlinkat(dir.as_fd(), name, flags)?;
            self.tree.forget(path)
        };
        remove().map_err(failed(operation, path))?;
        self.writer.removed(path);
        self.source.forget();
        Ok(())
    }
}
