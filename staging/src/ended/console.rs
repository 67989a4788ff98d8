//! The last words of kernels that panicked, kept beside the log:
//! `audit/console/<boot>.txt`, the newest few.
//!
//! systemd deletes its archive after two weeks, and a device whose trial
//! panicked may be looked at later. It is a service to people: that it could not
//! be kept never matters to anything else.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use op_dbus_activator::files::{self, Durable};
use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::BootId;

/// What is kept of one, in bytes.
pub(crate) const TAIL: usize = 4096;
/// How many are kept.
pub(crate) const KEPT: usize = 8;

/// Where they are.
pub(crate) fn dir(layout: &Layout) -> PathBuf {
    layout.audit_dir().join("console")
}

/// That of a boot.
pub(crate) fn path(layout: &Layout, boot: BootId) -> PathBuf {
    dir(layout).join(format!("{boot}.txt"))
}

/// Keeps the end of a boot's words, and of older ones the newest. Durable when
/// this returns.
pub(crate) fn keep(layout: &Layout, boot: BootId, words: &str) -> io::Result<()> {
    let dir = dir(layout);
    match fs::DirBuilder::new().mode(0o700).create(&dir) {
        Ok(()) => fs::File::open(layout.audit_dir())?.sync_all()?,
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
        Err(why) => return Err(why),
    }
    let text = tail(words);
    files::replace(&path(layout, boot), text.as_bytes(), 0o600, Durable::Yes)?;
    let mut kept = Vec::new();
    for entry in fs::read_dir(&dir)? {
        let entry = entry?;
        let written = entry.metadata().and_then(|meta| meta.modified())?;
        let is_own = entry.path() == path(layout, boot);
        kept.push((is_own, written, entry.path()));
    }
    kept.sort();
    for (_, _, old) in kept.iter().rev().skip(KEPT) {
        fs::remove_file(old)?;
    }
    Ok(())
}

/// The end of it from the begin of a line, fit to be shown on a terminal.
fn tail(words: &str) -> String {
    let plain: String = words
        .chars()
        .filter(|&c| c == '\n' || c == '\t' || !c.is_control())
        .collect();
    let over = plain.len().saturating_sub(TAIL);
    if over == 0 {
        return plain;
    }
    // The line before it may be cut, and so may a character.
    let next = plain.bytes().skip(over).position(|byte| byte == b'\n');
    let start = next.map_or(over, |at| over.saturating_add(at).saturating_add(1));
    let start = (start..plain.len()).find(|&at| plain.is_char_boundary(at));
    start
        .and_then(|start| plain.get(start..))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_of_the_end_are_kept() {
        assert_eq!(tail("a\u{1b}[2Jb\r\n\tc\n"), "a[2Jb\n\tc\n");
        let lines: Vec<_> = (0..1000).map(|n| format!("line {n:04} ö\n")).collect();
        let long = lines.concat();
        let end = tail(&long);
        assert!(end.len() <= TAIL && end.len() > TAIL - 20, "{}", end.len());
        assert!(end.starts_with("line ") && end.ends_with("line 0999 ö\n"));
        // One line, longer than all that is kept.
        let end = tail(&"ö".repeat(TAIL));
        assert!(end.len() <= TAIL && end.len() > TAIL - 4);
        assert_eq!(tail(""), "");
    }

    #[test]
    fn the_newest_stay() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), "/").with_store(dir.path());
        fs::create_dir(layout.audit_dir()).unwrap();
        for n in (1..=20).rev() {
            keep(&layout, BootId([n; 16]), &format!("boot {n}\n")).unwrap();
            let own = fs::read_to_string(path(&layout, BootId([n; 16]))).unwrap();
            assert_eq!(own, format!("boot {n}\n"));
        }
        assert_eq!(fs::read_dir(super::dir(&layout)).unwrap().count(), KEPT);
    }
}
