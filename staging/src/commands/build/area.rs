//! Where releases are made: golden, and the versions frozen from it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use op_dbus_bootstate::{Uuid, Version};
use op_dbus_btrfs::SubvolInfo;
use rustix::fs::FlockOperation;

use crate::cli::build::Place;
use crate::error::{Exit, Failure, Result};
use crate::holder;

/// The build directory.
#[derive(Debug, Clone)]
pub(crate) struct Area {
    root: PathBuf,
}

/// How a run uses the versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Reads them, beside other runs that do.
    Shared,
    /// Deletes some.
    Exclusive,
}

/// Holds the build directory's lock.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// A version that was frozen.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    /// Its name.
    pub(crate) version: Version,
    /// Its subvolume.
    pub(crate) path: PathBuf,
    /// What the kernel knows of it.
    pub(crate) info: SubvolInfo,
}

impl Frozen {
    /// The UUID it has in streams: the kernel names a subvolume that was
    /// received by the UUID it had where it came from (`fs/btrfs/send.c`,
    /// `send_subvol_begin`).
    pub(crate) fn sent_uuid(&self) -> Uuid {
        let received = Uuid(self.info.received_uuid);
        if received.is_nil() {
            Uuid(self.info.uuid)
        } else {
            received
        }
    }
}

impl Area {
    /// Names the directory; nothing is looked at.
    pub(crate) fn new(place: &Place) -> Self {
        Self {
            root: place.build.clone(),
        }
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The tree that versions are made of.
    pub(crate) fn golden(&self) -> PathBuf {
        self.root.join("golden")
    }

    /// Where the versions are.
    pub(crate) fn versions(&self) -> PathBuf {
        self.root.join("versions")
    }

    /// Where releases go.
    pub(crate) fn releases(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// One version's place.
    pub(crate) fn version(&self, version: &Version) -> PathBuf {
        self.versions().join(version.as_str())
    }

    /// Refuses a directory that is missing or not on Btrfs.
    pub(crate) fn require(&self) -> Result<()> {
        let fail = |why: &dyn std::fmt::Display| {
            Failure::new(
                Exit::Store,
                self.root.display(),
                why,
                "make it on a Btrfs file system, or name another: --build DIR",
            )
        };
        let dir = match op_dbus_btrfs::open_dir(&self.root) {
            Ok(dir) => dir,
            Err(why) if why.is_not_found() => {
                return Err(fail(&"the build directory is not there"));
            }
            Err(why) if why.source.kind() == io::ErrorKind::PermissionDenied => {
                return Err(why.into());
            }
            Err(why) => return Err(fail(&why.source)),
        };
        match op_dbus_btrfs::is_btrfs(&dir) {
            Ok(true) => Ok(()),
            Ok(false) => Err(fail(&"the build directory is not on Btrfs")),
            Err(why) => Err(Failure::io(self.root.display(), why)),
        }
    }

    /// Keeps runs apart that would take versions from under each other.
    pub(crate) fn lock(&self, kind: Use) -> Result<Lock> {
        let path = self.root.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|why| Failure::io(format_args!("{}: open", path.display()), why))?;
        let operation = match kind {
            Use::Shared => FlockOperation::NonBlockingLockShared,
            Use::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let who = holder::of(&path).unwrap_or_else(|| "another run".to_owned());
                Err(Failure::new(
                    Exit::Locked,
                    path.display(),
                    format_args!("held by {who}"),
                    "wait for it to end and run the command again",
                ))
            }
            Err(why) => Err(Failure::io(format_args!("{}: lock", path.display()), why)),
        }
    }

    /// One version, which must have been frozen.
    pub(crate) fn frozen(&self, version: &Version) -> Result<Frozen> {
        let path = self.version(version);
        let refuse =
            |why: &str, remedy: &str| Failure::new(Exit::Refused, path.display(), why, remedy);
        if path
            .symlink_metadata()
            .is_err_and(|why| why.kind() == io::ErrorKind::NotFound)
        {
            return Err(self.unknown(version));
        }
        if !op_dbus_btrfs::is_subvolume(&path)? {
            return Err(refuse(
                "is not a Btrfs subvolume",
                "move it away and make the version with: op-dbus-stage snapshot",
            ));
        }
        let info = op_dbus_btrfs::info_of(&path)?;
        if !info.is_read_only() {
            return Err(refuse(
                "is writable, so nobody can say what it holds",
                "delete it and make the version anew with: op-dbus-stage snapshot",
            ));
        }
        Ok(Frozen {
            version: version.clone(),
            path,
            info,
        })
    }

    /// All versions, oldest first, and the names in their directory that are none.
    pub(crate) fn all_frozen(&self) -> Result<(Vec<Frozen>, Vec<String>)> {
        let dir = self.versions();
        let fail = |why| Failure::io(format_args!("{}: read", dir.display()), why);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(<_>::default()),
            Err(why) => return Err(fail(why)),
        };
        let (mut frozen, mut foreign) = (Vec::new(), Vec::new());
        for entry in entries {
            let name = entry.map_err(fail)?.file_name();
            let version = name.to_str().and_then(|name| name.parse::<Version>().ok());
            match version.map(|version| self.frozen(&version)) {
                Some(Ok(found)) => frozen.push(found),
                Some(Err(why)) if why.kind != Exit::Refused => return Err(why),
                _ => foreign.push(name.to_string_lossy().into_owned()),
            }
        }
        frozen.sort_by(|a, b| a.version.cmp(&b.version));
        foreign.sort_unstable();
        Ok((frozen, foreign))
    }

    fn unknown(&self, version: &Version) -> Failure {
        let known = self
            .all_frozen()
            .map(|(frozen, _)| frozen)
            .unwrap_or_default();
        let names: Vec<_> = known
            .iter()
            .rev()
            .take(8)
            .map(|known| known.version.as_str())
            .collect();
        let remedy = if names.is_empty() {
            format!("make it first: op-dbus-stage snapshot {version}")
        } else {
            format!(
                "make it first (op-dbus-stage snapshot {version}), or name one of: {}",
                names.join(", ")
            )
        };
        Failure::new(
            Exit::UnknownVersion,
            version,
            format_args!("is not in {}", self.versions().display()),
            remedy,
        )
    }
}
