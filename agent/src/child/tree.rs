//! Ends every process below this one.
//!
//! A subreaper has a child as long as anything it ever started lives: what loses
//! its parent becomes its child. So "no child left" (ECHILD) means that all is
//! over, and nothing else has to be believed.

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, wait,
};

/// Takes every child that has ended off the process table; `seen` gets each.
/// True: there is no child any more.
pub(super) fn reap(mut seen: impl FnMut(Pid, WaitStatus)) -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => seen(pid, status),
            Ok(None) => return false,
            Err(Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

/// What a sweep found.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// Ended by it, or just before.
    pub(super) ended: u32,
    /// Still there at its limit.
    pub(super) stuck: u32,
}

/// Kills what is below this process until nothing is, at most for `limit`.
pub(super) fn sweep(limit: Duration) -> Swept {
    let deadline = Instant::now() + limit;
    let mut swept = Swept::default();
    let mut pause = Duration::from_micros(200);
    loop {
        if reap(|_, _| swept.ended += 1) {
            return swept;
        }
        let below = below(std::process::id());
        for process in &below {
            process.kill();
        }
        if Instant::now() >= deadline {
            swept.stuck = u32::try_from(below.len()).unwrap_or(u32::MAX);
            return swept;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// A process as /proc showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    /// Clock ticks from boot to its start: tells it from a later one with its
    /// number.
    start: u64,
}

impl Process {
    /// One whose number passed to another process in between is left alone: the
    /// handle is opened first, then it is seen whether it is still the same.
    fn kill(self) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return;
        };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        if look(self.pid).is_some_and(|now| now.start == self.start) {
            pidfd_send_signal(&handle, Signal::KILL).ok();
        }
    }
}

/// Every process below `root`, at one glance. Those that fork meanwhile may be
/// missed; the next glance sees them.
fn below(root: u32) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    descendants(root, numbers.filter_map(look))
}

fn look(pid: u32) -> Option<Process> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A line of /proc/PID/stat (`proc_pid_stat(5)`). The second field is the
/// program's name in parentheses, which may hold anything, also parentheses.
fn parse(pid: u32, line: &str) -> Option<Process> {
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    // Field 3 is the state.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    // Field 22.
    let start = fields.nth(17)?.parse().ok()?;
    Some(Process { pid, parent, start })
}

fn descendants(root: u32, processes: impl Iterator<Item = Process>) -> Vec<Process> {
    let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut todo = vec![root];
    while let Some(parent) = todo.pop() {
        // Taken out, so that a loop in a torn glance ends.
        for process in children.remove(&parent).unwrap_or_default() {
            todo.push(process.pid);
            found.push(process);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_is_no_trap() {
        let rest = "S 7 8 8 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2 3";
        let found = parse(9, &format!("9 (a) S 1 (b)) {rest}")).unwrap();
        assert_eq!((found.pid, found.parent, found.start), (9, 7, 4711));
        assert_eq!(
            parse(9, &format!("9 (a) {}", rest.replacen('S', "Z", 1))),
            None
        );
        assert_eq!(parse(9, "9 (a"), None);
        assert_eq!(parse(9, "9 (a) S 7"), None);
    }

    #[test]
    fn only_what_is_below_is_found() {
        let process = |(pid, parent)| Process {
            pid,
            parent,
            start: 0,
        };
        let all = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 5), (8, 7), (7, 8)].map(process);
        let mut found: Vec<_> = descendants(2, all.into_iter())
            .iter()
            .map(|p| p.pid)
            .collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
        assert_eq!(descendants(7, all.into_iter()).len(), 2);
    }

    #[test]
    fn this_process_is_seen_below_its_parent() {
        let me = std::process::id();
        let found = below(std::os::unix::process::parent_id());
        assert!(found.iter().any(|process| process.pid == me));
    }
}
