//! Runs one program to its end and keeps a bounded part of what it says.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use crate::proto::{Exit, OUTPUT_LIMIT};

/// Reader threads of a child's two output streams.
#[derive(Debug)]
pub struct Output {
    stdout: Option<JoinHandle<(Vec<u8>, bool)>>,
    stderr: Option<JoinHandle<(Vec<u8>, bool)>>,
}

/// Runs `argv` and waits for it. An empty `argv` or a program that can't be
/// started is an error; any exit status is not.
pub fn run(argv: &[String]) -> io::Result<Exit> {
    let mut child = spawn(argv.first().map_or("", String::as_str), argv.get(1..))?;
    let output = Output::of(&mut child);
    let status = child.wait()?;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(output.into_exit(code))
}

/// Starts `program` with both output streams piped and nothing to read.
pub fn spawn(program: &str, arguments: Option<&[String]>) -> io::Result<Child> {
    if program.is_empty() {
        return Err(io::Error::other("nothing to run: the command is empty"));
    }
    Command::new(program)
        .args(arguments.unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("start {program}: {error}")))
}

impl Output {
    /// Starts to read both streams of `child`.
    pub fn of(child: &mut Child) -> Self {
        Self {
            stdout: child.stdout.take().map(reader),
            stderr: child.stderr.take().map(reader),
        }
    }

    /// Waits until both streams are at their end.
    pub fn into_exit(self, code: i32) -> Exit {
        let join = |handle: Option<JoinHandle<_>>| {
            handle
                .and_then(|handle| handle.join().ok())
                .unwrap_or_default()
        };
        let (stdout, cut_stdout) = join(self.stdout);
        let (stderr, cut_stderr) = join(self.stderr);
        Exit {
            code,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            truncated: cut_stdout || cut_stderr,
        }
    }
}

/// Keeps the first [`OUTPUT_LIMIT`] bytes and drains the rest, so that the
/// writer never blocks on a full pipe.
fn reader(mut stream: impl Read + Send + 'static) -> JoinHandle<(Vec<u8>, bool)> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        let limit = u64::try_from(OUTPUT_LIMIT).unwrap_or(u64::MAX);
        // A stream that fails half-way has said what it had to say.
        let _ = stream.by_ref().take(limit).read_to_end(&mut kept);
        let more = io::copy(&mut stream, &mut io::sink()).unwrap_or(0);
        (kept, more > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Exit {
        run(&["sh".into(), "-c".into(), script.into()]).unwrap()
    }

    #[test]
    fn both_streams_and_the_code_come_back() {
        let exit = shell("echo out; echo err >&2; exit 3");
        assert_eq!((exit.code, exit.truncated), (3, false));
        assert_eq!(
            (exit.stdout.as_str(), exit.stderr.as_str()),
            ("out\n", "err\n")
        );
    }

    #[test]
    fn a_signal_is_128_and_its_number() {
        assert_eq!(shell("kill -9 $$").code, 137);
    }

    #[test]
    fn output_is_bounded() {
        let exit = shell("head -c 400000 /dev/zero");
        assert!(exit.truncated);
        assert_eq!(exit.stdout.len(), OUTPUT_LIMIT);
    }

    #[test]
    fn what_can_not_start_is_an_error() {
        assert!(run(&[]).is_err());
        assert!(run(&["/nonexistent/program".into()]).is_err());
    }
}
