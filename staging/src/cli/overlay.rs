//! `overlay`: what users changed over a version.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use op_dbus_bootstate::Version;

use crate::overlay::classify::Policy;

/// What is done with an overlay.
#[derive(Debug, Subcommand)]
pub(crate) enum Overlay {
    /// List what was changed over a version
    #[command(after_help = DIFF)]
    Diff(Diff),
    /// List what of the changes to the good version clashes with another version
    #[command(after_help = LINT)]
    Lint(Lint),
    /// Take a change back, so that the version's own shows again
    #[command(after_help = RESET)]
    Reset(Reset),
}

const DIFF: &str = "\
Changes:
  added               something of yours, where the version has nothing
  changed             other content, or another kind of thing
  removed             the version has it, and you removed it
  replaced-directory  you removed a directory of the version and made one of that name
  owner-changed       other owner, group or mode, and the same content

In text, a backslash in a path is \\\\, and what is not printable \\n, \\t or \\xNN. In JSON, a path
that is not UTF-8 has path_hex besides path: its bytes. No lock is taken: what is written
meanwhile may be listed or not.";

const LINT: &str = "\
Conflicts:
  both-changed        the version changed or removed a file that you changed
  both-added          you and the version made it, differently
  deleted-came-back   you removed it, and the version has changed it, or has it anew
  type-changed        the version has another kind of thing there now
  hidden-directory    a directory you replaced hides what the version changed in its own
  owner-changed       the version changed owner, group or mode of what you have a copy of
  stale-copy          the overlay holds the old version's own, in which nothing is yours:
                      the new one's always shows

Who wins, says [lint] in the configuration, or stage --overlay. What does not show is put
beside: yours as .mine, a file of the version as .new. This is done when the version first
boots, and where something has changed by then, yours stays.

Exit code: 0 without conflicts, and where the policy settles all of them; 8 where it refuses
one, as staging the version would.";

const RESET: &str = "\
Yours is kept beside as .mine, with a number if that is taken.

Where the version runs, the kernel allows no change of its layers but through the mounted
overlay. There a file or link gets the version's content, owner and mode again, in one step;
a directory that was removed or replaced can't be had back, and that is refused. Where the
version does not run, anything can be taken back: the change itself is removed.";

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// A version of the store [default: the one that runs, else the good one]
    pub(crate) version: Option<Version>,
}

#[derive(Debug, Args)]
pub(crate) struct Lint {
    /// A version of the store [default: the trial, else the newest that is not good]
    pub(crate) version: Option<Version>,
    /// Who wins everywhere [default: by the configuration]
    #[arg(long = "overlay", value_name = "WINNER")]
    pub(crate) winner: Option<Winner>,
}

#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// Path within the version, or below the overlay's mount point
    pub(crate) path: PathBuf,
    /// Whose overlay [default: of the version that runs, else of the good one]
    pub(crate) version: Option<Version>,
    /// Keep nothing of the change
    #[arg(long)]
    pub(crate) discard: bool,
}

/// Who wins where a user's change and a version's clash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Winner {
    /// Yours stays; a file of the version is put beside as .new
    KeepMine,
    /// The version's shows; yours is put beside as .mine
    TakeNew,
}

impl From<Winner> for Policy {
    fn from(winner: Winner) -> Self {
        match winner {
            Winner::KeepMine => Self::KeepMine,
            Winner::TakeNew => Self::TakeNew,
        }
    }
}
