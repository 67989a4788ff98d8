//! Reads the audit log through `op-dbus-stage`, which knows where its lines are.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::audit::{LINE_MAX, Line};
use serde::Deserialize;
use serde_json::Value;

/// Lines read at once, at most.
pub(super) const BATCH: u64 = 256;
/// Beyond what so many lines, each in JSON twice escaped, could be.
const ANSWER_MAX: u64 = BATCH * LINE_MAX as u64 * 2;

/// What changes with every line that is added to the log: its file, length and time.
pub(super) fn stamp(layout: &Layout) -> Option<(u64, u64, SystemTime)> {
    let found = fs::metadata(layout.audit_log()).ok()?;
    Some((found.ino(), found.len(), found.modified().ok()?))
}

/// The log of a store.
#[derive(Debug)]
pub(super) struct Log<'a> {
    /// The program.
    pub(super) stage: PathBuf,
    /// Where everything is.
    pub(super) layout: &'a Layout,
}

#[derive(Deserialize)]
struct Answer {
    lines: Vec<Value>,
}

impl Log<'_> {
    /// The newest line.
    pub(super) fn last(&self) -> io::Result<Option<Line>> {
        Ok(self.ask(&["--last=1".to_owned()])?.pop())
    }

    /// The lines after number `after`, the oldest first, [`BATCH`] at most. Those
    /// that this release can't read are left out.
    pub(super) fn after(&self, after: u64) -> io::Result<Vec<Line>> {
        self.ask(&[format!("--after={after}"), format!("--first={BATCH}")])
    }

    fn ask(&self, which: &[String]) -> io::Result<Vec<Line>> {
        let mut child = Command::new(&self.stage)
            .arg("--json")
            .arg("--run")
            .arg(&self.layout.run)
            .arg("--sysroot")
            .arg(&self.layout.sysroot)
            .arg("--store")
            .arg(&self.layout.store)
            .args(["audit", "log"])
            .args(which)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut answer = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            // When it ends here, a child that has more to say ends by SIGPIPE.
            pipe.take(ANSWER_MAX).read_to_end(&mut answer)?;
        }
        let status = child.wait()?;
        if !status.success() {
            return Err(io::Error::other(format!("op-dbus-stage: {status}")));
        }
        let answer: Answer = serde_json::from_slice(&answer)?;
        let lines = answer.lines.into_iter();
        Ok(lines
            .filter_map(|line| serde_json::from_value(line).ok())
            .collect())
    }
}
