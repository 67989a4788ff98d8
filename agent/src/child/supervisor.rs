//! The process between the agent and an executable it runs: see [`super`].
//!
//! Single-threaded, so that it can wait for any child.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitStatus, getpid, kill_process_group, pidfd_open,
    set_child_subreaper, setsid,
};

use super::{Ended, How, MANNERS, SWEEP, tree};

/// More output than this is not kept, whatever was asked for.
const KEEP_LIMIT: usize = 1024 * 1024;
/// What an executable could take for the agent's own: it is not systemd's
/// service.
const NOT_HANDED_ON: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// Reads standard input to its end, runs `argv` with it, and prints [`Ended`] as
/// JSON. When nobody listens on standard output any more, all is ended at once.
pub fn main(argv: &[OsString], limit: Duration, keep: usize) -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input)?;
    // Out of reach of what the terminal sends to the agent: that would kill this
    // process first. Fails where it leads a group already, which is as good.
    setsid().ok();
    set_child_subreaper(Some(getpid()))?;
    let ended = match start(argv) {
        Ok(started) => supervise(started, &input, limit, keep.min(KEEP_LIMIT)),
        Err(reason) => Ended::without_output(How::NotStarted(reason)),
    };
    let report = serde_json::to_vec(&ended)?;
    io::stdout().lock().write_all(&report)
}

struct Started {
    pid: Pid,
    /// None as soon as there is nothing more to say.
    stdin: Option<File>,
    /// None as soon as nobody can write to it any more.
    output: Option<File>,
}

/// Starts it in a process group of its own, both its output streams in one pipe.
fn start(argv: &[OsString]) -> Result<Started, String> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err("no executable was named".to_owned());
    };
    let (stdin, feed) = pipe_with(PipeFlags::CLOEXEC).map_err(words)?;
    let (output, stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(words)?;
    let stderr = stdout.try_clone().map_err(words)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr));
    for name in NOT_HANDED_ON {
        command.env_remove(name);
    }
    // Its number is all that is needed: it is waited for with all the others.
    let child = spawn(&mut command)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok(Started {
        pid: pid.ok_or("its process number is none")?,
        stdin: Some(nonblocking(feed)?),
        output: Some(nonblocking(output)?),
    })
}

fn spawn(command: &mut Command) -> Result<std::process::Child, String> {
    let mut patience = 10;
    loop {
        match command.spawn() {
            Ok(child) => return Ok(child),
            // Somebody has it open for writing: an editor, or a process that
            // forked from one and has not executed its program yet.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && patience > 0 => {
                patience -= 1;
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
                return Err("neither a program nor a script that begins with #!".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn nonblocking(pipe: OwnedFd) -> Result<File, String> {
    fcntl_setfl(&pipe, OFlags::NONBLOCK).map_err(words)?;
    Ok(File::from(pipe))
}

#[allow(clippy::needless_pass_by_value)]
fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn supervise(mut started: Started, input: &[u8], limit: Duration, keep: usize) -> Ended {
    let mut deadline = Instant::now() + limit;
    let mut unsaid = input;
    let mut tail = Tail::new(keep);
    let mut status = None;
    let mut timed_out = false;
    let handle = pidfd_open(started.pid, PidfdFlags::empty()).ok();
    loop {
        tree::reap(|pid, how| {
            if pid == started.pid {
                status = Some(how);
            }
        });
        if status.is_some() {
            break;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            if timed_out {
                break;
            }
            timed_out = true;
            deadline = Instant::now() + MANNERS;
            kill_process_group(started.pid, Signal::TERM).ok();
            continue;
        }
        started.feed(&mut unsaid);
        started.listen(&mut tail);
        if !await_something(&started, handle.as_ref(), left) {
            break;
        }
    }
    let swept = tree::sweep(SWEEP);
    started.listen_to_the_end(&mut tail);
    let main_is_among_the_swept = u32::from(status.is_none() && swept.stuck == 0);
    Ended {
        how: match status {
            _ if timed_out => How::TimedOut,
            Some(status) => how(status),
            None => How::Lost("the agent went away".to_owned()),
        },
        dropped: tail.dropped,
        output: tail.text(),
        swept: swept.ended.saturating_sub(main_is_among_the_swept),
        stuck: swept.stuck,
    }
}

fn how(status: WaitStatus) -> How {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => How::Exited(code),
        (None, Some(signal)) => How::Signalled(signal),
        (None, None) => How::Lost("an end of no known kind".to_owned()),
    }
}

/// Returns when something can be read, written or waited for, or after `left`.
/// False: nobody listens to us any more.
fn await_something(started: &Started, handle: Option<&OwnedFd>, left: Duration) -> bool {
    let report = io::stdout();
    // Asks for nothing: POLLERR comes by itself once all readers are gone.
    let mut watched = vec![PollFd::new(&report, PollFlags::empty())];
    if let Some(output) = &started.output {
        watched.push(PollFd::new(output, PollFlags::IN));
    }
    if let Some(stdin) = &started.stdin {
        watched.push(PollFd::new(stdin, PollFlags::OUT));
    }
    let left = match handle {
        Some(handle) => {
            watched.push(PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN));
            left
        }
        // Without it the end of the executable wakes nobody.
        None => left.min(Duration::from_millis(20)),
    };
    let timeout = Timespec::try_from(left).ok();
    match poll(&mut watched, timeout.as_ref()) {
        Ok(_) => !watched
            .first()
            .is_some_and(|report| report.revents().contains(PollFlags::ERR)),
        Err(Errno::INTR) => true,
        Err(_) => {
            // Out of memory: no reason to spin.
            thread::sleep(Duration::from_millis(20));
            true
        }
    }
}

impl Started {
    /// Writes what the pipe takes. One that does not read hears nothing more.
    fn feed(&mut self, unsaid: &mut &[u8]) {
        while let Some(pipe) = &mut self.stdin {
            match pipe.write(unsaid) {
                Ok(0) => self.stdin = None,
                Ok(written) => *unsaid = unsaid.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.stdin = None,
            }
        }
    }

    /// Reads once, so that a flood cannot keep anybody from looking at the clock.
    /// True: there may be more.
    fn listen(&mut self, tail: &mut Tail) -> bool {
        let mut chunk = [0; 16 * 1024];
        let Some(pipe) = &mut self.output else {
            return false;
        };
        match pipe.read(&mut chunk) {
            Ok(read @ 1..) => {
                tail.add(chunk.get(..read).unwrap_or_default());
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Ok(0) | Err(_) => {
                self.output = None;
                false
            }
        }
    }

    /// What is still in the pipe. Bounded: it holds at most 1 MiB (pipe(7)), but
    /// a process that could not be killed may still write to it.
    fn listen_to_the_end(&mut self, tail: &mut Tail) {
        for _ in 0..128 {
            if !self.listen(tail) {
                return;
            }
        }
    }
}

/// The end of what was written.
struct Tail {
    keep: usize,
    kept: Vec<u8>,
    dropped: u64,
}

impl Tail {
    fn new(keep: usize) -> Self {
        Self {
            keep,
            kept: Vec::new(),
            dropped: 0,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        let surplus = self.kept.len().saturating_sub(self.keep);
        self.kept.drain(..surplus);
        self.dropped += surplus as u64;
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept() {
        let mut tail = Tail::new(4);
        tail.add(b"ab");
        assert_eq!((tail.kept.as_slice(), tail.dropped), (&b"ab"[..], 0));
        tail.add(b"cdefgh");
        assert_eq!((tail.kept.as_slice(), tail.dropped), (&b"efgh"[..], 4));
        assert_eq!(tail.text(), "efgh");
    }
}
