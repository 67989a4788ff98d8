//! The hostile streams, one for each rule.

mod clone;
mod content;
mod encoded;
mod framing;
mod paths;
mod shape;
mod symlinks;

use op_dbus_sendstream::Policy;

use crate::build::{PARENT, Stream, UUID, attrs, subvol};
use crate::say::Say;

/// Below the area, as seen from the root of the received subvolume.
pub(crate) const CANARY_FILE: &str = "../../canary";
pub(crate) const CANARY_DIR: &str = "../../secret";

/// A stream made to do harm, and who refuses it.
pub(crate) struct Case {
    /// The rule it breaks.
    pub(crate) rule: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) policy: Policy,
    pub(crate) expect: Expect,
    /// Whether the applier is given the parent subvolume.
    pub(crate) parent: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Expect {
    /// The pass without a file system refuses it, and so the applier, in these words.
    Vet(&'static str),
    /// Only the applier can see it, and says one of these.
    Apply(&'static [&'static str]),
}

/// What is said of a path that leads through a symbolic link, or to one where
/// a file is needed. Links are not followed even to find out what is behind.
pub(crate) const LINK: Expect =
    Expect::Apply(&["symbolic link", "Not a directory", "not a regular file"]);
pub(crate) const MISSING: Expect = Expect::Apply(&["No such file"]);

impl Case {
    pub(crate) fn new(rule: impl Into<String>, stream: Stream, expect: Expect) -> Self {
        Self {
            rule: rule.into(),
            bytes: stream.bytes,
            policy: Policy::default(),
            expect,
            parent: false,
        }
    }

    /// With everything allowed that a release can be allowed.
    pub(crate) fn allowing_everything(mut self) -> Self {
        self.policy = Policy::everything();
        self.rule.push_str(" (everything allowed)");
        self
    }

    /// On top of the parent.
    pub(crate) fn on_parent(mut self) -> Self {
        self.parent = true;
        self
    }
}

/// A Zstandard frame of so many blocks of 128 KiB.
pub(crate) fn run_of(blocks: u32) -> Vec<u8> {
    encoded::run_of(blocks)
}

/// A full stream of version 1 or 2, ready for commands.
pub(crate) fn v1() -> Stream {
    Stream::full(1)
}

pub(crate) fn v2() -> Stream {
    Stream::full(2)
}

/// All of them. `outside` is a directory on another file system.
pub(crate) fn all(outside: &str) -> Vec<Case> {
    let mut cases = framing::cases();
    cases.extend(shape::cases());
    cases.extend(paths::cases());
    cases.extend(symlinks::cases(outside));
    cases.extend(content::cases());
    cases.extend(encoded::cases());
    cases.extend(clone::cases());
    cases
}
