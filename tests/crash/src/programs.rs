//! The programs under test, and a run of one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::times::{Spent, Watch};

/// Where the programs under test are: the very files that are shipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// `op-dbus-stage`
    pub stage: PathBuf,
    /// `op-dbus-activate`
    pub activate: PathBuf,
}

impl Programs {
    /// Those two; an error names the first that is not there.
    pub fn new(stage: &Path, activate: &Path) -> Result<Self> {
        let found = |path: &Path| {
            path.canonicalize().map_err(|why| {
                Error::Other(format!(
                    "{}: {why}; build the programs with: make build-boot build-tools",
                    path.display()
                ))
            })
        };
        Ok(Self {
            stage: found(stage)?,
            activate: found(activate)?,
        })
    }
}

/// One run of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// As one would type it.
    pub command: String,
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of, and what it told the kernel log.
    pub stderr: String,
    /// What it took.
    pub spent: Spent,
}

impl Ran {
    /// Runs a command to its end.
    pub fn of(mut command: Command) -> io::Result<Self> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        let words = words.join(" ");
        let watch = Watch::programs();
        let output = command.stdin(Stdio::null()).output()?;
        Ok(Self {
            command: words,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            spent: watch.spent(),
        })
    }

    /// The program's name, and the name of its command if it has any.
    pub fn name(&self) -> String {
        let mut words = self.command.split(' ');
        let program = words.next().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default();
        let command = words.take_while(|word| !word.starts_with('-') && !word.contains('/'));
        std::iter::once(program)
            .chain(command.take(2))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Whether it ended with 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self
            .code
            .map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        writeln!(f, "$ {}", self.command)?;
        for text in [&self.stdout, &self.stderr] {
            for line in text.lines() {
                writeln!(f, "  {line}")?;
            }
        }
        write!(
            f,
            "  (ended with {code} after {} ms)",
            self.spent.wall.as_millis()
        )
    }
}
