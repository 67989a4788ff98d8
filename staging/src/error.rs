//! How a command ends badly: one line, one exit code.

use std::fmt;
use std::io;

use op_dbus_bootstate::transition::Refusal;
use serde::Serialize;

/// The exit codes. Scripts rely on them: a number never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// An internal or input/output error.
    Failure = 1,
    /// Wrong usage.
    Usage = 2,
    /// The configuration is missing or wrong, or there is no release key.
    Configuration = 3,
    /// Not root, or a permission is missing.
    Permission = 4,
    /// The store is missing or not Btrfs.
    Store = 5,
    /// Another run holds the lock.
    Locked = 6,
    /// The version is not in the store.
    UnknownVersion = 7,
    /// A rule refuses.
    Refused = 8,
    /// A release, a deployment or the audit log failed verification.
    Verification = 9,
    /// The boot record can't be read, or is of a newer format.
    Record = 10,
    /// No space left.
    NoSpace = 11,
}

impl Exit {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::Failure,
        Self::Usage,
        Self::Configuration,
        Self::Permission,
        Self::Store,
        Self::Locked,
        Self::UnknownVersion,
        Self::Refused,
        Self::Verification,
        Self::Record,
        Self::NoSpace,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for `--help` and the manual.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or nothing to do",
            Self::Failure => "internal or input/output error",
            Self::Usage => "wrong usage",
            Self::Configuration => "configuration missing or wrong, or no release key",
            Self::Permission => "not root, or permission missing",
            Self::Store => "store missing or not Btrfs",
            Self::Locked => "another run holds the lock",
            Self::UnknownVersion => "version not in the store",
            Self::Refused => {
                "refused by a rule (product, quarantine, epoch, name taken, trial running, not this boot)"
            }
            Self::Verification => {
                "verification failed (signature, stream, missing parent, deployment, audit log)"
            }
            Self::Record => "boot record unreadable or of a newer format",
            Self::NoSpace => "no space left",
        }
    }
}

/// The table for `--help`.
pub(crate) fn exit_table() -> String {
    use fmt::Write as _;
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        let _ = writeln!(text, "  {:>2}  {}", exit.code(), exit.meaning());
    }
    text
}

/// An error as the user sees it: `<what>: <why>; <remedy>`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    /// Which exit code it is, by name.
    pub(crate) kind: Exit,
    /// What it is about: a path, a version, an operation.
    pub(crate) what: String,
    /// Why it failed.
    pub(crate) why: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

/// Result of everything here.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// An error with all its parts.
    pub(crate) fn new(
        kind: Exit,
        what: impl fmt::Display,
        why: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Self {
            kind,
            what: one_line(what),
            why: one_line(why),
            remedy: one_line(remedy),
        }
    }

    /// An input/output error on a path, classified by what the kernel said.
    pub(crate) fn io(what: impl fmt::Display, why: impl Into<io::Error>) -> Self {
        let why = why.into();
        let (kind, remedy) = match why.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (Exit::NoSpace, "free some space and run the command again")
            }
            io::ErrorKind::PermissionDenied => (Exit::Permission, "run it as root"),
            io::ErrorKind::ReadOnlyFilesystem => (
                Exit::Failure,
                "the medium is read-only; see the kernel log for the reason (journalctl -k)",
            ),
            _ => (
                Exit::Failure,
                "see the kernel log (journalctl -k) and run the command again",
            ),
        };
        Self::new(kind, what, why, remedy)
    }

    /// A rule's refusal. Its text holds both why and remedy.
    pub(crate) fn refused(what: impl fmt::Display, refusal: &Refusal) -> Self {
        let text = refusal.to_string();
        let (why, remedy) = text
            .split_once("; ")
            .unwrap_or((&text, "see: op-dbus-stage status"));
        Self::new(Exit::Refused, what, why, remedy)
    }
}

impl From<op_dbus_btrfs::Error> for Failure {
    fn from(error: op_dbus_btrfs::Error) -> Self {
        let what = format!("{}: {}", error.path.display(), error.operation);
        Self::io(what, error.source)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.what, self.why, self.remedy)
    }
}

impl std::error::Error for Failure {}

/// Keeps a text on one line and free of control characters: parts of it come
/// from file names and from other programs.
fn one_line(text: impl fmt::Display) -> String {
    let text = text.to_string();
    let safe = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    safe.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_their_places_in_the_table() {
        for (index, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(exit.code()), index);
        }
    }

    #[test]
    fn an_error_is_one_line_whatever_it_tells_of() {
        let failure = Failure::new(Exit::Failure, "a\nb", "c\x1b[31m", "d\n");
        assert_eq!(failure.to_string(), "a b: c [31m; d");
    }

    #[test]
    fn kernel_errors_find_their_code() {
        let kind = |errno: i32| Failure::io("x", io::Error::from_raw_os_error(errno)).kind;
        assert_eq!(kind(28), Exit::NoSpace);
        assert_eq!(kind(122), Exit::NoSpace);
        assert_eq!(kind(1), Exit::Permission);
        assert_eq!(kind(5), Exit::Failure);
    }
}
