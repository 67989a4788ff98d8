//! The hash-chained audit log: one JSON object a line.
//!
//! Every line carries the SHA-256 of the line before it (`prev`; zeros in the
//! first), and the boot record holds the number of lines and the hash of the
//! last. A line that was edited, dropped, repeated or moved breaks the chain; a
//! tail that was cut off shows against the record.
//!
//! **Order of writes.** A writer appends and syncs its lines first and commits
//! the record second. After a crash between the two the log is *ahead*: lines
//! that chain on from the record's head and were never acknowledged. They stay;
//! the next writer continues after them. A log that is *behind* the record, or
//! does not contain the record's head at its place, was tampered with or lost.
//!
//! **Segments.** A log that has grown is closed and goes on in a new file
//! ([`Segment`]), with the same numbers and the same chain: the new file's first
//! line is [`Kind::Rotated`]. Old segments are removed only after a line has said
//! up to which one ([`Rotation::removed`]); so a log may begin at any number, if a
//! line of it says why.
//!
//! **Kinds of later releases.** An event whose kind this program does not know is
//! an event all the same ([`Kind::Unknown`]): the chain is over the bytes of the
//! lines, and setting a log aside because a newer program wrote to it would be a
//! false alarm.

mod segment;
mod verify;

pub use segment::{OPEN, Segment};
pub use verify::{AuditError, Verifier};

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ending::Ending;
use crate::ident::{BootId, Digest};
use crate::record::Attempt;
use crate::version::Version;

/// Longest line a reader accepts, in bytes. A writer shortens `detail` to stay far below.
pub const LINE_MAX: usize = 8192;
/// Longest `detail`, in bytes.
pub const DETAIL_MAX: usize = 1024;

/// Where the log ended when the record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Lines in the log.
    pub length: u64,
    /// SHA-256 of the last line without its newline; zeros when there is none.
    pub head: Digest,
    /// Transitions that could not be logged (full or broken medium).
    pub missed: u32,
}

impl Default for AuditHead {
    fn default() -> Self {
        Self {
            length: 0,
            head: Digest([0; 32]),
            missed: 0,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The store was made.
    Prepared,
    /// A version was received and published.
    Received,
    /// A stream was refused.
    Refused,
    /// A version was put on trial.
    Staged,
    /// A trial that had not booted gave way to another.
    Replaced,
    /// A trial was taken back.
    Cancelled,
    /// A boot dealt with a candidate.
    Attempt,
    /// Attempts were dropped before they could be logged.
    AttemptsDropped,
    /// A version proved itself.
    Blessed,
    /// A version was judged unhealthy.
    Condemned,
    /// An orderly shutdown gave a try back.
    Refunded,
    /// A version was taken out of quarantine at the operator's word.
    Released,
    /// The record was repaired or rebuilt.
    Repaired,
    /// A version was deleted, with all that belonged to it.
    Pruned,
    /// The operator pinned a version: it is not deleted.
    Pinned,
    /// The operator took that back.
    Unpinned,
    /// What the device knew came from a backup. With a digest: a version that
    /// had proved itself by that backup.
    Restored,
    /// How a boot ended, as the boot after it could tell.
    Ended,
    /// A full segment of the log was closed; this line begins the next one.
    Rotated,
    /// A kind of a later release. Only read, never written.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Prepared => "prepared",
            Self::Received => "received",
            Self::Refused => "refused",
            Self::Staged => "staged",
            Self::Replaced => "replaced",
            Self::Cancelled => "cancelled",
            Self::Attempt => "attempt",
            Self::AttemptsDropped => "attempts-dropped",
            Self::Blessed => "blessed",
            Self::Condemned => "condemned",
            Self::Refunded => "refunded",
            Self::Released => "released",
            Self::Repaired => "repaired",
            Self::Pruned => "pruned",
            Self::Pinned => "pinned",
            Self::Unpinned => "unpinned",
            Self::Restored => "restored",
            Self::Ended => "ended",
            Self::Rotated => "rotated",
            Self::Unknown => "unknown",
        })
    }
}

/// An event before it has a place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// To which version, where one is known.
    pub version: Option<Version>,
    /// With which content.
    pub digest: Option<Digest>,
    /// The boot it belongs to, where that is not the writer's own.
    pub boot: Option<BootId>,
    /// How that boot ended: of [`Kind::Ended`].
    pub ending: Option<Ending>,
    /// What was closed, and what is kept no longer: of [`Kind::Rotated`].
    pub rotation: Option<Rotation>,
    /// The rest, for people.
    pub detail: String,
}

impl Event {
    /// An event about one deployment.
    pub fn about(kind: Kind, deployment: &crate::Deployment, detail: impl Into<String>) -> Self {
        Self {
            kind,
            version: Some(deployment.version.clone()),
            digest: Some(deployment.digest),
            boot: None,
            ending: None,
            rotation: None,
            detail: detail.into(),
        }
    }

    /// An event about none.
    pub fn general(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            version: None,
            digest: None,
            boot: None,
            ending: None,
            rotation: None,
            detail: detail.into(),
        }
    }

    /// The same with its text as the log will have it.
    #[must_use]
    pub fn shortened(self) -> Self {
        Self {
            detail: shorten(self.detail, DETAIL_MAX),
            ..self
        }
    }

    /// A boot attempt the record kept for the log.
    pub fn attempt(attempt: &Attempt) -> Self {
        let role = attempt
            .slot
            .map_or_else(|| "rescue".to_owned(), |slot| slot.to_string());
        Self {
            kind: Kind::Attempt,
            version: None,
            digest: attempt.digest,
            boot: Some(attempt.boot_id),
            ending: None,
            rotation: None,
            detail: format!(
                "{role}: {}; {}",
                attempt.outcome.words(),
                attempt.reason.sentence()
            ),
        }
    }
}

/// A line of the log, by its number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its number.
    pub n: u64,
    /// SHA-256 of it, without its newline.
    pub sha256: Digest,
}

/// What a line [`Kind::Rotated`] says of the segments before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rotation {
    /// The last line of the segment that was closed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub closed: Option<Place>,
    /// The last line that is kept no longer, since this rotation or one before; it
    /// and all before it may be gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub removed: Option<Place>,
}

/// Who writes a line, and when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stamp<'a> {
    /// The program, and the user it runs for.
    pub actor: &'a str,
    /// The clock, RFC 3339.
    pub time: &'a str,
    /// This boot, where it is known.
    pub boot: Option<BootId>,
    /// Milliseconds since this boot began (`CLOCK_BOOTTIME`).
    pub up_ms: Option<u64>,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 1.
    pub n: u64,
    /// The writer's clock, RFC 3339. A claim: an unattended device's clock may be wrong.
    pub time: String,
    /// The kernel boot it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub boot: Option<BootId>,
    /// Milliseconds from that boot's begin to the writing of this line; none
    /// where it tells of a boot before the writer's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub up_ms: Option<u64>,
    /// Who wrote it: the program, and the user it ran for.
    pub actor: String,
    /// What happened.
    pub event: Kind,
    /// To which version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<Version>,
    /// With which content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
    /// How the boot ended: of [`Kind::Ended`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ending: Option<Ending>,
    /// Of [`Kind::Rotated`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rotation: Option<Rotation>,
    /// The rest, for people.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub detail: String,
    /// SHA-256 of the line before.
    pub prev: Digest,
}

/// SHA-256 of one line, without its newline.
pub fn hash_line(line: &[u8]) -> Digest {
    Digest(Sha256::digest(line).into())
}

fn shorten(mut text: String, max: usize) -> String {
    if text.len() > max {
        let cut = (0..=max)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// Appends an event to a chain: the line to write (without newline), and the head after it.
pub fn append(
    head: AuditHead,
    event: Event,
    stamp: &Stamp<'_>,
) -> Result<(String, AuditHead), serde_json::Error> {
    let n = head.length.saturating_add(1);
    let is_of_this_boot = event.boot.is_none() || event.boot == stamp.boot;
    let line = serde_json::to_string(&Line {
        n,
        time: stamp.time.to_owned(),
        boot: event.boot.or(stamp.boot),
        up_ms: stamp.up_ms.filter(|_| is_of_this_boot),
        actor: shorten(stamp.actor.to_owned(), DETAIL_MAX),
        event: event.kind,
        version: event.version,
        digest: event.digest,
        ending: event.ending,
        rotation: event.rotation,
        detail: shorten(event.detail, DETAIL_MAX),
        prev: head.head,
    })?;
    let after = AuditHead {
        length: n,
        head: hash_line(line.as_bytes()),
        missed: head.missed,
    };
    Ok((line, after))
}

#[cfg(test)]
mod tests;
