//! `[audit]` of the configuration.

use std::ops::RangeInclusive;

use op_dbus_activator::config::one_line;
use serde::Deserialize;

use super::section;
use crate::auditlog::Limits;
use crate::context::Context;
use crate::error::Result;

/// KiB of a segment. The least has room for what one command writes at most.
const ROTATE: RangeInclusive<u32> = 16..=65_536;
/// Closed segments. All of them are open at once when the log is read.
const SEGMENTS: RangeInclusive<u16> = 1..=512;

/// `[audit]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Audit {
    /// KiB at which a segment of the log is closed.
    pub(crate) rotate_kib: u32,
    /// Closed segments that are kept.
    pub(crate) keep_segments: u16,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            rotate_kib: 1024,
            keep_segments: 16,
        }
    }
}

/// The file, as far as it matters here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    audit: Audit,
}

impl Audit {
    /// Reads the section; without a file, its defaults.
    pub(crate) fn load(context: &Context) -> Result<Self> {
        section(context, Self::parse)
    }

    /// Parses the section out of a configuration. The error is one line.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|why| one_line(text, &why))?;
        file.audit.check()?;
        Ok(file.audit)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if !ROTATE.contains(&self.rotate_kib) {
            return Err(format!(
                "audit.rotate_kib = {}: must be {} to {}",
                self.rotate_kib,
                ROTATE.start(),
                ROTATE.end()
            ));
        }
        if !SEGMENTS.contains(&self.keep_segments) {
            return Err(format!(
                "audit.keep_segments = {}: must be {} to {}",
                self.keep_segments,
                SEGMENTS.start(),
                SEGMENTS.end()
            ));
        }
        Ok(())
    }

    /// The same for a writer.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            bytes: u64::from(self.rotate_kib) << 10,
            keep: usize::from(self.keep_segments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_may_be_left_out() {
        for text in ["", "[audit]\n", "[store]\ndevice = 5\n"] {
            assert_eq!(Audit::parse(text).unwrap(), Audit::default(), "{text}");
        }
        let text = "[audit]\nrotate_kib = 16\nkeep_segments = 2\n";
        let limits = Audit::parse(text).unwrap().limits();
        assert_eq!((limits.bytes, limits.keep), (16_384, 2));
    }

    #[test]
    fn mistakes_name_their_place() {
        for (line, words) in [
            ("rotate = 1", "line 2: unknown field"),
            ("rotate_kib = 15", "audit.rotate_kib = 15: must be 16"),
            ("rotate_kib = 65537", "must be 16 to 65536"),
            ("rotate_kib = -1", "line 2: "),
            ("keep_segments = 0", "audit.keep_segments = 0: must be 1"),
            ("keep_segments = 513", "must be 1 to 512"),
            ("keep_segments = true", "line 2: "),
        ] {
            let why = Audit::parse(&format!("[audit]\n{line}\n")).unwrap_err();
            assert!(why.contains(words) && !why.contains('\n'), "{line}: {why}");
        }
    }
}
