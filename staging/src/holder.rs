//! Who holds a lock: for the error message only.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Names the process that holds a lock on a file, if the kernel tells.
///
/// `/proc/locks` names inode and process, but its device number is not the one
/// `stat` shows on Btrfs; so the process must also have that file open.
pub(crate) fn of(path: &Path) -> Option<String> {
    let inode = path.metadata().ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let holders = locks.lines().filter_map(|line| parse(line, inode));
    let mut holders = holders.filter(|&process| has_open(process, path));
    let process = holders.next()?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some(format!("{} (process {process})", name.trim()))
}

/// The process of one line, if it holds a whole-file lock on that inode:
/// `1: FLOCK  ADVISORY  WRITE 1234 00:1f:260 0 EOF`. A waiter's line has `->`.
fn parse(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    if words.next()? != "FLOCK" {
        return None;
    }
    let process = words.nth(2)?.parse().ok()?;
    let found: u64 = words.next()?.rsplit(':').next()?.parse().ok()?;
    (found == inode).then_some(process)
}

fn has_open(process: u32, path: &Path) -> bool {
    let Ok(wanted) = path.canonicalize() else {
        return false;
    };
    let Ok(entries) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernel_s_lines() {
        let line = "3: FLOCK  ADVISORY  WRITE 1234 00:1f:260 0 EOF";
        assert_eq!(parse(line, 260), Some(1234));
        assert_eq!(parse(line, 261), None);
        assert_eq!(
            parse("3: -> FLOCK  ADVISORY  WRITE 99 00:1f:260 0 EOF", 260),
            None
        );
        assert_eq!(
            parse("3: POSIX  ADVISORY  WRITE 1234 00:1f:260 0 EOF", 260),
            None
        );
        assert_eq!(parse("", 260), None);
    }

    #[test]
    fn finds_this_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let file = fs::File::create(&path).unwrap();
        assert_eq!(of(&path), None);
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        let holder = of(&path).unwrap();
        assert!(
            holder.contains(&format!("process {}", std::process::id())),
            "{holder}"
        );
    }
}
