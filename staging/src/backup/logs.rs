//! The audit logs in a backup.

use std::io::{self, Read};

use op_dbus_bootstate::audit::{AuditHead, Line, Verifier};
use sha2::{Digest as _, Sha256};

/// The log a device is writing.
pub(crate) const CURRENT: &str = "log.jsonl";

/// One log file of a backup.
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
pub(crate) fn read(file: &str, content: impl Read, mut each: impl FnMut(&Line)) -> io::Result<Log> {
    let mut hashed = Hashed {
        inner: content,
        hash: Sha256::new(),
    };
    let mut verifier = Verifier::new(None);
    let mut broken = None;
    crate::auditlog::whole_lines(&mut hashed, |line| {
        if broken.is_none() {
            broken = verifier.line(line).err().map(|why| why.to_string());
        }
        if let Ok(line) = serde_json::from_slice(line) {
            each(&line);
        }
    })?;
    Ok(Log {
        file: file.to_owned(),
        sum: hashed.hash.finalize().into(),
        head: verifier.end().unwrap_or_default(),
        broken,
    })
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
struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
