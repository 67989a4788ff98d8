//! Runs a program under ptrace and stops it at a [`Moment`].
//!
//! The program, its threads and its children are followed. At the moment the
//! process stands in a ptrace stop and everything else that is traced gets
//! SIGSTOP, so between "paused" and the power cut nothing of it writes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::exec::Output;
use crate::moment::{Moment, Side, Subject};
use crate::proto::{Event, Exit};

/// The hidden subcommand in which a child asks to be traced before it becomes
/// the program; done so because the hook of `Command` would need `unsafe`.
pub const TRACED: &str = "exec-traced";

/// How a traced run ended.
#[derive(Debug)]
pub enum Outcome {
    /// The program stands at the moment until it is told to go on.
    Paused(Stop),
    /// It ended first.
    Missed(Exit),
}

/// Where the program was stopped.
#[derive(Debug)]
pub struct Stop {
    pid: Pid,
    subject: Option<String>,
    first: Pid,
    others: Vec<Pid>,
    output: Option<Output>,
}

impl Stop {
    /// The event that tells the host.
    pub fn event(&self, moment: &Moment) -> Event {
        Event::Paused {
            syscall: moment.call.name.to_owned(),
            subject: self.subject.clone(),
            pid: self.pid.as_raw(),
        }
    }

    /// Lets the program go on, no longer traced, and waits for its end.
    pub fn go_on(self) -> io::Result<Exit> {
        for pid in &self.others {
            // It stops for SIGSTOP, and must be let go from there; or it is gone.
            if waitpid(*pid, Some(WaitPidFlag::__WALL)).is_ok() {
                let _ = ptrace::detach(*pid, None);
            }
        }
        ptrace::detach(self.pid, None)?;
        let code = loop {
            match waitpid(self.first, Some(WaitPidFlag::__WALL))? {
                WaitStatus::Exited(_, code) => break code,
                WaitStatus::Signaled(_, signal, _) => break 128 + signal as i32,
                _ => {}
            }
        };
        Ok(match self.output {
            Some(output) => output.into_exit(code),
            None => Exit {
                code,
                ..Exit::default()
            },
        })
    }
}

/// Runs `argv` until `moment` or its end, whichever comes first. The calling
/// thread becomes the tracer; it must not have other children.
pub fn run_until(argv: &[String], moment: &Moment) -> io::Result<Outcome> {
    let mut child = Command::new("/proc/self/exe")
        .arg(TRACED)
        .args(argv)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = Output::of(&mut child);
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    match (Trace {
        moment,
        seen: 0,
        known: BTreeSet::new(),
    })
    .follow(pid)?
    {
        Ok(mut stop) => {
            stop.output = Some(output);
            Ok(Outcome::Paused(stop))
        }
        Err(code) => Ok(Outcome::Missed(output.into_exit(code))),
    }
}

/// The child's half of [`run_until`]: asks to be traced and becomes `argv`.
/// Returns only when that failed.
pub fn become_traced(argv: &[String]) -> io::Error {
    if let Err(error) = ptrace::traceme() {
        return error.into();
    }
    let Some((program, arguments)) = argv.split_first() else {
        return io::Error::new(ErrorKind::InvalidInput, "nothing to run");
    };
    Command::new(program).args(arguments).exec()
}

/// Never returns: the machine is about to lose its power.
pub fn freeze() -> ! {
    loop {
        nix::unistd::pause();
    }
}

struct Trace<'a> {
    moment: &'a Moment,
    seen: u32,
    known: BTreeSet<Pid>,
}

impl Trace<'_> {
    /// `Ok(Ok(stop))` at the moment, `Ok(Err(code))` when `first` ended.
    fn follow(mut self, first: Pid) -> io::Result<Result<Stop, i32>> {
        let mut code = None;
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => {
                    return code
                        .map(Err)
                        .ok_or_else(|| io::Error::other("the traced program was lost"));
                }
                Err(error) => return Err(error.into()),
            };
            let resumed = match status {
                WaitStatus::Exited(pid, exit) => {
                    self.known.remove(&pid);
                    if pid == first {
                        code = Some(exit);
                    }
                    continue;
                }
                WaitStatus::Signaled(pid, signal, _) => {
                    self.known.remove(&pid);
                    if pid == first {
                        code = Some(128 + signal as i32);
                    }
                    continue;
                }
                WaitStatus::PtraceSyscall(pid) => {
                    if let Some(mut stop) = self.at_syscall(pid)? {
                        stop.first = first;
                        stop.others = self.stop_others(pid);
                        return Ok(Ok(stop));
                    }
                    ptrace::syscall(pid, None)
                }
                WaitStatus::PtraceEvent(pid, _, _) => ptrace::syscall(pid, None),
                WaitStatus::Stopped(pid, signal) => self.at_signal(pid, signal),
                _ => continue,
            };
            // A process that was killed between its stop and now is gone; its
            // end is reported by the next wait.
            match resumed {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A new tracee stops once before it runs: with SIGTRAP after its first
    /// exec, or with SIGSTOP after fork. Later signals are its own.
    fn at_signal(&mut self, pid: Pid, signal: Signal) -> nix::Result<()> {
        if !self.known.insert(pid) {
            let own = (signal != Signal::SIGTRAP).then_some(signal);
            return ptrace::syscall(pid, own);
        }
        ptrace::setoptions(
            pid,
            Options::PTRACE_O_TRACESYSGOOD
                | Options::PTRACE_O_TRACEFORK
                | Options::PTRACE_O_TRACEVFORK
                | Options::PTRACE_O_TRACECLONE
                | Options::PTRACE_O_TRACEEXEC
                | Options::PTRACE_O_EXITKILL,
        )?;
        ptrace::syscall(pid, None)
    }

    fn at_syscall(&mut self, pid: Pid) -> io::Result<Option<Stop>> {
        let side = match ptrace::syscall_info(pid) {
            Ok(info) if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY => Side::Entry,
            Ok(info) if info.op == libc::PTRACE_SYSCALL_INFO_EXIT => Side::Exit,
            Ok(_) | Err(Errno::ESRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if side != self.moment.side {
            return Ok(None);
        }
        let registers = match ptrace::getregs(pid) {
            Ok(registers) => registers,
            Err(Errno::ESRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if i64::try_from(registers.orig_rax) != Ok(self.moment.call.number) {
            return Ok(None);
        }
        // The kernel reads 32 bits of an ioctl's request.
        let request = u32::try_from(registers.rsi & u64::from(u32::MAX)).ok();
        if self.moment.call.request.is_some() && self.moment.call.request != request {
            return Ok(None);
        }
        // The kernel keeps the arguments' registers over the call.
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10];
        let subjects: Vec<String> = self
            .moment
            .call
            .subjects
            .iter()
            .filter_map(|subject| named(pid, *subject, &arguments))
            .collect();
        let wanted = match &self.moment.about {
            None => subjects.first().cloned(),
            Some(about) => match subjects.iter().find(|name| name.contains(about.as_str())) {
                Some(name) => Some(name.clone()),
                None => return Ok(None),
            },
        };
        self.seen += 1;
        Ok((self.seen == self.moment.nth).then_some(Stop {
            pid,
            subject: wanted,
            first: pid,
            others: Vec::new(),
            output: None,
        }))
    }

    fn stop_others(&self, stopped: Pid) -> Vec<Pid> {
        let others = self.known.iter().copied().filter(|pid| *pid != stopped);
        // One that is already gone needs no stopping.
        others
            .filter(|pid| kill(*pid, Signal::SIGSTOP).is_ok())
            .collect()
    }
}

fn named(pid: Pid, subject: Subject, arguments: &[u64; 4]) -> Option<String> {
    match subject {
        Subject::Fd(index) => {
            let fd = arguments.get(index)?;
            let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
            Some(link.to_string_lossy().into_owned())
        }
        Subject::Path(index) => text_at(pid, *arguments.get(index)?),
    }
}

/// The NUL-terminated text at `address` in the memory of `pid`, at most a
/// page: less than `PATH_MAX` is always enough to recognise a path.
fn text_at(pid: Pid, address: u64) -> Option<String> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 64];
    while bytes.len() < 4096 {
        // 64-byte steps never run past the end of a mapped page that holds the
        // text when they are aligned.
        let at = address.checked_add(u64::try_from(bytes.len()).ok()?)?;
        let want = 64 - usize::try_from(at % 64).ok()?;
        let part = chunk.get_mut(..want)?;
        memory.read_exact_at(part, at).ok()?;
        if let Some(end) = part.iter().position(|byte| *byte == 0) {
            bytes.extend_from_slice(part.get(..end)?);
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.extend_from_slice(part);
    }
    None
}
