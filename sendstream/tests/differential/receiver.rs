//! Ours and theirs, one beside the other.

use std::ffi::OsStr;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::AsFd as _;
use std::path::Path;

use op_dbus_loopback::run;
use op_dbus_sendstream::{Destination, Incoming, Policy, StreamError, Summary};

use crate::progs::Progs;

/// What turns a stream into a subvolume.
#[derive(Clone, Copy)]
pub(crate) enum Receiver {
    Ours,
    Theirs(&'static Progs),
}

impl Receiver {
    /// Every receiver; the first is the one that the others are held against.
    pub(crate) fn all() -> Vec<Self> {
        let mut all: Vec<_> = crate::progs::all().iter().map(Self::Theirs).collect();
        all.push(Self::Ours);
        all
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Ours => "ours".to_owned(),
            Self::Theirs(progs) => format!("btrfs-progs {}", progs.version),
        }
    }

    /// Receives a stream as `name` into a directory. Theirs finds the parent by
    /// its UUID and takes the name from the stream.
    pub(crate) fn receive(
        self,
        stream: &Path,
        area: &Path,
        name: &str,
        parent: Option<&Path>,
    ) -> Result<(), StreamError> {
        match self {
            Self::Ours => apply(stream, area, name, parent).map(drop),
            Self::Theirs(progs) => {
                run(progs.command().args(["receive", "-f"]).args([stream, area]));
                Ok(())
            }
        }
    }
}

/// Receives with our applier.
pub(crate) fn apply(
    stream: &Path,
    area: &Path,
    name: &str,
    parent: Option<&Path>,
) -> Result<Summary, StreamError> {
    let area = op_dbus_btrfs::open_dir(area).unwrap();
    let parent = parent.map(|parent| op_dbus_btrfs::open_dir(parent).unwrap());
    let destination = Destination {
        area: area.as_fd(),
        name: OsStr::new(name),
        parent: parent.as_ref().map(|parent| parent.as_fd()),
    };
    let stream = BufReader::new(File::open(stream).unwrap());
    Incoming::open(stream, &Policy::everything())?.apply(&destination)
}
