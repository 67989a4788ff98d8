//! Programs that get so much time and no more.

use std::io::{self, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt as _;

use rustix::process::{Pid, Signal};

/// How often it is looked whether one has ended.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// Most that is kept of what one prints, in bytes.
const KEPT: u64 = 1 << 20;

/// Waits for a program. None: the time is up.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

/// Kills a program that leads a process group of its own, whose number stays
/// taken while anyone is in it; without anyone, there is nobody to kill.
pub(crate) fn kill_group(child: &Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

/// How a program ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Said {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Its standard output, as text.
    pub(crate) text: String,
}

/// Runs a program for its standard output; the rest of what it says is dropped.
/// The error says why not, in a few words.
pub(crate) fn said(command: &mut Command, limit: Duration) -> Result<Said, String> {
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|why| match why.kind() {
            io::ErrorKind::NotFound => "is not installed".to_owned(),
            _ => format!("can't be run: {why}"),
        })?;
    let (sender, receiver) = mpsc::channel();
    if let Some(pipe) = child.stdout.take() {
        // What escaped its process group may keep the pipe open: nobody waits for this.
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = pipe.take(KEPT).read_to_end(&mut bytes);
            let _ = sender.send(read.map(|_| bytes));
        });
    }
    let began = Instant::now();
    let words = receiver.recv_timeout(limit);
    let ended = wait(&mut child, limit.saturating_sub(began.elapsed()));
    kill_group(&child);
    let _ = child.wait();
    match (ended, words) {
        (Ok(Some(status)), Ok(Ok(bytes))) => Ok(Said {
            status,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }),
        (Ok(None), _) | (_, Err(mpsc::RecvTimeoutError::Timeout)) => {
            Err(format!("did not answer within {} s", limit.as_secs()))
        }
        (Err(why), _) | (_, Ok(Err(why))) => Err(why.to_string()),
        (_, Err(why)) => Err(why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<Said, String> {
        said(Command::new("sh").args(["-c", script]), limit)
    }

    #[test]
    fn what_is_said_comes_with_how_it_ended() {
        let said = sh("echo yes; echo no >&2; exit 3", Duration::from_secs(20)).unwrap();
        assert_eq!((said.text.as_str(), said.status.code()), ("yes\n", Some(3)));
        let missing = super::said(&mut Command::new("/none/x"), Duration::from_secs(1));
        assert_eq!(missing.unwrap_err(), "is not installed");
    }

    #[test]
    fn one_that_hangs_or_talks_for_ever_is_ended() {
        let began = Instant::now();
        let limit = Duration::from_millis(300);
        for script in ["sleep 1000", "exec 1>&-; sleep 1000", "sleep 1000 & wait"] {
            let why = sh(script, limit).unwrap_err();
            assert!(why.contains("did not answer"), "{script}: {why}");
        }
        let endless = sh("yes", Duration::from_secs(20)).map(|said| said.text.len());
        assert_eq!(endless, Ok(1 << 20));
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
