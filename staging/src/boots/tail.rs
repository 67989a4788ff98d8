//! The newest lines of the audit log, in bounded time and memory.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use op_dbus_activator::files::open_flags;
use op_dbus_activator::layout::Layout;
use op_dbus_bootstate::audit::{LINE_MAX, Line};
use rustix::fs::OFlags;

/// Most bytes that are read: some thousands of lines, which is years of boots.
pub(crate) const BUDGET: u64 = 1 << 20;

/// Reads the last lines, oldest first, over as many segments as the budget
/// reaches. What is no entry is left out. The error says which file can't be
/// read; lines of the others are there all the same.
pub(crate) fn read(layout: &Layout, budget: u64) -> (Vec<Line>, Option<String>) {
    let mut left = budget;
    let mut chunks = Vec::new();
    let mut problem = None;
    let open = layout.audit_log();
    let (closed, why) = match segments(&layout.audit_dir()) {
        Ok(closed) => (closed, None),
        Err(why) => (Vec::new(), Some((layout.audit_dir(), why))),
    };
    let mut note = |path: &Path, why: &io::Error| {
        problem.get_or_insert_with(|| format!("{}: read: {why}", path.display()));
    };
    if let Some((path, why)) = why.filter(|(_, why)| why.kind() != io::ErrorKind::NotFound) {
        note(&path, &why);
    }
    for path in std::iter::once(open).chain(closed) {
        if left == 0 {
            break;
        }
        match end_of(&path, left) {
            Ok(bytes) => {
                left = left.saturating_sub(bytes.len() as u64);
                chunks.push(bytes);
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => note(&path, &why),
        }
    }
    let lines = chunks.iter().rev().flat_map(|bytes| lines(bytes));
    (lines.collect(), problem)
}

/// The entries in a piece of a log.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = Line> + '_ {
    bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| line.len() <= LINE_MAX)
        .filter_map(|line| serde_json::from_slice(line).ok())
}

/// The closed segments, `log.<first>-<last>.jsonl`, the newest first.
pub(crate) fn segments(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some((first, _)) = name.to_str().and_then(numbers) {
            found.push((first, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().rev().map(|(_, path)| path).collect())
}

/// The numbers of a closed segment's first and last line, by its name.
fn numbers(name: &str) -> Option<(u64, u64)> {
    let middle = name.strip_prefix("log.")?.strip_suffix(".jsonl")?;
    let (first, last) = middle.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// At most so many bytes of a file's end. No link is followed, and nothing is
/// waited for: the directory is root's, but this must not hang even so.
fn end_of(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut options = File::options();
    options.read(true);
    options.custom_flags(open_flags(OFlags::NOFOLLOW.union(OFlags::NONBLOCK)));
    let mut file = options.open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let start = found.len().saturating_sub(most);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn line(n: u64) -> String {
        let zeros = "0".repeat(64);
        format!(
            "{{\"n\":{n},\"time\":\"2026-11-23T10:00:00Z\",\"actor\":\"x\",\"event\":\"prepared\",\"prev\":\"{zeros}\"}}\n"
        )
    }

    fn numbered(lines: std::ops::RangeInclusive<u64>) -> String {
        lines.map(line).collect()
    }

    fn store() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), "/").with_store(dir.path());
        fs::create_dir(layout.audit_dir()).unwrap();
        (dir, layout)
    }

    fn read_numbers(layout: &Layout, budget: u64) -> (Vec<u64>, Option<String>) {
        let (lines, problem) = read(layout, budget);
        (lines.into_iter().map(|line| line.n).collect(), problem)
    }

    #[test]
    fn segments_follow_each_other_by_number() {
        let (_dir, layout) = store();
        let audit = layout.audit_dir();
        // By name the ninth would come after the tenth.
        fs::write(audit.join("log.9-10.jsonl"), numbered(9..=10)).unwrap();
        fs::write(audit.join("log.10000-10001.jsonl"), numbered(10000..=10001)).unwrap();
        fs::write(audit.join("log.set-aside.1"), numbered(1..=2)).unwrap();
        fs::write(audit.join("log.x-9.jsonl"), numbered(1..=2)).unwrap();
        fs::write(layout.audit_log(), numbered(10002..=10003)).unwrap();
        let expected = vec![9, 10, 10000, 10001, 10002, 10003];
        assert_eq!(read_numbers(&layout, BUDGET), (expected, None));
    }

    #[test]
    fn only_the_end_of_a_long_log_is_read() {
        let (_dir, layout) = store();
        fs::write(layout.audit_dir().join("log.1-5.jsonl"), numbered(1..=5)).unwrap();
        fs::write(layout.audit_log(), numbered(6..=1000)).unwrap();
        let budget = line(1000).len() as u64 * 3;
        // Two whole lines and a bit: lines of three digits are shorter.
        assert_eq!(read_numbers(&layout, budget).0, [998, 999, 1000]);
        assert_eq!(read_numbers(&layout, 10).0, [] as [u64; 0]);
    }

    #[test]
    fn broken_lines_cost_only_themselves() {
        let (_dir, layout) = store();
        let long = "x".repeat(LINE_MAX + 1);
        let text = format!("{}\0\u{1}garbage\n{long}\n{}{{\"n\":3", line(1), line(2));
        fs::write(layout.audit_log(), text).unwrap();
        assert_eq!(read_numbers(&layout, BUDGET), (vec![1, 2], None));
    }

    #[test]
    fn what_is_no_file_is_told_and_the_rest_read() {
        let (dir, layout) = store();
        fs::write(layout.audit_dir().join("log.1-2.jsonl"), numbered(1..=2)).unwrap();
        assert_eq!(
            read_numbers(&layout, BUDGET),
            (vec![1, 2], None),
            "no open segment"
        );
        let log = layout.audit_log();
        fs::create_dir(&log).unwrap();
        let (lines, problem) = read_numbers(&layout, BUDGET);
        assert_eq!(lines, [1, 2]);
        assert!(problem.unwrap().contains("not a regular file"));
        fs::remove_dir(&log).unwrap();
        symlink(dir.path().join("elsewhere"), &log).unwrap();
        assert!(read_numbers(&layout, BUDGET).1.is_some(), "a link");
        fs::remove_file(&log).unwrap();
        // Opened without O_NONBLOCK, this would never return.
        rustix::fs::mkfifoat(rustix::fs::CWD, &log, rustix::fs::Mode::RUSR).unwrap();
        assert!(
            read_numbers(&layout, BUDGET)
                .1
                .unwrap()
                .contains("not a regular file")
        );
    }
}
