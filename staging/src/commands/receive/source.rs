//! The stream's file: read twice, and the same both times.

use std::fs::File;
use std::io::{self, BufReader, Seek as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use op_dbus_sendstream::{Policy, StreamError, Summary, vet_into};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::error::{Exit, Failure, Result};

/// An open stream file.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    path: PathBuf,
}

/// What vetting found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vetted {
    /// What the stream holds.
    pub(crate) summary: Summary,
    /// SHA-256 of the stream.
    hash: [u8; 32],
}

impl Source {
    /// Opens a stream. It is read twice, so it must be a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fail = |why: io::Error| match why.kind() {
            io::ErrorKind::NotFound => Failure::new(
                Exit::Failure,
                path.display(),
                why,
                "name a file written by btrfs send",
            ),
            _ => Failure::io(format_args!("{}: open", path.display()), why),
        };
        // Opening a FIFO must not wait for a writer.
        let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = File::options()
            .read(true)
            .custom_flags(nonblock)
            .open(path)
            .map_err(fail)?;
        if !file.metadata().map_err(fail)?.is_file() {
            return Err(Failure::new(
                Exit::Failure,
                path.display(),
                "not a regular file; a stream is checked completely before it is used, so it is read twice",
                "write the stream to a file first",
            ));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Checks the whole stream; nothing has been written anywhere before it returns.
    pub(crate) fn vet(&mut self, policy: &Policy) -> Result<Vetted> {
        self.pass(policy, |_| Ok(()))
    }

    /// Checks the stream again while handing it on, and that it is the one that
    /// was vetted: another program may have written to the file meanwhile.
    pub(crate) fn hand_on(
        &mut self,
        policy: &Policy,
        vetted: &Vetted,
        sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<()> {
        if self.pass(policy, sink)? == *vetted {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Verification,
            self.path.display(),
            "the file changed while it was received",
            "make sure that nothing writes to it and run the command again",
        ))
    }

    fn pass(
        &mut self,
        policy: &Policy,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Vetted> {
        self.file
            .rewind()
            .map_err(|why| Failure::io(format_args!("{}: read", self.path.display()), why))?;
        let mut hash = Sha256::new();
        let reader = BufReader::with_capacity(256 * 1024, &self.file);
        let result = vet_into(reader, policy, |part| {
            hash.update(part);
            sink(part)
        });
        let summary = result.map_err(|why| self.failure(&why))?;
        Ok(Vetted {
            summary,
            hash: hash.finalize().into(),
        })
    }

    fn failure(&self, why: &StreamError) -> Failure {
        match why.as_io() {
            Some(error) => {
                let error = error.raw_os_error().map_or_else(
                    || io::Error::from(error.kind()),
                    io::Error::from_raw_os_error,
                );
                Failure::io(self.path.display(), error)
            }
            None => Failure::new(
                Exit::Verification,
                self.path.display(),
                why,
                "nothing was received; fetch or send the stream again",
            ),
        }
    }
}
