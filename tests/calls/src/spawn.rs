//! A child that is traced from its first instruction.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use nix::sys::ptrace;

/// Starts a command traced by the calling thread; it stops after its exec.
pub(crate) fn traced(command: &mut Command) -> io::Result<Child> {
    // SAFETY: between fork and exec only async-signal-safe functions may be
    // called; this is one system call, and takes no lock and no memory.
    unsafe {
        command.pre_exec(|| ptrace::traceme().map_err(io::Error::from));
    }
    command.spawn()
}
