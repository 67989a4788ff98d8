//! A backup, read to its end and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use op_dbus_backup::{BackupError, Digest, Entry, INFO, Info, Key, Reader, Stream};
use op_dbus_bootstate::codec::Block;
use op_dbus_bootstate::rebuild::History;
use op_dbus_bootstate::receipt::Receipt;
use op_dbus_bootstate::store::{self, Copy, Loaded, Storage};
use op_dbus_bootstate::{Record, Version};
use op_dbus_release::manifest::Manifest;
use op_dbus_sendstream::{Policy, StreamError};

use super::failure;
use super::gather::overlay_version;
use super::logs::{self, CURRENT, Log};
use super::member::{Member, Paper};
use crate::auditlog;
use crate::commands::receive::Interrupt;
use crate::error::{Exit, Failure, Result};
use crate::progress::Meter;

/// Longest [`Info`], in bytes.
const INFO_MAX: usize = 4 << 20;
/// Small files a backup may hold, and most bytes of those that are kept.
const SMALL_MAX: usize = 100_000;
const MEMORY_MAX: usize = 256 << 20;

/// A stream, and how much there is in it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// Where it belongs.
    pub(crate) stream: Stream,
    /// Bytes of the stream.
    pub(crate) bytes: u64,
    /// Bytes of file content it brings.
    pub(crate) content: u64,
    /// What it does: a measure of how many files there are.
    pub(crate) commands: u64,
}

/// A manifest, as far as it matters without its signature: which files bring a version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Papers {
    /// Its files, and what each builds on.
    pub(crate) files: Vec<(String, Option<Version>)>,
    /// Whether there is a signature beside it.
    pub(crate) is_signed: bool,
}

/// What a backup holds, but for the streams' and logs' content.
#[derive(Debug)]
pub(crate) struct Contents {
    /// The digest over all of it.
    pub(crate) digest: Digest,
    /// What it says of itself.
    pub(crate) info: Info,
    /// The boot record's copies.
    pub(crate) loaded: Loaded,
    /// The configuration.
    pub(crate) configuration: Option<Vec<u8>>,
    /// Certificates.
    pub(crate) keys: Vec<(Key, Vec<u8>)>,
    /// Receipts.
    pub(crate) receipts: BTreeMap<Version, Receipt>,
    /// Manifests.
    pub(crate) papers: BTreeMap<Version, Papers>,
    /// Pins.
    pub(crate) pins: BTreeSet<Version>,
    /// Plans.
    pub(crate) plans: BTreeMap<Version, Vec<u8>>,
    /// Audit logs.
    pub(crate) logs: Vec<Log>,
    /// Subvolumes.
    pub(crate) streams: Vec<Held>,
    /// What the audit log says of versions.
    history: History,
}

/// The boot record's copies, as a medium.
#[derive(Debug, Default)]
struct Copies(Vec<(Copy, Vec<u8>)>);

impl Storage for Copies {
    type Error = Infallible;

    fn read(&mut self, copy: Copy) -> std::result::Result<Option<Vec<u8>>, Infallible> {
        let mut held = self.0.iter();
        let found = held.find(|(held, _)| *held == copy);
        Ok(found.map(|(_, bytes)| bytes.clone()))
    }

    fn write(&mut self, _: Copy, _: &Block) -> std::result::Result<(), Infallible> {
        Ok(())
    }
}

/// Counts what is read, and ends when the run is asked to.
pub(crate) struct Source {
    file: File,
    meter: Meter,
    interrupt: Interrupt,
}

impl Source {
    /// A file.
    pub(crate) fn new(file: File, meter: Meter, interrupt: Interrupt) -> Self {
        Self {
            file,
            meter,
            interrupt,
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.asked() {
            return Err(io::Error::other(interrupted()));
        }
        let count = self.file.read(buffer)?;
        self.meter.add(count as u64);
        Ok(count)
    }
}

/// The end of a run that was asked to end.
pub(crate) fn interrupted() -> Failure {
    Failure::new(
        Exit::Failure,
        "backup",
        "interrupted by a signal",
        "run the same command again",
    )
}

/// An error of a send stream: that of the backup around it, or its own.
pub(crate) fn stream_error<R: Read>(
    reader: &Reader<R>,
    name: &str,
    why: &StreamError,
) -> BackupError {
    match why.as_io() {
        Some(error) => reader.failed(error),
        None => BackupError::Damaged(format!("{name}: {why}")),
    }
}

impl Contents {
    /// Reads a backup to its end. Whatever is wrong with it is an error.
    pub(crate) fn read(source: impl Read, file: &Path) -> Result<Self> {
        Building::read(source).map_err(|why| failure(file, &why))
    }

    /// The record to go by: that of its copies, else one from the audit log, as the
    /// device itself would have done; and whether it had to be made up.
    pub(crate) fn record(&self) -> Option<(Record, bool)> {
        if let Some(record) = self.loaded.verdict().record() {
            return Some((record.clone(), false));
        }
        let known = |digest: &op_dbus_bootstate::Digest| {
            let mut receipts = self.receipts.values();
            let receipt = receipts.find(|receipt| receipt.deployment.digest == *digest);
            receipt.map(|receipt| receipt.deployment.clone())
        };
        self.history.rebuild(known).map(|record| (record, true))
    }
}

/// A backup that is being read.
struct Building {
    copies: Copies,
    contents: Contents,
    /// Small files so far, and bytes of those that are kept.
    count: usize,
    bytes: usize,
    /// The log in use, as far as it was read.
    current: Option<logs::Reading>,
}

impl Building {
    fn read(source: impl Read) -> op_dbus_backup::Result<Contents> {
        let mut reader = Reader::new(source)?;
        let first = reader.next_entry()?;
        if first
            .as_ref()
            .is_none_or(|entry| !matches!(entry, Entry::File(name, _) if name == INFO))
        {
            return Err(BackupError::Foreign(
                "is no backup of op-dbus-stage".to_owned(),
            ));
        }
        let info = Info::parse(&reader.bounded(INFO_MAX)?)?;
        let mut building = Self {
            copies: Copies::default(),
            contents: Contents {
                digest: Digest([0; 32]),
                info,
                loaded: store::load(&mut Copies::default()),
                configuration: None,
                keys: Vec::new(),
                receipts: BTreeMap::new(),
                papers: BTreeMap::new(),
                pins: BTreeSet::new(),
                plans: BTreeMap::new(),
                logs: Vec::new(),
                streams: Vec::new(),
                history: History::default(),
            },
            count: 0,
            bytes: 0,
            current: None,
        };
        while let Some(entry) = reader.next_entry()? {
            match entry {
                Entry::File(name, _) => building.file(&mut reader, &name)?,
                Entry::Stream(name) => building.stream(&mut reader, &name)?,
            }
        }
        let digest = reader.finish()?;
        building.end(digest)
    }

    fn file<R: Read>(&mut self, reader: &mut Reader<R>, name: &str) -> op_dbus_backup::Result<()> {
        let damaged = |why: &str| BackupError::Damaged(format!("{name}: {why}"));
        let Some(member) = Member::parse(name) else {
            return Err(damaged("is no part of a backup"));
        };
        self.count += 1;
        if self.count > SMALL_MAX {
            return Err(damaged("there are too many files before it"));
        }
        let Some(max) = member.max() else {
            return self.log(reader, &member);
        };
        let bytes = reader.bounded(max)?;
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MEMORY_MAX {
            return Err(damaged("there is too much before it"));
        }
        let contents = &mut self.contents;
        match member {
            Member::Log(_) => {}
            Member::Record(copy) => self.copies.0.push((copy, bytes)),
            Member::Configuration => contents.configuration = Some(bytes),
            Member::Key(_) => {
                let mut keys = contents.info.keys.iter();
                let Some(key) = keys.find(|key| key.member == name) else {
                    return Err(damaged("BACKUP.json does not know this key"));
                };
                contents.keys.push((key.clone(), bytes));
            }
            Member::Paper(paper, version) => self.paper(paper, version, &bytes),
            Member::Pin(version) => {
                contents.pins.insert(version);
            }
            Member::Plan(version) => {
                contents.plans.insert(version, bytes);
            }
        }
        Ok(())
    }

    /// What could not be used on the device is not used here, and is no damage.
    fn paper(&mut self, paper: Paper, version: Version, bytes: &[u8]) {
        let papers = self.contents.papers.entry(version.clone()).or_default();
        match paper {
            Paper::Receipt => {
                let receipt = Receipt::parse(bytes).ok();
                let receipt = receipt.filter(|receipt| receipt.deployment.version == version);
                self.contents
                    .receipts
                    .extend(receipt.map(|receipt| (version, receipt)));
            }
            Paper::Manifest => {
                let streams = Manifest::parse(bytes).map(|manifest| manifest.streams);
                let streams = streams.unwrap_or_default().into_iter();
                let file = |stream: op_dbus_release::manifest::Stream| {
                    (stream.file, stream.parent.map(|parent| parent.version))
                };
                papers.files = streams.map(file).collect();
            }
            Paper::Signature => papers.is_signed = true,
        }
    }

    fn log<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        member: &Member,
    ) -> op_dbus_backup::Result<()> {
        let Member::Log(file) = member else {
            return Ok(());
        };
        if auditlog::is_current(file) {
            let history = &mut self.contents.history;
            let current = self.current.get_or_insert_default();
            let read = current.take(reader.content(), |line| history.line(line));
            return read.map_err(|why| reader.failed(&why));
        }
        let log = logs::read(file, reader.content(), |_| ());
        let log = log.map_err(|why| reader.failed(&why))?;
        self.contents.logs.push(log);
        Ok(())
    }

    fn stream<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        name: &str,
    ) -> op_dbus_backup::Result<()> {
        let damaged = |why: &str| BackupError::Damaged(format!("{name}: {why}"));
        let expected = self.contents.info.streams.get(self.contents.streams.len());
        let Some(stream) = expected.filter(|stream| stream.member == name).cloned() else {
            return Err(damaged("BACKUP.json does not have this stream here"));
        };
        let overlay = stream.place.strip_prefix("overlays/");
        if overlay.is_some_and(|overlay| overlay_version(overlay).is_none()) {
            return Err(damaged("its place is no version's"));
        }
        let vetted = op_dbus_sendstream::vet(reader.content(), &Policy::overlay());
        let summary = vetted.map_err(|why| stream_error(reader, name, &why))?;
        if summary.parent.is_some() {
            return Err(damaged("it builds on something that is not there"));
        }
        self.contents.streams.push(Held {
            stream,
            bytes: summary.bytes,
            content: summary.content,
            commands: summary.commands,
        });
        Ok(())
    }

    fn end(mut self, digest: Digest) -> op_dbus_backup::Result<Contents> {
        let damaged = |why: &str| Err(BackupError::Damaged(why.to_owned()));
        if self.contents.streams.len() != self.contents.info.streams.len() {
            return damaged("a stream that BACKUP.json lists is missing");
        }
        let mut places = BTreeSet::new();
        let held = &self.contents.info.streams;
        if !held.iter().all(|stream| places.insert(&stream.place)) {
            return damaged("two streams have the same place");
        }
        if self.contents.keys.len() != self.contents.info.keys.len() {
            return damaged("a key that BACKUP.json lists is missing");
        }
        self.contents.loaded = store::load(&mut self.copies);
        if let Some(current) = self.current.take() {
            self.contents.logs.insert(0, current.end(CURRENT));
        }
        if let Some(record) = self.contents.loaded.verdict().record() {
            let mut logs = self.contents.logs.iter_mut();
            if let Some(log) = logs.find(|log| log.file == CURRENT) {
                log.compare(record.audit);
            }
        }
        self.contents.digest = digest;
        Ok(self.contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_backup::{SCHEMA, Writer};
    use std::io::Write as _;

    fn info(streams: &[(&str, &str)]) -> Info {
        let stream = |(member, place): &(&str, &str)| Stream {
            member: (*member).to_owned(),
            place: (*place).to_owned(),
        };
        Info {
            schema: SCHEMA,
            created: "now".to_owned(),
            program: "test".to_owned(),
            host: "host".to_owned(),
            streams: streams.iter().map(stream).collect(),
            keys: Vec::new(),
        }
    }

    /// A whole backup, its digest right, of these files and streams.
    fn read(info: &Info, files: &[(&str, &[u8])], streams: &[(&str, &[u8])]) -> Result<Contents> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer
            .file(INFO, &serde_json::to_vec(info).unwrap())
            .unwrap();
        for (name, bytes) in files {
            writer.file(name, bytes).unwrap();
        }
        for (name, bytes) in streams {
            let mut stream = writer.stream(name).unwrap();
            stream.write_all(bytes).unwrap();
            stream.finish().unwrap();
        }
        let (bytes, _) = writer.finish().unwrap();
        Contents::read(&bytes[..], Path::new("b"))
    }

    #[test]
    fn a_whole_file_may_still_be_no_backup() {
        let refused = |info: &Info, files: &[(&str, &[u8])], streams: &[(&str, &[u8])], words| {
            let why = read(info, files, streams).unwrap_err();
            assert_eq!(why.kind, Exit::Verification);
            assert!(why.to_string().contains(words), "{why}");
        };
        let none = info(&[]);
        assert!(read(&none, &[], &[]).is_ok());
        for name in ["device/evil", "device/boot/record.3", "evil"] {
            refused(&none, &[(name, b"")], &[], "no part of a backup");
        }
        refused(&none, &[("device/pins/v1.0.0", b"x")], &[], "longer than 0");
        refused(
            &none,
            &[("device/keys/0000", b"")],
            &[],
            "does not know this key",
        );
        let one = info(&[("overlays/v1.0.0", "overlays/v1.0.0")]);
        let name = "overlays/v1.0.0";
        refused(&none, &[], &[(name, b"")], "does not have this stream");
        refused(&one, &[], &[], "is missing");
        refused(&one, &[], &[(name, b"rubbish")], name);
        let elsewhere = info(&[("overlays/v1.0.0", "overlays/.new-v1.0.0")]);
        refused(&elsewhere, &[], &[(name, b"")], "place");
        let nobody = info(&[("overlays/v1.0.0", "overlays/nobody")]);
        refused(&nobody, &[], &[(name, b"")], "its place is no version's");
        // What could not be used on the device either is no damage.
        let papers: &[(&str, &[u8])] = &[
            ("device/boot/record.0", &[1; 4097]),
            ("device/manifests/v1.0.0.deployment.json", b"{}"),
            ("device/manifests/v1.0.0.json", b"not json"),
        ];
        let contents = read(&none, papers, &[]).unwrap();
        assert!(contents.record().is_none() && contents.receipts.is_empty());
    }
}
