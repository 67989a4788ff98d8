//! The story that is recorded: the shipped programs at work on a real Btrfs, one
//! after the other, as a device's life goes.

mod changes;
mod steps;
mod user;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use op_dbus_bootstate::codec;

use crate::facts::{Boot, Facts};
use crate::host::Host;
use crate::programs::Ran;
use crate::{Mark, error::Error};

pub(crate) use steps::LAST;
pub use steps::{before, steps};
pub(crate) use user::{How, REMOVED, UserChange};

/// A file that every version has.
pub(crate) const CONF: &str = "share/app/app.conf";
/// What it says in a version as published.
pub(crate) fn conf_of(version: &str) -> String {
    format!("this is {version}\n")
}

/// Files that the last version has otherwise than those before it, and so does the
/// user. Where they are, the configuration lets the version's win.
pub(crate) const BOTH: &str = "share/app/taken/both";
/// Likewise; the user removes it.
pub(crate) const GONE: &str = "share/app/taken/gone";
/// Likewise; of this one the last version only has another mode.
pub(crate) const OWNER: &str = "share/app/taken/owner";
/// Not a file: the mode of that one.
pub(crate) const OWNER_MODE: &str = "share/app/taken/owner?mode";
/// The directory of these three.
pub(crate) const TAKEN: &str = "share/app/taken";

/// What a version as published has of the files of interest.
pub(crate) fn published(version: &str) -> BTreeMap<&'static str, String> {
    let is_last = version == LAST;
    let of = |file: &str| {
        let whose = if is_last { LAST } else { "the first versions" };
        format!("{file} of {whose}\n")
    };
    BTreeMap::from([
        (CONF, conf_of(version)),
        (BOTH, of("both")),
        (GONE, of("gone")),
        (OWNER, "whoever it belongs to\n".to_owned()),
        (OWNER_MODE, if is_last { "640" } else { "600" }.to_owned()),
    ])
}

/// One step: what is done, and what holds once it is.
#[derive(Debug, Clone)]
pub struct Step {
    /// For people.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// What may come of doing it again after a power cut.
    pub again: Again,
    /// What holds from its acknowledgement on.
    pub facts: Facts,
}

/// What is done.
#[derive(Debug, Clone)]
pub enum Action {
    /// `op-dbus-stage` with these words.
    Command {
        /// Its arguments.
        words: Vec<String>,
        /// The `result` it must report.
        result: &'static str,
    },
    /// A shutdown in good order, and the next boot.
    Boot(Boot),
    /// The user changes a file and waits until that is durable.
    User(UserChange),
    /// Copies of the boot record are overwritten with zeros.
    Damage(&'static [&'static str]),
    /// A published version is made writable and changed.
    Alter(&'static str),
    /// The operator changes whether trials begin with an empty overlay.
    Configure {
        /// Whether they do from now on.
        fresh: bool,
    },
}

/// What may come of a command that is run again after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It is none that an operator would run again.
    Never,
    /// Success with one of these results; or a refusal, if so it says.
    Results {
        /// What `result` may be.
        results: &'static [&'static str],
        /// Whether a rule may refuse it (exit code 8): a trial that was staged
        /// before the power cut runs by now.
        refused: bool,
    },
}

impl Again {
    /// By the command's name.
    fn of(command: &str) -> Self {
        let (results, refused): (&[&str], _) = match command {
            "prepare" => (&["prepared", "nothing-to-do"], false),
            "receive" => (&["received", "already-there"], false),
            "stage" => (&["on-trial", "already-staged"], true),
            "bless" => (&["trial", "good", "fallback", "already"], false),
            "condemn" => (&["condemned"], false),
            "pin" => (&["pinned", "already"], false),
            "unpin" => (&["unpinned", "nothing-to-do"], false),
            "prune" => (&["pruned", "nothing-to-do"], false),
            "cancel" => (&["cancelled", "nothing-to-do"], false),
            "rollback" => (&["on-trial", "cancelled-trial", "already-good"], false),
            "orderly-shutdown" => (&["refunded", "nothing-to-do"], false),
            _ => return Self::Never,
        };
        Self::Results { results, refused }
    }
}

impl Step {
    /// The words of its command, if it is one.
    pub(crate) fn command(&self) -> Option<&[String]> {
        match &self.action {
            Action::Command { words, .. } => Some(words),
            _ => None,
        }
    }

    /// Does it, and fails unless it comes out as it should.
    pub fn perform(&self, host: &mut Host) -> Result<(), Error> {
        let fail = |why: String| Error::Story {
            step: self.name.clone(),
            why,
        };
        let io = |why: io::Error| fail(why.to_string());
        match &self.action {
            Action::Command { words, result } => {
                let ran = host.stage(words).map_err(io)?;
                if ran.result().as_deref() != Some(*result) {
                    return Err(fail(format!("expected {result}\n{ran}")));
                }
            }
            Action::Boot(expected) => {
                host.down().map_err(io)?;
                host.next_boot().map_err(io)?;
                let ran = host.boot().map_err(io)?;
                let found = host.active().map_err(io)?;
                let wanted = expected
                    .active()
                    .map(|(role, version)| (role.word().to_owned(), version.to_owned()));
                if !ran.succeeded() || found != wanted {
                    return Err(fail(format!("expected {wanted:?}, found {found:?}\n{ran}")));
                }
            }
            Action::User(change) => change.make(&host.overlay()).map_err(io)?,
            Action::Damage(copies) => damage(host, copies).map_err(io)?,
            Action::Alter(version) => alter(&host.store().join("deploy").join(version))
                .map_err(|why| fail(why.to_string()))?,
            Action::Configure { fresh } => host.begin_trials_fresh(*fresh).map_err(io)?,
        }
        Ok(())
    }
}

fn damage(host: &Host, copies: &[&str]) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    for copy in copies {
        let path = host.store().join("boot").join(copy);
        let file = std::fs::File::options().write(true).open(path)?;
        file.write_all_at(&[0; codec::BLOCK], 0)?;
        file.sync_all()?;
    }
    Ok(())
}

fn alter(deployment: &Path) -> Result<(), op_dbus_btrfs::Error> {
    let of = |path: &Path, source| op_dbus_btrfs::Error {
        path: path.to_owned(),
        operation: "write",
        source,
    };
    op_dbus_btrfs::set_read_only(deployment, false)?;
    let file = deployment.join(CONF);
    std::fs::write(&file, "somebody was here\n").map_err(|why| of(&file, why))?;
    op_dbus_btrfs::set_read_only(deployment, true)?;
    op_dbus_btrfs::sync_filesystem(deployment)
}

/// The highest sequence of the record's two copies; zero where both are lost.
fn sequence(store: &Path) -> u64 {
    let read = |copy| {
        let bytes = std::fs::read(store.join("boot").join(copy)).ok()?;
        codec::decode(&bytes).ok().map(|record| record.sequence)
    };
    read("record.0").max(read("record.1")).unwrap_or(0)
}

/// Performs all steps, handing each mark to `mark` at its moment. Returns the
/// record's sequence after each step.
pub fn perform(
    steps: &[Step],
    host: &mut Host,
    mut mark: impl FnMut(Mark),
    mut told: impl FnMut(&str),
) -> Result<Vec<u64>, Error> {
    let mut sequences = Vec::new();
    for (number, step) in (0u32..).zip(steps) {
        mark(Mark::Begin(number));
        step.perform(host)?;
        mark(Mark::Acknowledged(number));
        told(&step.name);
        sequences.push(sequence(&host.store()));
    }
    host.down().map_err(|why| Error::Story {
        step: "the end".to_owned(),
        why: why.to_string(),
    })?;
    Ok(sequences)
}

/// What one run of a program told, in an error.
impl Ran {
    /// The `result` it reported, if it succeeded.
    pub fn result(&self) -> Option<String> {
        if !self.succeeded() {
            return None;
        }
        let value: serde_json::Value = serde_json::from_str(&self.stdout).ok()?;
        value["result"].as_str().map(str::to_owned)
    }
}
