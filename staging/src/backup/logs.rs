//! The audit logs in a backup.

use std::io::{self, Read};

use op_dbus_bootstate::audit::{AuditHead, Line, Verifier};
use sha2::{Digest as _, Sha256};

/// The log a device is writing.
pub(crate) const CURRENT: &str = "log.jsonl";

/// One log of a backup: one file, or all segments of the one in use.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// Its name in `audit/`.
    pub(crate) file: String,
    /// SHA-256 of all of it.
    pub(crate) sum: [u8; 32],
    /// Lines it has, and the last one's hash, as far as it verifies.
    pub(crate) head: AuditHead,
    /// Why it does not verify; none if it does.
    pub(crate) broken: Option<String>,
}

/// Reads a log to its end, handing each line that can be read to `each`, and says
/// what it is.
pub(crate) fn read(file: &str, content: impl Read, each: impl FnMut(&Line)) -> io::Result<Log> {
    let mut reading = Reading::default();
    reading.take(content, each)?;
    Ok(reading.end(file))
}

/// A log whose segments come one after the other.
#[derive(Default)]
pub(crate) struct Reading {
    hash: Sha256,
    verifier: Verifier,
    broken: Option<String>,
}

impl Reading {
    /// Reads the next one to its end.
    pub(crate) fn take(
        &mut self,
        content: impl Read,
        mut each: impl FnMut(&Line),
    ) -> io::Result<()> {
        let hashed = Hashed {
            inner: content,
            hash: &mut self.hash,
        };
        let (verifier, broken) = (&mut self.verifier, &mut self.broken);
        crate::auditlog::whole_lines(hashed, |line| {
            if broken.is_none() {
                *broken = verifier.line(line).err().map(|why| why.to_string());
            }
            if let Ok(line) = serde_json::from_slice(line) {
                each(&line);
            }
        })
    }

    /// What it is. `file` is its name.
    pub(crate) fn end(self, file: &str) -> Log {
        let mut broken = self.broken;
        let head = self.verifier.at();
        if broken.is_none() {
            broken = self.verifier.end().err().map(|why| why.to_string());
        }
        Log {
            file: file.to_owned(),
            sum: self.hash.finalize().into(),
            head,
            broken,
        }
    }
}

impl Log {
    /// What the boot record of the same backup says against it.
    pub(crate) fn compare(&mut self, known: AuditHead) {
        if self.broken.is_some() || self.head.length > known.length {
            return;
        }
        if self.head.length < known.length {
            self.broken = Some(format!(
                "the log ends at line {}, the boot record knows of {}",
                self.head.length, known.length
            ));
        } else if self.head.head != known.head {
            self.broken = Some("its last line is not the one the boot record points to".to_owned());
        }
    }
}

/// Hashes what is read.
struct Hashed<'a, R> {
    inner: R,
    hash: &'a mut Sha256,
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
