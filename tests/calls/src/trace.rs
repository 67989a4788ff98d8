//! Runs a program under ptrace.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _};
use std::process::Command;
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::call::Call;
use crate::spawn;

/// What a traced program did.
#[derive(Debug)]
pub struct Traced {
    /// Its exit code; 128 and the signal, if one ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
    /// Its calls that changed or synced files, and its threads' and children's,
    /// in the order in which they returned. Failed ones are left out.
    pub calls: Vec<Call>,
}

/// Runs a command to its end, and what it starts.
pub fn trace(command: &mut Command) -> Traced {
    alone(command, Tracer::default())
}

/// Runs a command, and kills it and what it has started as soon as so many of its
/// calls that change or sync files have returned: a moment that does not depend on
/// how fast a machine is.
pub fn kill_after(command: &mut Command, calls: usize) -> Traced {
    let limit = Some(calls);
    alone(
        command,
        Tracer {
            limit,
            ..Tracer::default()
        },
    )
}

/// Whoever waits hears of all children of its thread: this one has no others.
fn alone(command: &mut Command, tracer: Tracer) -> Traced {
    thread::scope(|scope| scope.spawn(|| run(command, tracer)).join()).unwrap()
}

#[allow(clippy::zombie_processes, reason = "the tracer waits for it")]
fn run(command: &mut Command, mut tracer: Tracer) -> Traced {
    let mut stdout = tempfile::tempfile().unwrap();
    let mut stderr = tempfile::tempfile().unwrap();
    command
        .stdout(stdout.try_clone().unwrap())
        .stderr(stderr.try_clone().unwrap());
    let child = spawn::traced(command).unwrap();
    let first = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let code = tracer.follow(first);
    let text = |file: &mut std::fs::File| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Traced {
        code,
        stdout: text(&mut stdout),
        stderr: text(&mut stderr),
        calls: tracer.calls,
    }
}

#[derive(Default)]
struct Tracer {
    known: BTreeSet<Pid>,
    /// Calls that have begun, by who makes them.
    begun: BTreeMap<Pid, Call>,
    calls: Vec<Call>,
    /// After how many calls everybody is killed.
    limit: Option<usize>,
}

impl Tracer {
    fn follow(&mut self, first: Pid) -> i32 {
        // Only this thread's: other tests of this program have children too.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let mut code = None;
        loop {
            let resumed = match waitpid(None, Some(flags)) {
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => return code.unwrap(),
                Err(why) => panic!("wait for a traced program: {why}"),
                Ok(WaitStatus::Exited(pid, exit)) => {
                    self.known.remove(&pid);
                    code = code.or((pid == first).then_some(exit));
                    continue;
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.known.remove(&pid);
                    code = code.or((pid == first).then_some(128 + signal as i32));
                    continue;
                }
                Ok(WaitStatus::PtraceSyscall(pid)) => {
                    self.at_call(pid);
                    if self.is_over() {
                        self.known.iter().copied().for_each(end);
                    }
                    ptrace::syscall(pid, None)
                }
                Ok(WaitStatus::PtraceEvent(pid, _, _)) => ptrace::syscall(pid, None),
                Ok(WaitStatus::Stopped(pid, signal)) => self.at_signal(pid, signal),
                Ok(_) => continue,
            };
            match resumed {
                // Gone meanwhile; its end is the next thing to be heard.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(why) => panic!("resume a traced program: {why}"),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.calls.len() >= limit)
    }

    /// A new tracee stops once of its own: after its exec, or at its birth.
    fn at_signal(&mut self, pid: Pid, signal: Signal) -> nix::Result<()> {
        if !self.known.insert(pid) {
            let own = (signal != Signal::SIGTRAP).then_some(signal);
            return ptrace::syscall(pid, own);
        }
        if self.is_over() {
            end(pid);
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

    fn at_call(&mut self, pid: Pid) {
        let (Ok(info), Ok(registers)) = (ptrace::syscall_info(pid), ptrace::getregs(pid)) else {
            return;
        };
        if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            let arguments = [
                registers.rdi,
                registers.rsi,
                registers.rdx,
                registers.r10,
                registers.r8,
                registers.r9,
            ];
            let number = i64::try_from(registers.orig_rax).unwrap_or(-1);
            if let Some(call) = Call::of(pid, number, &arguments) {
                self.begun.insert(pid, call);
            }
        } else if let Some(call) = self.begun.remove(&pid) {
            // Errors are the last 4095 numbers.
            if registers.rax <= u64::MAX - 4095 {
                self.calls.push(call);
            }
        }
    }
}

fn end(pid: Pid) {
    // It may have come to its end already.
    let _ = kill(pid, Signal::SIGKILL);
}
