//! Runs an executable that may do anything: hang, fork, flood, ignore signals.
//! When it returns, neither the executable nor anything it started is left.
//!
//! Between the caller and the executable stands a supervisor, a process of its
//! own (`op-dbus-agent run-child`), made a child subreaper (prctl(2)): whatever
//! the executable starts, and however often it forks and calls setsid, it stays
//! below this one supervisor, which kills all that is below it. So many may run
//! side by side: each ends its own and nobody else's.
//!
//! The other ways are worse. A subreaper in the agent itself cannot tell whose
//! orphan it was handed. A process group or session is left by a call to setsid.
//! A control group for each needs a unit with delegation, and would not be there
//! when the agent is run by hand; the unit's own control group still ends what
//! outruns the supervisor (systemd.kill(5)). In a PID namespace of its own a
//! check would see other numbers than those in the host's pid files.
//!
//! The supervisor holds the limit. It notices that its caller died by the pipe
//! it reports through, and then ends everything as well.

pub mod supervisor;
mod tree;

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

/// Between SIGTERM at the limit and SIGKILL.
pub const MANNERS: Duration = Duration::from_millis(500);
/// For killing all that is left. A process that waits for a dead disk cannot be
/// killed; it is given up after this.
pub const SWEEP: Duration = Duration::from_secs(2);
/// What the supervisor may take beyond these, on a busy machine.
const SLACK: Duration = Duration::from_secs(5);
/// Above what a report can be: output is escaped, so up to six bytes for one.
const REPORT_LIMIT: u64 = 8 * 1024 * 1024;

/// One run of an executable.
#[derive(Debug, Clone)]
pub struct Job {
    /// The executable, an absolute path, and its arguments.
    pub argv: Vec<OsString>,
    /// What it reads on standard input; at most some KiB are meant.
    pub stdin: Vec<u8>,
    /// How long it may run.
    pub limit: Duration,
    /// How many bytes of its output (both streams, in the order written) are
    /// kept, from the end; at most 1 MiB. The rest is read and dropped.
    pub keep: usize,
}

/// How it came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal, which was not ours.
    Signalled(i32),
    /// It was killed at its limit.
    TimedOut,
    /// It could not be executed.
    NotStarted(String),
    /// The supervisor died or could not work: nothing is known.
    Lost(String),
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signalled(signal) => write!(f, "killed by signal {signal}"),
            Self::TimedOut => write!(f, "killed at its time limit"),
            Self::NotStarted(reason) => write!(f, "could not be started: {reason}"),
            Self::Lost(reason) => write!(f, "could not be supervised: {reason}"),
        }
    }
}

/// An executable that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub how: How,
    /// The end of what it wrote; what was no UTF-8 is replaced.
    pub output: String,
    /// Bytes written before that, and dropped.
    pub dropped: u64,
    /// Processes of it that were still there after it had ended, and are gone.
    pub swept: u32,
    /// Processes that could not be killed: they wait for a device.
    pub stuck: u32,
}

impl Ended {
    fn without_output(how: How) -> Self {
        Self {
            how,
            output: String::new(),
            dropped: 0,
            swept: 0,
            stuck: 0,
        }
    }

    fn lost(what: &str, error: impl std::fmt::Display) -> Self {
        Self::without_output(How::Lost(format!("{what}: {error}")))
    }

    /// The last line that says something, as a person may see it: no control
    /// characters, at most `limit` bytes.
    pub fn last_line(&self, limit: usize) -> String {
        let line = self.output.lines().rev().map(str::trim);
        let line = line.into_iter().find(|line| !line.is_empty());
        let mut said = String::new();
        for character in line.unwrap_or_default().chars() {
            if said.len() + character.len_utf8() > limit {
                break;
            }
            if !character.is_control() {
                said.push(character);
            }
        }
        said
    }
}

/// Starts supervisors.
#[derive(Debug, Clone)]
pub struct Runner {
    program: PathBuf,
}

impl Default for Runner {
    /// The supervisor is this very program, also when its file was replaced since.
    fn default() -> Self {
        Self::with("/proc/self/exe")
    }
}

impl Runner {
    /// With another `op-dbus-agent` as supervisor: for tests, whose own program
    /// is none.
    pub fn with(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
        }
    }

    /// Runs `job` to its end, within its limit and a few seconds, and leaves no
    /// process and no thread behind. May be called from many threads at once.
    pub fn run(&self, job: &Job) -> Ended {
        let mut supervisor = match self.start(job) {
            Ok(child) => child,
            Err(error) => return Ended::lost("start the supervisor", error),
        };
        let deadline = Instant::now() + job.limit + MANNERS + SWEEP + SLACK;
        let report = talk(&mut supervisor, &job.stdin, deadline);
        if report.is_err() {
            // It hangs or is dying. Without it, its children fall to the unit.
            supervisor.kill().ok();
        }
        let gone = bury(&mut supervisor, deadline + SLACK);
        match report {
            Ok(report) => serde_json::from_slice(&report).unwrap_or_else(|_| {
                Ended::lost(
                    "the supervisor died",
                    gone.unwrap_or_else(|| "hangs".into()),
                )
            }),
            Err(error) => Ended::lost("hear the supervisor", error),
        }
    }

    fn start(&self, job: &Job) -> std::io::Result<Child> {
        Command::new(&self.program)
            .arg("run-child")
            .arg(format!("--limit-ms={}", job.limit.as_millis()))
            .arg(format!("--keep={}", job.keep))
            .arg("--")
            .args(&job.argv)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    }
}

/// Hands over `stdin` (the supervisor reads all of it before anything else), and
/// reads its report.
fn talk(supervisor: &mut Child, stdin: &[u8], deadline: Instant) -> std::io::Result<Vec<u8>> {
    if let Some(mut pipe) = supervisor.stdin.take() {
        pipe.write_all(stdin)?;
    }
    match supervisor.stdout.take() {
        Some(pipe) => read_until(pipe, deadline),
        None => Ok(Vec::new()),
    }
}

fn read_until(mut pipe: ChildStdout, deadline: Instant) -> std::io::Result<Vec<u8>> {
    let mut report = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut watched = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
        match poll(&mut watched, timeout.as_ref()) {
            Ok(0) => return Err(std::io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match pipe.read(&mut chunk)? {
            0 => return Ok(report),
            read => report.extend_from_slice(chunk.get(..read).unwrap_or_default()),
        }
        if report.len() as u64 > REPORT_LIMIT {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
    }
}

/// Waits for a supervisor that has said everything or was killed; its exit
/// status in words. None: it cannot be killed, and is left to init.
fn bury(supervisor: &mut Child, deadline: Instant) -> Option<String> {
    loop {
        match supervisor.try_wait() {
            Ok(Some(status)) => return Some(status.to_string()),
            Err(error) => return Some(error.to_string()),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
            Ok(None) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_short_and_plain() {
        let mut ended = Ended::without_output(How::Exited(1));
        assert_eq!(ended.last_line(200), "");
        ended.output = "first\n \x1b[31mdisk \u{7}full\r\n\n".to_owned();
        assert_eq!(ended.last_line(200), "[31mdisk full");
        assert_eq!(ended.last_line(5), "[31md");
        ended.output = "äöü".to_owned();
        assert_eq!(ended.last_line(3), "ä");
    }

    #[test]
    fn a_supervisor_that_is_none_is_said() {
        let job = Job {
            argv: vec!["/bin/true".into()],
            stdin: Vec::new(),
            limit: Duration::from_secs(1),
            keep: 10,
        };
        let nothing = Runner::with("/nonexistent").run(&job);
        assert!(matches!(nothing.how, How::Lost(reason) if reason.contains("start")));
        let mute = Runner::with("/bin/true").run(&job);
        assert!(matches!(mute.how, How::Lost(_)));
    }
}
