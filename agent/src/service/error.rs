//! How a call ends badly: a name for programs, a sentence for people.

use zbus::DBusError;
use zbus::message::{Header, Message};
use zbus::names::ErrorName;

/// In front of the names that are ours.
pub const PREFIX: &str = "org.opdbus.Deploy1.Error.";

/// The names for the exit codes of `op-dbus-stage`, by code. A name never
/// changes its meaning; code 0 is no error.
pub const BY_CODE: [&str; 12] = [
    "org.opdbus.Deploy1.Error.Failed",
    "org.opdbus.Deploy1.Error.Failed",
    "org.opdbus.Deploy1.Error.InvalidArgument",
    "org.opdbus.Deploy1.Error.Configuration",
    "org.opdbus.Deploy1.Error.Permission",
    "org.opdbus.Deploy1.Error.Store",
    "org.opdbus.Deploy1.Error.Locked",
    "org.opdbus.Deploy1.Error.UnknownVersion",
    "org.opdbus.Deploy1.Error.Refused",
    "org.opdbus.Deploy1.Error.Verification",
    "org.opdbus.Deploy1.Error.Record",
    "org.opdbus.Deploy1.Error.NoSpace",
];

const FAILED: &str = "org.opdbus.Deploy1.Error.Failed";
const INVALID_ARGUMENT: &str = "org.opdbus.Deploy1.Error.InvalidArgument";
const BUSY: &str = "org.opdbus.Deploy1.Error.Busy";
const INTERRUPTED: &str = "org.opdbus.Deploy1.Error.Interrupted";
const NOTHING_TO_INTERRUPT: &str = "org.opdbus.Deploy1.Error.NothingToInterrupt";
// The bus' own words, which client libraries know.
const ACCESS_DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";
const INTERACTION: &str = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
const LIMITS: &str = "org.freedesktop.DBus.Error.LimitsExceeded";

/// Longest message, in bytes.
const MESSAGE_MAX: usize = 2048;

/// An error as a caller gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    name: &'static str,
    message: String,
}

/// Result of everything a caller asks for.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            name,
            message: shorten(message.into()),
        }
    }

    /// What `op-dbus-stage` ended with.
    pub fn of_code(code: u8, message: impl Into<String>) -> Self {
        let name = BY_CODE.get(usize::from(code)).copied().unwrap_or(FAILED);
        Self::new(name, message)
    }

    /// Something else went wrong.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, message)
    }

    /// An argument that can't be meant.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(INVALID_ARGUMENT, message)
    }

    /// Another operation is under way, or the service is about to end.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(BUSY, message)
    }

    /// The operation was ended by a caller, or with the service.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(INTERRUPTED, message)
    }

    /// No operation that could be ended.
    pub fn nothing_to_interrupt() -> Self {
        Self::new(
            NOTHING_TO_INTERRUPT,
            "nothing is being received; only that can be interrupted",
        )
    }

    /// Whoever calls may not do this.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(ACCESS_DENIED, message)
    }

    /// Whoever calls may do it after a question, which the call did not allow.
    pub fn needs_interaction() -> Self {
        Self::new(
            INTERACTION,
            "authentication is required; allow it in the call, or ask as root",
        )
    }

    /// Too many calls at once.
    pub fn too_many() -> Self {
        Self::new(LIMITS, "too many calls are waiting; wait for their replies")
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its sentence.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl DBusError for Error {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, DBusError::name(self))?.build(&self.message)
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_static_str_unchecked(self.name)
    }

    fn description(&self) -> Option<&str> {
        Some(&self.message)
    }
}

/// At most so many bytes, and whole characters: the bus takes nothing but UTF-8.
fn shorten(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        let mut end = MESSAGE_MAX;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    // A string on the bus ends at the first zero byte.
    message.replace('\0', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_a_name_of_ours() {
        for name in BY_CODE {
            assert!(ErrorName::try_from(name).is_ok(), "{name}");
            assert!(name.starts_with(PREFIX), "{name}");
        }
        assert_eq!(Error::of_code(8, "").name(), BY_CODE[8]);
        assert_eq!(Error::of_code(200, "").name(), FAILED);
    }

    #[test]
    fn a_message_can_be_sent_whatever_is_in_it() {
        let long = Error::failed("ä".repeat(5000));
        assert_eq!(long.message().len(), MESSAGE_MAX);
        let odd = Error::failed(format!("a{}b", '\0'));
        assert_eq!(odd.message(), "a b");
        let uneven = Error::failed(format!("x{}", "ä".repeat(5000)));
        assert_eq!(uneven.message().len(), MESSAGE_MAX - 1);
    }

    #[test]
    fn the_names_are_documented_by_their_codes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/DBUS.md");
        let text = std::fs::read_to_string(path).unwrap();
        for (code, name) in BY_CODE.iter().enumerate().skip(1) {
            let name = name.strip_prefix(PREFIX).unwrap();
            let row = format!("\n| `{name}` | {code} |");
            assert!(text.contains(&row), "{row}");
        }
        for error in [
            Error::busy(""),
            Error::interrupted(""),
            Error::nothing_to_interrupt(),
            Error::denied(""),
            Error::needs_interaction(),
            Error::too_many(),
        ] {
            let word = error.name().rsplit('.').next().unwrap();
            assert!(text.contains(&format!("{word}`")), "{word}");
        }
    }
}
