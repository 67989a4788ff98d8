//! What the tests of both sides share: running the program.

use std::fs;
use std::io::Read as _;
use std::process::Output;

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_op-dbus-stage");

/// How one run of the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    /// Done with these arguments; what it printed is JSON.
    #[track_caller]
    pub(crate) fn json(self, args: &[&str]) -> Value {
        assert_eq!(self.code, 0, "{args:?}: {}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Failed with this code; the last line on stderr holds these words and a remedy.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        // Before it may stand how far it had come.
        let line = self.stderr.lines().next_back().unwrap();
        assert!(line.starts_with("op-dbus-stage: "), "{line}");
        assert!(line.contains("; "), "a remedy: {line}");
        assert!(line.contains(words), "{words:?} in {line}");
    }
}

/// Random bytes, which no compression makes smaller.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut source = fs::File::open("/dev/urandom").unwrap();
    source.read_exact(&mut bytes).unwrap();
    bytes
}
