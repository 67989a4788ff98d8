//! The looking: one boot of the real activator, again in the same boot, and then
//! everything that can be read. Nothing is judged here.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use op_dbus_bootstate::audit::AuditHead;
use op_dbus_bootstate::{codec, record};
use op_dbus_release::tree::{self, Cache};

use super::sound::{self, Signed};
use crate::host::Host;
use crate::programs::Ran;
use crate::story::REMOVED;

/// One copy of the boot record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copy {
    /// It can be read.
    Valid(Record),
    /// It can't, and why.
    Bad(String),
}

/// What of a boot record is judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub sequence: u64,
    /// Versions, by role.
    pub good: Option<String>,
    /// The one before.
    pub fallback: Option<String>,
    /// Version, tries and refunds left.
    pub trial: Option<(String, u8, u8)>,
    /// Boots of good without a verdict.
    pub unblessed: u8,
    /// Likewise of fallback.
    pub fallback_unblessed: u8,
    /// Versions out of use.
    pub quarantine: Vec<String>,
    /// Security epochs below are refused.
    pub floor: u32,
    /// Versions in it whose subvolume is not the one the record knows.
    pub strangers: Vec<String>,
    /// What it knows of the audit log.
    pub audit: AuditHead,
    /// All of it, to see whether anything changed.
    pub bytes: Vec<u8>,
}

/// What a boot said it did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// `activated`, `rescue`, `failed`, `off`
    pub outcome: String,
    /// Role and version that run.
    pub active: Option<(String, String)>,
    /// Whether the boot counts.
    pub counted: bool,
    /// What works less well than it should.
    pub degraded: Vec<String>,
    /// Why.
    pub reason: String,
}

/// All that was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// Exit code of the activator.
    pub exit: Option<i32>,
    /// What it said.
    pub boot: Seen,
    /// Whether there is a store at all, with all its directories.
    pub store: bool,
    /// The record's two copies after the boot.
    pub copies: Vec<Copy>,
    /// The copies and the activator's word once it ran again in the same boot.
    pub second_copies: Vec<Copy>,
    /// Likewise.
    pub second: Seen,
    /// Digest of the tree that was activated, read through its mount.
    pub digest: Option<String>,
    /// What the overlay's mount shows of the files of interest.
    pub files: BTreeMap<String, String>,
    /// Why nothing new can be written there, if so.
    pub unwritable: Option<String>,
    /// What the upper layers hold of the files of interest, by version.
    pub uppers: BTreeMap<String, BTreeMap<String, String>>,
    /// Versions in the store.
    pub versions: Vec<String>,
    /// Versions with a plan for their overlay.
    pub plans: Vec<String>,
    /// Pinned versions.
    pub pins: Vec<String>,
    /// Versions that are not what was released, and why.
    pub unsound: BTreeMap<String, String>,
    /// Why the audit log is not whole, if so.
    pub broken_chain: Option<String>,
    /// Exit code of `verify`, and the versions it finds not sound, where it ran.
    pub verify: Option<(i32, Vec<String>)>,
    /// Exit code of `audit verify`, and what it said, where it ran.
    pub audit: Option<(i32, String)>,
    /// The audit log's lines, without those about boots.
    pub log: Vec<(String, Option<String>)>,
    /// What could not be looked at, and why.
    pub unreadable: Vec<String>,
}

impl Observation {
    /// The highest sequence of the record's copies.
    pub(super) fn sequence(&self) -> Option<u64> {
        let sequence = |copy: &Copy| match copy {
            Copy::Valid(record) => Some(record.sequence),
            Copy::Bad(_) => None,
        };
        self.copies.iter().filter_map(sequence).max()
    }

    fn note<T>(&mut self, what: &str, result: io::Result<T>) -> Option<T> {
        result
            .map_err(|why| self.unreadable.push(format!("{what}: {why}")))
            .ok()
    }
}

/// What is looked for.
#[derive(Debug)]
pub struct Sights<'a> {
    /// Files of interest in overlays.
    pub files: &'a [&'static str],
    /// What was released.
    pub signed: &'a Signed,
    /// Whether `verify` and `audit verify` are asked, too.
    pub verify: bool,
}

/// Boots, and looks at everything. All programs that ran are added to `ran`.
pub fn observe(host: &Host, sights: &Sights<'_>, ran: &mut Vec<Ran>) -> io::Result<Observation> {
    let files = sights.files;
    let mut seen = Observation::default();
    let first = host.boot()?;
    seen.exit = first.code;
    ran.push(first);
    seen.boot = boot(host, &mut seen.unreadable);
    let store = host.store();
    // `prepare` makes one directory after the other; older kernels (6.1) commit
    // the subvolume before what is in it.
    seen.store = ["boot", "deploy", "overlays"]
        .iter()
        .all(|dir| store.join(dir).is_dir());
    if !seen.store {
        return Ok(seen);
    }
    seen.copies = copies(&store);
    ran.push(host.boot()?);
    seen.second = boot(host, &mut seen.unreadable);
    seen.second_copies = copies(&store);

    if seen.boot.active.is_some() {
        let digest = tree::digest_on_this_thread(&host.lower(), Cache::Keep)
            .map_err(|why| io::Error::other(why.to_string()));
        seen.digest = seen
            .note("the activated tree", digest)
            .map(|found| found.tree.digest.to_string());
        let overlay = host.overlay();
        let shown = contents(&overlay, files);
        seen.files = seen.note("the overlay", shown).unwrap_or_default();
        seen.unwritable = write_new(&overlay).err().map(|why| why.to_string());
    }
    let uppers = uppers(&store, files);
    seen.uppers = seen.note("overlays", uppers).unwrap_or_default();
    let versions = names(&store.join("deploy"));
    seen.versions = seen.note("deploy", versions).unwrap_or_default();
    // Made with the first pin.
    let pins = if_any(names(&store.join("pins")));
    seen.pins = seen.note("pins", pins).unwrap_or_default();
    // Made with the first plan.
    let plans = if_any(names(&store.join("plans")));
    seen.plans = seen.note("plans", plans).unwrap_or_default();
    let log = log(&store);
    seen.log = seen.note("the audit log", log).unwrap_or_default();

    let unsound = sound::unsound(&store, sights.signed);
    seen.unsound = seen.note("versions", unsound).unwrap_or_default();
    let chain = sound::broken_chain(&store, anchor(&seen.copies));
    seen.broken_chain = seen.note("the audit log's chain", chain).flatten();
    if sights.verify {
        verify(host, &mut seen, ran)?;
    }
    Ok(seen)
}

/// What the record that is in use knows of the audit log.
fn anchor(copies: &[Copy]) -> Option<AuditHead> {
    let valid = copies.iter().filter_map(|copy| match copy {
        Copy::Valid(record) => Some(record),
        Copy::Bad(_) => None,
    });
    valid
        .max_by_key(|record| record.sequence)
        .map(|record| record.audit)
}

fn verify(host: &Host, seen: &mut Observation, ran: &mut Vec<Ran>) -> io::Result<()> {
    let verify = host.stage(&["verify"])?;
    seen.verify = verify.code.map(|code| (code, unsound(&verify.stdout)));
    ran.push(verify);
    let audit = host.stage(&["audit", "verify"])?;
    seen.audit = audit.code.map(|code| (code, audit.stderr.clone()));
    ran.push(audit);
    Ok(())
}

/// What the activator said of this boot.
fn boot(host: &Host, unreadable: &mut Vec<String>) -> Seen {
    let found = match host.activation() {
        Ok(found) => found,
        Err(why) => {
            unreadable.push(format!("activation.json: {why}"));
            return Seen::default();
        }
    };
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    let outcome = text("outcome");
    Seen {
        active: (outcome == "activated").then(|| (text("slot"), text("version"))),
        outcome,
        counted: found["counted"] == true,
        degraded: words(&found["degraded"]),
        reason: text("reason"),
    }
}

fn words(value: &serde_json::Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let words = list.iter().filter_map(|word| word.as_str());
    words.map(str::to_owned).collect()
}

/// Both copies of the record.
pub(super) fn copies(store: &Path) -> Vec<Copy> {
    let names = ["record.0", "record.1"];
    names.map(|name| copy(store, name)).to_vec()
}

fn copy(store: &Path, name: &str) -> Copy {
    let bytes = match fs::read(store.join("boot").join(name)) {
        Ok(bytes) => bytes,
        Err(why) => return Copy::Bad(why.to_string()),
    };
    match codec::decode(&bytes) {
        Ok(record) => Copy::Valid(summary(&record, store, bytes)),
        Err(why) => Copy::Bad(why.to_string()),
    }
}

fn summary(record: &record::Record, store: &Path, bytes: Vec<u8>) -> Record {
    let name = |slot| {
        record
            .slot(slot)
            .map(|deployment| deployment.version.to_string())
    };
    let strangers = record
        .deployments()
        .filter(|(_, deployment)| {
            let path = store.join("deploy").join(deployment.version.as_str());
            !sound::is_known(&path, &deployment.identity)
        })
        .map(|(_, deployment)| deployment.version.to_string())
        .collect();
    let quarantine = record.quarantine.entries().iter();
    Record {
        sequence: record.sequence,
        good: name(record::Slot::Good),
        fallback: name(record::Slot::Fallback),
        trial: record.trial.as_ref().map(|trial| {
            let version = trial.deployment.version.to_string();
            (version, trial.tries_left, trial.refunds_left)
        }),
        unblessed: record.good_unblessed,
        fallback_unblessed: record.fallback_unblessed,
        quarantine: quarantine.map(|entry| entry.version.to_string()).collect(),
        floor: record.epoch_floor,
        strangers,
        audit: record.audit,
        bytes,
    }
}

/// What files hold, as far as they are there.
fn contents(dir: &Path, files: &[&str]) -> io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for &file in files {
        match content(dir, file) {
            Ok(content) => {
                found.insert(file.to_owned(), content);
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) if why.kind() == io::ErrorKind::NotADirectory => {}
            Err(why) => return Err(why),
        }
    }
    Ok(found)
}

/// What a file holds; of `file?mode` its mode.
fn content(dir: &Path, file: &str) -> io::Result<String> {
    if let Some(file) = file.strip_suffix("?mode") {
        let mode = dir.join(file).symlink_metadata()?.mode() & 0o7777;
        return Ok(format!("{mode:o}"));
    }
    let path = dir.join(file);
    let found = path.symlink_metadata()?;
    if found.file_type().is_char_device() && found.rdev() == 0 {
        return Ok(REMOVED.to_owned());
    }
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

/// Makes a file in the overlay, durably, and takes it away again.
fn write_new(overlay: &Path) -> io::Result<()> {
    use io::Write as _;
    let path = overlay.join("the explorer was here");
    let mut file = fs::File::create_new(&path)?;
    file.write_all(b"and wrote")?;
    file.sync_all()?;
    drop(file);
    fs::remove_file(path)
}

fn uppers(store: &Path, files: &[&str]) -> io::Result<BTreeMap<String, BTreeMap<String, String>>> {
    let dir = store.join("overlays");
    let mut found = BTreeMap::new();
    for version in names(&dir)? {
        let files = contents(&dir.join(&version).join("upper"), files)?;
        found.insert(version, files);
    }
    Ok(found)
}

/// Names in a directory, sorted, without those that are nobody's to see.
pub(super) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = all_names(dir)?;
    names.retain(|name| !name.starts_with('.'));
    Ok(names)
}

/// Likewise, and none in a directory that is not there.
pub(super) fn if_any(names: io::Result<Vec<String>>) -> io::Result<Vec<String>> {
    match names {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names,
    }
}

/// All names in a directory, sorted.
pub(super) fn all_names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Lines of the audit log, as far as they are whole. Not those about boots,
/// which the record keeps until a command takes them over.
pub(super) fn log(store: &Path) -> io::Result<Vec<(String, Option<String>)>> {
    let audit = store.join("audit");
    let mut text = String::new();
    for name in sound::files(&audit)? {
        text.push_str(&fs::read_to_string(audit.join(name))?);
    }
    let mut lines = Vec::new();
    for line in text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let event = line["event"].as_str().unwrap_or("no event");
        if !event.starts_with("attempt") {
            let version = line["version"].as_str().map(str::to_owned);
            lines.push((event.to_owned(), version));
        }
    }
    Ok(lines)
}

/// What `verify` finds not sound.
pub(super) fn unsound(stdout: &str) -> Vec<String> {
    let Ok(report) = serde_json::from_str::<serde_json::Value>(stdout) else {
        return vec!["(no report)".to_owned()];
    };
    let findings = report["findings"].as_array().cloned().unwrap_or_default();
    let unsound = |finding: &&serde_json::Value| finding["problems"] != serde_json::json!([]);
    findings
        .iter()
        .filter(unsound)
        .map(|finding| finding["name"].as_str().unwrap_or("?").to_owned())
        .collect()
}
