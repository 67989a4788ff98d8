//! The `btrfs receive` child.

use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use op_dbus_sendstream::Policy;

use super::source::{Source, Vetted};
use crate::error::{Exit, Failure, Result};

/// How much of the child's complaints is kept, in bytes.
const STDERR_MAX: u64 = 8 * 1024;

/// Lets `btrfs receive` turn a vetted stream into a subvolume below `dir`,
/// which is also its root directory (`--chroot`).
pub(crate) fn receive(
    program: &Path,
    source: &mut Source,
    vetted: &Vetted,
    policy: &Policy,
    dir: &Path,
) -> Result<()> {
    let mut child = spawn(program, dir)?;
    let complaints = child
        .stderr
        .take()
        .map(|pipe| thread::spawn(move || read_bounded(pipe)));
    let passed = match child.stdin.take() {
        Some(mut pipe) => source.hand_on(policy, vetted, |part| pipe.write_all(part)),
        None => Ok(()),
    };
    if passed.is_err() {
        // It must not finish what is refused. It may have ended by itself already.
        let _ = child.kill();
    }
    let status = child
        .wait()
        .map_err(|why| Failure::io("btrfs receive: wait", why))?;
    let said = complaints
        .and_then(|thread| thread.join().ok())
        .unwrap_or_default();
    match passed {
        Ok(()) if status.success() => Ok(()),
        // It went away in the middle: its own words say why.
        Ok(()) => Err(failure(&said, &status.to_string())),
        Err(_) if !said.is_empty() => Err(failure(&said, &status.to_string())),
        Err(why) => Err(why),
    }
}

fn spawn(program: &Path, dir: &Path) -> Result<Child> {
    let spawned = Command::new(program)
        .args(["receive", "-e", "-C"])
        .arg(dir)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    spawned.map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::Failure,
            program.display(),
            "the btrfs program was not found",
            "install btrfs-progs, or name it: --btrfs PATH",
        ),
        _ => Failure::io(format_args!("{}: run", program.display()), why),
    })
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
    errors.join("; ").replace("; ", ", ")
}

fn failure(said: &str, status: &str) -> Failure {
    let why = if said.is_empty() { status } else { said };
    let has = |text: &str| said.contains(text);
    let (kind, remedy) = if has("No space left") || has("quota exceeded") {
        (Exit::NoSpace, "free some space and run the command again")
    } else if has("cannot find parent") || has("parent subvol") {
        (
            Exit::Verification,
            "receive the version it builds on first, or send it whole (btrfs send without -p)",
        )
    } else if has("Input/output error") || has("Read-only file system") {
        (Exit::Failure, "check the medium (journalctl -k)")
    } else {
        (
            Exit::Verification,
            "nothing was published; send the version again",
        )
    };
    Failure::new(kind, "btrfs receive", why, remedy)
}
