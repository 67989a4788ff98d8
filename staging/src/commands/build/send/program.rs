//! The `btrfs send` child.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};

use crate::error::{Exit, Failure, Result};

/// The highest version of streams that every part of this project reads.
const NEWEST: u32 = 2;
/// What the kernel says of the versions it writes.
const KERNEL: &str = "/sys/fs/btrfs/features/send_stream_version";
/// How much of the child's complaints is kept, in bytes.
const STDERR_MAX: u64 = 8 * 1024;

/// The btrfs program, and what it and the kernel can do together.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    /// None: it has no choice, and writes version 1.
    protocol: Option<u32>,
    compressed: bool,
}

/// The version of streams: the newest that kernel and program both write. None:
/// the program is older than the choice (5.18) and writes version 1.
fn protocol(kernel: &str, help: &str) -> Option<u32> {
    let kernel = kernel.trim().parse().unwrap_or(1);
    help.contains("--proto")
        .then_some(NEWEST.min(kernel).max(1))
}

impl Program {
    /// Asks the program and the kernel.
    pub(crate) fn find(path: &Path, compressed: bool) -> Result<Self> {
        let output = Command::new(path)
            .args(["send", "--help"])
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .map_err(|why| not_run(path, why))?;
        let help = String::from_utf8_lossy(&output.stdout);
        let kernel = fs::read_to_string(KERNEL).unwrap_or_default();
        let protocol = protocol(&kernel, &help);
        if compressed && protocol.is_none_or(|version| version < 2) {
            return Err(Failure::new(
                Exit::Refused,
                "--compressed-data",
                "needs version 2 of send streams, which this kernel or this btrfs program does not write",
                "leave it out, or build on Linux 6.0 and btrfs-progs 5.18 or newer",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            protocol,
            compressed,
        })
    }

    /// The version of streams it writes.
    pub(crate) fn stream_version(&self) -> u32 {
        self.protocol.unwrap_or(1)
    }

    /// Starts sending a subvolume, whole or as what is new since its parent.
    pub(crate) fn send(&self, path: &Path, parent: Option<&Path>) -> Result<Sending> {
        let mut command = self.command();
        if self.compressed {
            command.arg("--compressed-data");
        }
        if let Some(parent) = parent {
            command.arg("-p").arg(parent);
        }
        command.arg(path);
        self.start(command)
    }

    /// Likewise, with the length of what is new in its place.
    pub(crate) fn send_without_data(&self, path: &Path, parent: &Path) -> Result<Sending> {
        let mut command = self.command();
        command.arg("--no-data").arg("-p").arg(parent).arg(path);
        self.start(command)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("send");
        if let Some(version) = self.protocol {
            command.args(["--proto", &version.to_string()]);
        }
        command
    }

    fn start(&self, mut command: Command) -> Result<Sending> {
        let mut child = command
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|why| not_run(&self.path, why))?;
        let stdout = child.stdout.take();
        let complaints = child
            .stderr
            .take()
            .map(|pipe| thread::spawn(move || read_bounded(pipe)));
        Ok(Sending {
            child,
            stdout,
            complaints,
        })
    }
}

/// A running `btrfs send`. Dropping it ends the program.
#[derive(Debug)]
pub(crate) struct Sending {
    child: Child,
    stdout: Option<ChildStdout>,
    complaints: Option<JoinHandle<String>>,
}

impl Read for Sending {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stdout.as_mut().map_or(Ok(0), |pipe| pipe.read(buffer))
    }
}

impl Sending {
    /// Waits for the program, which was read to its end. What it has to complain
    /// of says more than a stream that was cut off.
    pub(crate) fn finish(mut self) -> Result<()> {
        drop(self.stdout.take());
        let status = self
            .child
            .wait()
            .map_err(|why| Failure::io("btrfs send: wait", why))?;
        let said = self
            .complaints
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        let why = if said.is_empty() {
            status.to_string()
        } else {
            said
        };
        Err(failure(&why))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // It may have ended, and been waited for, already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn not_run(path: &Path, why: io::Error) -> Failure {
    match why.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::Failure,
            path.display(),
            "the btrfs program was not found",
            "install btrfs-progs, or name it: --btrfs PROGRAM",
        ),
        _ => Failure::io(format_args!("{}: run", path.display()), why),
    }
}

/// The first complaints. The rest is read and dropped, or the child would wait.
fn read_bounded(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let _ = pipe.by_ref().take(STDERR_MAX).read_to_end(&mut kept);
    let _ = io::copy(&mut pipe, &mut io::sink());
    let text = String::from_utf8_lossy(&kept);
    let errors: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("ERROR: "))
        .map(str::trim)
        .collect();
    errors.join(", ").replace("; ", ", ")
}

fn failure(why: &str) -> Failure {
    let remedy = if why.contains("Input/output error") {
        "check the medium (journalctl -k)"
    } else {
        "nothing was written; see the kernel log (journalctl -k) and run the command again"
    };
    Failure::new(Exit::Failure, "btrfs send", why, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_what_both_sides_write() {
        let help = "    --proto N                 use protocol version N";
        assert_eq!(protocol("2\n", help), Some(2));
        assert_eq!(protocol("1\n", help), Some(1));
        assert_eq!(protocol("", help), Some(1), "an older kernel");
        assert_eq!(protocol("3\n", help), Some(2), "version 3 is not read here");
        assert_eq!(protocol("2\n", "usage: btrfs send"), None);
    }
}
