//! The kernel log as the place for our few lines: it is there before any other
//! log, and ends up on the console and in the journal.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Longest line written, in bytes. The kernel refuses writes above about 1 KiB
/// (`LOG_LINE_MAX` in `kernel/printk/printk.c`).
const LINE_MAX: usize = 960;
/// What every line begins with.
const PREFIX: &str = "op-dbus: ";
/// `LOG_DAEMON` of syslog(3), shifted as in a line's priority.
const FACILITY_DAEMON: u8 = 3 << 3;

struct Logger {
    kmsg: Option<File>,
    /// A person who runs the program sees its lines at once.
    also_stderr: bool,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Sends log lines to `/dev/kmsg`; to stderr where that can't be written.
pub fn init() {
    let logger = LOGGER.get_or_init(|| {
        let kmsg = File::options().write(true).open("/dev/kmsg").ok();
        Logger {
            also_stderr: kmsg.is_none() || io::stderr().is_terminal(),
            kmsg,
        }
    });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Sends log lines to stderr only.
pub fn init_stderr() {
    let logger = LOGGER.get_or_init(|| Logger {
        kmsg: None,
        also_stderr: true,
    });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// The kernel's number of a level (syslog(2)).
fn priority(level: Level) -> u8 {
    FACILITY_DAEMON
        | match level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        }
}

/// One line of printable text, no longer than the kernel takes.
fn line(level: Level, text: &str) -> String {
    let mut line = String::with_capacity(LINE_MAX);
    let _ = write!(line, "<{}>{PREFIX}", priority(level));
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() > LINE_MAX {
            line.push('…');
            break;
        }
        line.push(c);
    }
    line
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(record.level(), &record.args().to_string());
        // One write is one line there.
        let written = self
            .kmsg
            .as_ref()
            .is_some_and(|mut kmsg| kmsg.write_all(line.as_bytes()).is_ok());
        if !written || self.also_stderr {
            let text = line.split_once('>').map_or("", |(_, text)| text);
            // Nobody is left to tell when this fails too.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_printable_line_within_the_limit() {
        assert_eq!(line(Level::Info, "a\nb"), "<30>op-dbus: a b");
        assert_eq!(line(Level::Error, "x"), "<27>op-dbus: x");
        let long = line(Level::Warn, &"é".repeat(2000));
        assert!(long.len() <= LINE_MAX + '…'.len_utf8());
        assert!(long.ends_with("é…"));
    }
}
