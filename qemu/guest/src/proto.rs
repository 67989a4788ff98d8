//! What crosses the channel: one JSON value a line, each way.
//!
//! Host to guest are [`Request`]s, answered in order; guest to host are
//! [`Event`]s. A guest says [`Event::Ready`] once, when it starts to listen.

use serde::{Deserialize, Serialize};

/// Most bytes of each output stream that an [`Event::Exit`] carries; what is
/// beyond is dropped and flagged, so a chatty program can't fill the channel.
pub const OUTPUT_LIMIT: usize = 256 * 1024;

/// Name of the virtio-serial port; udev makes `/dev/virtio-ports/<name>` of it.
pub const PORT_NAME: &str = "op-dbus-vm";

/// What the host asks of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Run a program to its end: `{"run":["op-dbus-stage","status"]}`.
    Run(Vec<String>),
    /// Run a program under trace and freeze it at a moment.
    Cut(Cut),
    /// Write bytes to a file, creating it; for tests that damage things.
    Write(Write),
    /// Replace a file as a careful program does: whole, and on the medium
    /// before this is answered.
    Keep(Write),
    /// Answer to [`Event::Paused`] of early activation that was to be held: let it
    /// go on.
    GoOn,
    /// Answer to [`Event::Waiting`]: go on from there, as the boot that this
    /// copy of the machine is.
    Start(Start),
    /// Send back a text file as standard output: the light guest has no `cat`.
    Read(String),
    /// Send back what these directories hold as standard output, see
    /// [`list`](crate::listing::list).
    List(Vec<String>),
    /// Switch the machine off in good order.
    Poweroff,
    /// Restart the machine in good order.
    Reboot,
    /// Crash the kernel at once (sysrq `c`).
    Panic,
    /// Start the watchdog and feed it no more, as a program does that hangs.
    Bite,
}

/// Arguments of [`Request::Cut`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Program and arguments.
    pub run: Vec<String>,
    /// A [`crate::moment::Moment`] as text, for example `fdatasync:2:exit`.
    pub at: String,
}

/// Arguments of [`Request::Write`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// Absolute path in the guest.
    pub path: String,
    /// The file's whole new content.
    pub text: String,
}

/// Arguments of [`Request::Start`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Words that this boot has beyond those of the kernel's command line.
    #[serde(default)]
    pub options: String,
    /// The host's clock, in seconds since 1970: the copy's own stood still.
    pub clock: i64,
}

/// What the guest tells the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A template of many boots is complete: the kernel is up, its modules are
    /// loaded, and it knows of no disk yet. Nothing goes on before
    /// [`Request::Start`].
    Waiting,
    /// The guest listens.
    Ready {
        /// The kernel's boot id, with dashes.
        boot_id: String,
        /// `uname -r`.
        kernel: String,
    },
    /// A request is done.
    Exit(Exit),
    /// The traced program stands at the moment asked for; nothing of it runs
    /// on. The guest answers nothing more: cut its power, or, when it was to be
    /// held there, let it go on.
    Paused {
        /// The system call it stands at.
        syscall: String,
        /// The file or path the call names, if it names one.
        subject: Option<String>,
        /// Process id.
        pid: i32,
    },
    /// The traced program ended before the moment came.
    Missed(Exit),
    /// The request could not be carried out.
    Error {
        /// One line, with the operation and the path.
        message: String,
    },
}

/// How a program ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Standard output, lossy UTF-8, at most [`OUTPUT_LIMIT`] bytes.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Whether either stream was longer than the limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_those_of_the_contract() {
        let run = Request::Run(vec!["true".into()]);
        assert_eq!(serde_json::to_string(&run).unwrap(), r#"{"run":["true"]}"#);
        assert_eq!(
            serde_json::to_string(&Request::Poweroff).unwrap(),
            r#""poweroff""#
        );
        let exit = Event::Exit(Exit {
            code: 3,
            ..Exit::default()
        });
        assert_eq!(
            serde_json::to_string(&exit).unwrap(),
            r#"{"event":"exit","code":3,"stdout":"","stderr":""}"#
        );
    }

    #[test]
    fn unknown_requests_are_refused() {
        assert!(serde_json::from_str::<Request>(r#"{"launch":[]}"#).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"cut":{"run":[],"at":"x","y":1}}"#).is_err());
    }
}
