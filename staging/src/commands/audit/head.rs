//! A statement of where the log ended, to be kept elsewhere.
//!
//! Somebody who can write both the log and the boot record can make up another
//! past. What they can't do is make it agree with a head that left the device
//! before: so a head that is kept elsewhere fixes all lines up to it.

use std::io;
use std::path::{Path, PathBuf};

use op_dbus_activator::files;
use op_dbus_bootstate::audit::{AuditHead, Line};
use op_dbus_bootstate::{BootId, Digest, Uuid};
use op_dbus_trust::{Keyring, MAX_CERTIFICATE, MAX_SIGNATURE};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::signed::{said, signature_path};

/// The schema this program writes.
const SCHEMA: u32 = 1;
/// What the file says it is.
const KIND: &str = "op-dbus-audit-head";
/// Longest file, in bytes.
const MAX_LEN: usize = 16 * 1024;
const REMEDY: &str = "name a head.json that op-dbus-stage audit export wrote";

/// Where a log ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Of this description.
    pub(crate) schema: u32,
    /// That it is one.
    pub(crate) kind: String,
    /// UUID of the store's subvolume.
    pub(crate) store: Uuid,
    /// Number of the first line that was kept; 0 if there was none.
    pub(crate) first: u64,
    /// Number of the last line.
    pub(crate) length: u64,
    /// SHA-256 of the last line.
    pub(crate) sha256: Digest,
    /// Transitions that could not be logged, by the boot record; none without one.
    pub(crate) missed: Option<u32>,
    /// The boot it was written in.
    pub(crate) boot: Option<BootId>,
    /// The device's clock then. A claim.
    pub(crate) time: String,
    /// What wrote it.
    pub(crate) program: String,
}

impl Head {
    /// A statement of this program.
    pub(crate) fn new(
        context: &Context,
        first: u64,
        head: AuditHead,
        missed: Option<u32>,
    ) -> Result<Self> {
        let info = op_dbus_btrfs::info_of(&context.layout.store)?;
        Ok(Self {
            schema: SCHEMA,
            kind: KIND.to_owned(),
            store: Uuid(info.uuid),
            first,
            length: head.length,
            sha256: head.head,
            missed,
            boot: context.boot_id().ok(),
            time: crate::auditlog::now(),
            program: format!("op-dbus-stage {}", env!("CARGO_PKG_VERSION")),
        })
    }

    /// Its bytes, which are what is signed.
    pub(crate) fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads one from its bytes. The error is one line.
    pub(crate) fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let head: Self = serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
        if head.kind != KIND {
            return Err("is no head of an audit log".to_owned());
        }
        if head.schema != SCHEMA {
            return Err(format!("has schema {}, not {SCHEMA}", head.schema));
        }
        Ok(head)
    }
}

/// A head that is held against a log.
#[derive(Debug, Serialize)]
pub(crate) struct Witness {
    /// Its file.
    file: PathBuf,
    /// Number of the line it is of.
    pub(crate) line: u64,
    /// When it was made, by the device's clock.
    time: String,
    /// Fingerprint and name of who signed it, if that was checked.
    signer: Option<String>,
    #[serde(skip)]
    head: Head,
    /// Whether the line is the one; none if it was not met.
    #[serde(skip)]
    is_met: Option<bool>,
    #[serde(skip)]
    first: Option<u64>,
}

impl Witness {
    /// Reads a head, and checks whose it is if there are keys to check it with.
    pub(crate) fn read(context: &Context, path: &Path, keys: Option<&Keyring>) -> Result<Self> {
        let bytes = read(path, MAX_LEN)?;
        let signature = signature_path(path);
        let mut signer = None;
        if let Some(keys) = keys {
            let text = read(&signature, MAX_SIGNATURE)?;
            let found = keys
                .verify(&bytes, &text)
                .map_err(|why| said(Exit::Verification, &signature, &why))?;
            let name = found.user_id.as_deref().unwrap_or_default();
            signer = Some(
                format!("{} {name}", found.fingerprint)
                    .trim_end()
                    .to_owned(),
            );
        } else if signature.exists() {
            context.warn(format!(
                "{}: was not checked; name the signer's certificate: --key FILE",
                signature.display()
            ));
        }
        let head = Head::parse(&bytes)
            .map_err(|why| Failure::new(Exit::Verification, path.display(), why, REMEDY))?;
        Ok(Self {
            file: path.to_owned(),
            line: head.length,
            time: head.time.clone(),
            signer,
            // Nothing precedes the first line.
            is_met: (head.length == 0).then_some(head.sha256 == AuditHead::default().head),
            head,
            first: None,
        })
    }

    /// Refuses a head of another store.
    pub(crate) fn of_store(&self, store: &Path) -> Result<()> {
        let info = op_dbus_btrfs::info_of(store)?;
        if Uuid(info.uuid) == self.head.store {
            return Ok(());
        }
        Err(self.differs(
            format!(
                "is of the store {}, and this one is {}",
                self.head.store,
                Uuid(info.uuid)
            ),
            "hold it against the log of that device, or of the device before a restore",
        ))
    }

    /// Refuses a head of another store than another head's.
    pub(crate) fn of_same(&self, other: Option<&Self>) -> Result<()> {
        match other {
            Some(other) if other.head.store != self.head.store => Err(self.differs(
                format!(
                    "is of the store {}, and {} is of {}",
                    self.head.store,
                    other.file.display(),
                    other.head.store
                ),
                "hold it against an export of the same device",
            )),
            _ => Ok(()),
        }
    }

    /// Takes the next line of the log, with the head after it.
    pub(crate) fn line(&mut self, line: &Line, at: &AuditHead) {
        if self.first.is_none() {
            self.first = Some(line.n);
            if line.n.checked_sub(1) == Some(self.head.length) {
                self.is_met = Some(line.prev == self.head.sha256);
            }
        }
        if at.length == self.head.length {
            self.is_met = Some(at.head == self.head.sha256);
        }
    }

    /// Whether the log, which ends at this line, has it at its place.
    pub(crate) fn check(&self, end: u64) -> Result<()> {
        let line = self.head.length;
        let tampered = "keep a copy of the audit directory and of this head, and find out who wrote to the log";
        match self.is_met {
            Some(true) => Ok(()),
            Some(false) => Err(self.differs(
                format!("line {line} of the log is another one than when this head was made: the log was rewritten"),
                tampered,
            )),
            None if line > end => Err(self.differs(
                format!("the log ends at line {end}, this head is of line {line}: its end was cut off"),
                tampered,
            )),
            None => Err(self.differs(
                format!("line {line} is kept no longer, so the log can't be held against this head"),
                "hold it against an export of that time, or against a newer head",
            )),
        }
    }

    fn differs(&self, why: String, remedy: &str) -> Failure {
        Failure::new(Exit::Verification, self.file.display(), why, remedy)
    }

    /// What it shows, for people.
    pub(crate) fn told(&self) -> String {
        let signed = self.signer.as_ref();
        let signed = signed.map_or_else(String::new, |signer| format!(", signed by {signer}"));
        format!(
            "It has line {} as it was when {} was made ({} by the device's clock{signed}).",
            self.line,
            self.file.display(),
            self.time
        )
    }
}

/// The certificates in these files.
pub(crate) fn keyring(files: &[PathBuf]) -> Result<Option<Keyring>> {
    let mut bytes = Vec::new();
    let Some(first) = files.first() else {
        return Ok(None);
    };
    for file in files {
        bytes.extend(read(file, MAX_CERTIFICATE)?);
        bytes.push(b'\n');
    }
    Keyring::from_bytes(&bytes, first)
        .map(Some)
        .map_err(|why| said(Exit::Verification, first, &why))
}

fn read(path: &Path, max: usize) -> Result<Vec<u8>> {
    files::read_bounded(path, max).map_err(|why| match why.kind() {
        io::ErrorKind::FileTooLarge => {
            Failure::new(Exit::Verification, path.display(), why, REMEDY)
        }
        io::ErrorKind::NotFound => Failure::new(
            Exit::Verification,
            path.display(),
            "does not exist",
            "name a file that is there; a signature is looked for beside its head, as head.json.asc",
        ),
        _ => Failure::io(format_args!("{}: read", path.display()), why),
    })
}
