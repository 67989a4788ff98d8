//! What goes into a backup: taken in a moment, under the store's lock.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use op_dbus_activator::files::{self, open_flags};
use op_dbus_activator::layout::Layout;
use op_dbus_activator::lock::Lock;
use op_dbus_activator::records::Records;
use op_dbus_backup::{Info, Key, SCHEMA, Stream};
use op_dbus_bootstate::Version;
use op_dbus_bootstate::store::{self, Copy, Storage as _};
use op_dbus_trust::{Keyring, MAX_CERTIFICATE, MAX_FILES};
use rustix::fs::OFlags;

use super::area::Area;
use super::member::Member;
use crate::auditlog;
use crate::context::{Context, NAME};
use crate::error::{Exit, Failure, Result};
use crate::session::{PATIENCE, lock_failure};
use crate::settings::Settings;

/// Entries of one directory that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// Bytes of small files that are kept in memory until they are written.
const MEMORY_MAX: usize = 256 << 20;

/// A small file.
#[derive(Debug)]
pub(crate) enum Small {
    /// In memory.
    Bytes(Vec<u8>),
    /// So many bytes of an open file: a log only grows.
    Open(File, u64),
}

/// What goes into a backup, in the order it is written in.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// What the backup says of itself.
    pub(crate) info: Info,
    /// The small files, by the name of their member.
    pub(crate) small: Vec<(String, Small)>,
    /// The snapshot of each stream, in the order of [`Info::streams`].
    pub(crate) snapshots: Vec<PathBuf>,
}

/// Takes snapshots, into the area, and reads what is small.
pub(crate) fn gather(context: &Context, area: &Area) -> Result<Gathered> {
    let layout = &context.layout;
    let _lock = Lock::acquire(layout, PATIENCE).map_err(lock_failure)?;
    let mut found = Finder {
        context,
        small: Vec::new(),
        bytes: 0,
    };
    found.logs()?;
    found.records()?;
    found.configuration()?;
    let keys = found.keys()?;
    found.papers()?;
    found.versions(&layout.pins_dir(), |version, _| {
        Ok(Some((Member::Pin(version), Vec::new())))
    })?;
    found.versions(&layout.plans_dir(), |version, path| {
        let member = Member::Plan(version);
        read(path, &member).map(|bytes| bytes.map(|bytes| (member, bytes)))
    })?;
    let mut streams = found.overlays()?;
    streams.extend(found.shared()?);
    let snapshots = freeze(layout, area, &streams)?;
    let mut small = found.small;
    small.sort_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
    Ok(Gathered {
        info: Info {
            schema: SCHEMA,
            created: auditlog::now(),
            program: format!("{NAME} {}", env!("CARGO_PKG_VERSION")),
            host: host(layout),
            streams,
            keys,
        },
        small,
        snapshots,
    })
}

/// Snapshots of all overlays. They are committed one by one, so that each is on
/// the disk before the first byte of it is sent.
fn freeze(layout: &Layout, area: &Area, streams: &[Stream]) -> Result<Vec<PathBuf>> {
    let mut snapshots = Vec::new();
    for (number, stream) in streams.iter().enumerate() {
        let path = area.path().join(format!("{number:04}"));
        let source = layout.store.join(&stream.place);
        op_dbus_btrfs::snapshot(&source, &path, true).map_err(|why| {
            if why.source.kind() == io::ErrorKind::ReadOnlyFilesystem {
                return Failure::new(
                    Exit::Failure,
                    layout.store.display(),
                    "the store is read-only, so no snapshot can be taken of what changes",
                    "find out why (journalctl -k); docs/BACKUP.md tells how to save the files by hand",
                );
            }
            why.into()
        })?;
        snapshots.push(path);
    }
    Ok(snapshots)
}

/// The device's name, for whoever has backups of many.
fn host(layout: &Layout) -> String {
    let text = files::read_text(&layout.host("/etc/hostname"), 256).unwrap_or_default();
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return "unknown".to_owned();
    }
    text.to_owned()
}

/// Reads a small file; none if it is not there. One that is too long to be what
/// its name says is not for a backup either.
fn read(path: &Path, member: &Member) -> Result<Option<Vec<u8>>> {
    let max = member.max().unwrap_or(MEMORY_MAX);
    let fail = |why| Failure::io(format_args!("{}: read", path.display()), why);
    let file = File::options()
        .read(true)
        .custom_flags(open_flags(OFlags::NOFOLLOW.union(OFlags::NONBLOCK)))
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(fail(why)),
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() > max {
        return Err(fail(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(bytes))
}

struct Finder<'c> {
    context: &'c Context,
    small: Vec<(String, Small)>,
    bytes: usize,
}

impl Finder<'_> {
    fn layout(&self) -> &Layout {
        &self.context.layout
    }

    fn skip(&self, path: &Path, why: &dyn std::fmt::Display) {
        self.context
            .warn(format!("{} is not in the backup: {why}", path.display()));
    }

    fn add(&mut self, member: &Member, bytes: Vec<u8>) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MEMORY_MAX {
            return Err(Failure::new(
                Exit::Failure,
                self.layout().store.display(),
                format_args!("holds more than {} MiB of manifests", MEMORY_MAX >> 20),
                "delete versions that are not needed: op-dbus-stage prune",
            ));
        }
        self.small.push((member.to_string(), Small::Bytes(bytes)));
        Ok(())
    }

    /// The names in a directory, sorted. None there is none in it.
    fn names(&self, dir: &Path) -> Result<Vec<(String, PathBuf)>> {
        let fail = |why: io::Error| Failure::io(format_args!("{}: read", dir.display()), why);
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(why) => return Err(fail(why)),
        };
        let mut found = Vec::new();
        for entry in entries.take(ENTRIES_MAX) {
            let entry = entry.map_err(fail)?;
            match entry.file_name().into_string() {
                // What begins with a dot is being made, by somebody who was killed.
                Ok(name) if name.starts_with('.') => {}
                Ok(name) => found.push((name, entry.path())),
                Err(_) => self.skip(&entry.path(), &"its name is not UTF-8"),
            }
        }
        found.sort();
        Ok(found)
    }

    /// All logs of `audit/`: the one in use with its segments in their order, and
    /// those before it. Not what the notifier and the boot report keep there for
    /// this device alone.
    fn logs(&mut self) -> Result<()> {
        let names = self.names(&self.layout().audit_dir())?.into_iter();
        for (name, path) in names.filter(|(name, _)| auditlog::is_log(name)) {
            let member = Member::Log(name).to_string();
            if !op_dbus_backup::is_plain(&member) {
                self.skip(&path, &"its name is none of ours");
                continue;
            }
            let fail = |why| Failure::io(format_args!("{}: open", path.display()), why);
            let flags = open_flags(OFlags::NOFOLLOW.union(OFlags::NONBLOCK));
            let file = File::options().read(true).custom_flags(flags).open(&path);
            let file = file.map_err(fail)?;
            let found = file.metadata().map_err(fail)?;
            if found.is_file() {
                self.small.push((member, Small::Open(file, found.len())));
            } else {
                self.skip(&path, &"is no file");
            }
        }
        Ok(())
    }

    /// All copies of the boot record, as they are.
    fn records(&mut self) -> Result<()> {
        let mut records = Records::new(self.layout());
        for copy in Copy::ALL {
            match records.read(copy) {
                Ok(Some(bytes)) => self.add(&Member::Record(copy), bytes)?,
                Ok(None) => {}
                Err(why) => self.context.warn(format!("not in the backup: {why}")),
            }
        }
        let verdict = store::load(&mut records).verdict();
        if verdict.record().is_none() {
            self.context.warn(format!(
                "the boot record is {}; a restore goes by the audit log instead",
                verdict.word()
            ));
        }
        Ok(())
    }

    fn configuration(&mut self) -> Result<()> {
        let path = self.context.config_path().to_owned();
        let Some(bytes) = read(&path, &Member::Configuration)? else {
            self.skip(&path, &"it does not exist");
            return Ok(());
        };
        self.add(&Member::Configuration, bytes)
    }

    /// The certificates, as they are: they are public, and trusted by nobody
    /// because they are in a backup.
    fn keys(&mut self) -> Result<Vec<Key>> {
        let settings = match Settings::load(self.context) {
            Ok(settings) => settings,
            Err(why) => {
                self.context.warn(why.to_string());
                Settings::default()
            }
        };
        let dir = self.layout().host(&settings.keys);
        let mut keys = Vec::new();
        for (name, path) in self.names(&dir)?.into_iter().take(MAX_FILES) {
            if name.chars().any(char::is_control) {
                self.skip(&path, &"its name has control characters");
                continue;
            }
            let bytes = match files::read_bounded(&path, MAX_CERTIFICATE) {
                Ok(bytes) => bytes,
                Err(why) => {
                    self.skip(&path, &why);
                    continue;
                }
            };
            let number = u16::try_from(keys.len()).unwrap_or(u16::MAX);
            let member = Member::Key(number);
            keys.push(Key {
                member: member.to_string(),
                file: name,
                fingerprints: fingerprints(&bytes, &path),
            });
            self.add(&member, bytes)?;
        }
        Ok(keys)
    }

    /// Receipts, manifests, signatures.
    fn papers(&mut self) -> Result<()> {
        for (name, path) in self.names(&self.layout().manifests_dir())? {
            let member = Member::parse(&format!("device/manifests/{name}"));
            let Some(member @ Member::Paper(..)) = member else {
                self.skip(&path, &"its name is no version's");
                continue;
            };
            if let Some(bytes) = read(&path, &member)? {
                self.add(&member, bytes)?;
            }
        }
        Ok(())
    }

    /// What is kept by version in a directory.
    fn versions(
        &mut self,
        dir: &Path,
        mut make: impl FnMut(Version, &Path) -> Result<Option<(Member, Vec<u8>)>>,
    ) -> Result<()> {
        for (name, path) in self.names(dir)? {
            let Ok(version) = name.parse() else {
                self.skip(&path, &"its name is no version's");
                continue;
            };
            if let Some((member, bytes)) = make(version, &path)? {
                self.add(&member, bytes)?;
            }
        }
        Ok(())
    }

    /// The overlays: of versions, and those that were set aside.
    fn overlays(&self) -> Result<Vec<Stream>> {
        let mut streams = Vec::new();
        for (name, path) in self.names(&self.layout().overlays_dir())? {
            let member = format!("overlays/{name}");
            if overlay_version(&name).is_none() {
                self.skip(&path, &"its name is no version's");
            } else if !op_dbus_btrfs::is_subvolume(&path)? {
                self.skip(&path, &"is no subvolume");
            } else {
                streams.push(Stream {
                    place: member.clone(),
                    member,
                });
            }
        }
        Ok(streams)
    }

    /// What versions share, whose names are those of paths.
    fn shared(&self) -> Result<Vec<Stream>> {
        let mut streams: Vec<Stream> = Vec::new();
        for (name, path) in self.names(&self.layout().shared_dir())? {
            if op_dbus_btrfs::is_subvolume(&path)? {
                streams.push(Stream {
                    member: format!("shared/{:04}", streams.len()),
                    place: format!("shared/{name}"),
                });
            } else {
                self.skip(&path, &"is no subvolume");
            }
        }
        Ok(streams)
    }
}

/// Whose overlay a name in `overlays/` is.
pub(crate) fn overlay_version(name: &str) -> Option<Version> {
    let name = [".old", ".failed"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(name);
    name.parse().ok()
}

/// Whose certificates a file holds, as far as it can be read.
pub(crate) fn fingerprints(bytes: &[u8], path: &Path) -> Vec<String> {
    let keyring = Keyring::from_bytes(bytes, path);
    let held = keyring.map(|keyring| {
        let held = keyring.certificates().iter();
        held.map(|held| held.fingerprint.clone()).collect()
    });
    held.unwrap_or_default()
}
