//! Runs `op-dbus-stage`, and hears what it says: within bounds, whatever it says.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value as Json;

use super::error::{Error, Result};

/// Most that is kept of a result. A status with a thousand versions has 300 KiB.
const RESULT_MAX: usize = 4 << 20;
/// Longest line on standard error; what is longer is left out.
const LINE_MAX: usize = 16 << 10;
/// Most warnings of one run that are passed on to the journal.
const WARNINGS_MAX: usize = 50;
/// Reads after a child's end: what its pipes can hold, and something in between.
const REST_MAX: usize = 64;
/// Between SIGTERM at a limit and SIGKILL, and between that and giving up.
const MANNERS: Duration = Duration::from_secs(5);

/// How to run it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The program.
    pub program: PathBuf,
    /// Options in front of every command: where everything is.
    pub options: Vec<OsString>,
}

/// One run.
#[derive(Debug, Default)]
pub struct Job {
    /// The command and its arguments.
    pub args: Vec<OsString>,
    /// What it reads on standard input; nothing by default.
    pub stdin: Option<OwnedFd>,
    /// After this it is ended. Only for what changes nothing: the others come to
    /// an end of their own.
    pub limit: Option<Duration>,
}

/// Ends a run from another thread.
#[derive(Debug, Default)]
pub struct Stop(Mutex<Stopping>);

#[derive(Debug, Default)]
struct Stopping {
    is_asked: bool,
    child: Option<OwnedFd>,
}

impl Stop {
    /// Asks the run to end, now or as soon as it begins. Once only: a receive
    /// clears away what it wrote at the first signal, and dies of the second.
    pub fn ask(&self) {
        let mut stopping = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut stopping.is_asked, true) {
            terminate(stopping.child.as_ref());
        }
    }

    /// Whether it was asked.
    pub fn is_asked(&self) -> bool {
        let stopping = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stopping.is_asked
    }

    fn began(&self, child: OwnedFd) {
        let mut stopping = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stopping.is_asked {
            terminate(Some(&child));
        }
        stopping.child = Some(child);
    }
}

/// The descriptor stands for this very process, also once it is gone.
fn terminate(child: Option<&OwnedFd>) {
    if let Some(child) = child {
        // One that is gone already needs no signal.
        let _ = pidfd_send_signal(child, Signal::TERM);
    }
}

impl Stage {
    /// Runs to the end and returns the result it printed. `hear` gets each object
    /// on standard error that is neither a warning nor the error.
    pub fn run(&self, job: Job, stop: &Stop, hear: &mut dyn FnMut(&Json)) -> Result<Json> {
        let begun = Instant::now();
        let mut child = self.start(job.args, job.stdin)?;
        let died = |why: std::io::Error| {
            Error::failed(format!(
                "{}: {why}; see journalctl -b",
                self.program.display()
            ))
        };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let handle = |pid| pidfd_open(pid, PidfdFlags::empty());
        let watched = pid.ok_or(rustix::io::Errno::SRCH).and_then(handle);
        let ended = watched.map_err(std::io::Error::from).and_then(|exit| {
            stop.began(exit.try_clone()?);
            let mut heard = Heard::new(hear);
            let limit = job.limit.map(|limit| begun + limit);
            listen(&mut child, &exit, &mut heard, limit)?;
            Ok((child.wait()?, heard.result, heard.error))
        });
        match ended {
            Ok((status, result, error)) => self.judge(status, &result, error.as_ref()),
            Err(why) => {
                // Nothing of it is to run on that nobody hears. One that can't be
                // killed is not waited for either.
                let _ = child.kill();
                let _ = child.try_wait();
                Err(died(why))
            }
        }
    }

    fn start(&self, args: Vec<OsString>, stdin: Option<OwnedFd>) -> Result<Child> {
        Command::new(&self.program)
            .arg("--json")
            .args(&self.options)
            .args(args)
            // The service's environment is systemd's; nothing of it is needed.
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A terminal's Ctrl-C is for the service, which asks the child once.
            .process_group(0)
            .spawn()
            .map_err(|why| {
                let program = self.program.display();
                Error::failed(format!(
                    "{program}: {why}; is op-dbus installed completely?"
                ))
            })
    }

    fn judge(&self, status: ExitStatus, result: &Kept, error: Option<&Json>) -> Result<Json> {
        let program = self.program.display();
        let said = |error: &Json| Some(error.get("message")?.as_str()?.to_owned());
        match (status.code(), error.and_then(said)) {
            (Some(0), _) if result.is_whole => serde_json::from_slice(&result.bytes)
                .map_err(|why| Error::failed(format!("{program}: printed no JSON: {why}"))),
            (Some(0), _) => Err(Error::failed(format!("{program}: printed too much"))),
            (Some(code), Some(message)) => {
                Err(Error::of_code(u8::try_from(code).unwrap_or(1), message))
            }
            (Some(code), None) => Err(Error::of_code(
                u8::try_from(code).unwrap_or(1),
                format!("{program}: exit code {code} without a word; see journalctl -b"),
            )),
            (None, _) => Err(Error::failed(format!(
                "{program}: killed by signal {}; see journalctl -b",
                status.signal().unwrap_or_default()
            ))),
        }
    }
}

/// Bytes up to a limit.
#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    is_whole: bool,
}

impl Kept {
    const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            is_whole: true,
        }
    }

    fn add(&mut self, more: &[u8], limit: usize) {
        self.is_whole &= self.bytes.len() + more.len() <= limit;
        if self.is_whole {
            self.bytes.extend_from_slice(more);
        }
    }
}

/// What was heard so far.
struct Heard<'h> {
    result: Kept,
    line: Kept,
    error: Option<Json>,
    warnings: usize,
    hear: &'h mut dyn FnMut(&Json),
}

impl<'h> Heard<'h> {
    fn new(hear: &'h mut dyn FnMut(&Json)) -> Self {
        Self {
            result: Kept::new(),
            line: Kept::new(),
            error: None,
            warnings: 0,
            hear,
        }
    }

    fn stderr(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.add(piece, LINE_MAX);
            if piece.ends_with(b"\n") {
                let line = std::mem::replace(&mut self.line, Kept::new());
                if line.is_whole {
                    self.line(&line.bytes);
                }
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        let Ok(object) = serde_json::from_slice::<Json>(line) else {
            return self.warn(&String::from_utf8_lossy(line));
        };
        if let Some(error) = object.get("error") {
            self.error = Some(error.clone());
        } else if let Some(warning) = object.get("warning").and_then(Json::as_str) {
            self.warn(warning);
        } else {
            (self.hear)(&object);
        }
    }

    fn warn(&mut self, text: &str) {
        self.warnings += 1;
        if self.warnings <= WARNINGS_MAX {
            eprintln!("op-dbus-stage: warning: {}", text.trim_end().escape_debug());
        }
    }
}

/// Reads both pipes until the child is gone. What it may have left running, and
/// what holds its pipes open, is not waited for.
fn listen(
    child: &mut Child,
    exit: &OwnedFd,
    heard: &mut Heard<'_>,
    limit: Option<Instant>,
) -> std::io::Result<()> {
    let mut stdout = child
        .stdout
        .take()
        .map(|pipe| File::from(OwnedFd::from(pipe)));
    let mut stderr = child
        .stderr
        .take()
        .map(|pipe| File::from(OwnedFd::from(pipe)));
    let mut patience = Patience::new(limit);
    let mut rest = 0;
    loop {
        patience.check(exit)?;
        let ready = wait(exit, stdout.as_ref(), stderr.as_ref(), patience.until)?;
        if ready.out {
            read(&mut stdout, |bytes| heard.result.add(bytes, RESULT_MAX))?;
        }
        if ready.err {
            read(&mut stderr, |bytes| heard.stderr(bytes))?;
        }
        // Once it is gone there is no more than the pipes hold.
        rest += usize::from(ready.exit);
        if ready.exit && (rest > REST_MAX || !(ready.out || ready.err)) {
            return Ok(());
        }
    }
}

/// What is done about a child whose time is over.
struct Patience {
    until: Option<Instant>,
    next: &'static [Signal],
}

impl Patience {
    fn new(until: Option<Instant>) -> Self {
        Self {
            until,
            next: &[Signal::TERM, Signal::KILL],
        }
    }

    fn check(&mut self, child: &OwnedFd) -> std::io::Result<()> {
        if self.until.is_none_or(|until| Instant::now() < until) {
            return Ok(());
        }
        let Some((signal, rest)) = self.next.split_first() else {
            // It waits for a device that does not answer.
            return Err(std::io::ErrorKind::TimedOut.into());
        };
        let _ = pidfd_send_signal(child, *signal);
        self.until = Some(Instant::now() + MANNERS);
        self.next = rest;
        Ok(())
    }
}

/// What there is to do.
struct Ready {
    out: bool,
    err: bool,
    exit: bool,
}

/// Waits for output, the end or the limit. Whatever was written before the end
/// is reported before it.
fn wait(
    exit: &OwnedFd,
    stdout: Option<&File>,
    stderr: Option<&File>,
    limit: Option<Instant>,
) -> std::io::Result<Ready> {
    let mut fds = vec![PollFd::new(exit, PollFlags::IN)];
    fds.extend(stdout.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    fds.extend(stderr.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    loop {
        let left = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
    }
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    let exit = ready.next().unwrap_or_default();
    let out = stdout.is_some() && ready.next().unwrap_or_default();
    let err = stderr.is_some() && ready.next().unwrap_or_default();
    Ok(Ready { out, err, exit })
}

/// Reads what is there; at the end the pipe is let go.
fn read(pipe: &mut Option<File>, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut chunk = [0; 16 << 10];
    let Some(file) = pipe else { return Ok(()) };
    match file.read(&mut chunk) {
        Ok(0) => *pipe = None,
        Ok(count) => take(chunk.get(..count).unwrap_or_default()),
        Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
        Err(why) => return Err(why),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads_is_ended_at_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("stage");
        // By another process: one that this one had open for writing could not be
        // run while any thread forks.
        let text = "printf '#!/bin/sh\nexec sleep 60\n' > \"$0\" && chmod 755 \"$0\"";
        let made = Command::new("sh").args(["-c", text]).arg(&program).status();
        assert!(made.unwrap().success());
        let stage = Stage {
            program,
            options: Vec::new(),
        };
        let job = Job {
            limit: Some(Duration::from_millis(100)),
            ..Job::default()
        };
        let why = stage.run(job, &Stop::default(), &mut |_| ()).unwrap_err();
        assert!(why.message().contains("signal 15"), "{}", why.message());
    }
}
