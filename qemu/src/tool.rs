//! Runs programs of the host and turns their failures into sentences.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// One call of a host program.
#[derive(Debug)]
pub struct Tool {
    command: Command,
}

impl Tool {
    /// A call of `program`, with nothing on standard input and in the C locale.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
        Self { command }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end; its standard output, lossy UTF-8. Anything but exit
    /// code 0 is an error that carries what it said.
    pub fn run(mut self) -> Result<String> {
        let failed = |command: &Command, outcome: String, stderr: String| Error::Tool {
            command: words(command),
            outcome,
            stderr,
        };
        let output = match self.command.output() {
            Ok(output) => output,
            Err(error) => return Err(failed(&self.command, error.to_string(), String::new())),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        Err(failed(&self.command, output.status.to_string(), said))
    }
}

fn words(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_comes_back_and_failures_carry_the_last_words() {
        assert_eq!(Tool::new("echo").args(["a", "b"]).run().unwrap(), "a b\n");
        let error = Tool::new("sh")
            .args(["-c", "echo reason >&2; exit 3"])
            .run()
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with(": reason"), "{text}");
        assert!(Tool::new("/nonexistent").run().is_err());
    }
}
