//! How a restored device's audit log knows of the one before it.
//!
//! A device's log is the story of that device, and goes on when a backup is
//! restored on it. The log in the backup is kept beside it, untouched; the line
//! `restored` holds its SHA-256, so that it can't be changed either.

use crate::auditlog;
use crate::backup::logs::Log;

/// Longest name of a device in a line, in characters.
const HOST_MAX: usize = 64;
/// What stands before the parts of the text that are read again.
const LOG: &str = "; its audit log of ";
const FILE: &str = " is kept as ";
const SUM: &str = ", SHA-256 ";

/// A log that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Its name in `audit/`.
    pub(crate) file: String,
    /// SHA-256 of all of it, in hexadecimal.
    pub(crate) sum: String,
    /// Whether it verified when it was restored.
    pub(crate) is_sound: bool,
}

/// How the text of a line begins that tells of a backup with this digest.
pub(crate) fn beginning(digest: &op_dbus_backup::Digest) -> String {
    format!("backup {digest}")
}

/// The text of the line `restored`. What a backup says of itself stands last.
pub(crate) fn detail(
    digest: &op_dbus_backup::Digest,
    log: Option<(&Log, &str)>,
    created: &str,
    host: &str,
) -> String {
    let log = log.map_or_else(
        || "; it has no audit log".to_owned(),
        |(log, file)| {
            let state = if log.broken.is_none() {
                "sound"
            } else {
                "which did not verify"
            };
            let sum = op_dbus_backup::Digest(log.sum);
            let lines = log.head.length;
            format!("{LOG}{lines} lines, {state},{FILE}{file}{SUM}{sum}")
        },
    );
    let host: String = host.chars().take(HOST_MAX).collect();
    let created: String = created.chars().take(HOST_MAX).collect();
    format!("{}{log}; made on {host} at {created}", beginning(digest))
}

/// The log a line `restored` tells of.
pub(crate) fn parse(detail: &str) -> Option<Kept> {
    let (_, rest) = detail.split_once(LOG)?;
    let (state, rest) = rest.split_once(FILE)?;
    let (file, rest) = rest.split_once(SUM)?;
    let sum = rest.get(..64)?;
    let is_kept = auditlog::is_kept(file) && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_kept.then(|| Kept {
        file: file.to_owned(),
        sum: sum.to_owned(),
        is_sound: state.ends_with("lines, sound,"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use op_dbus_bootstate::audit::AuditHead;

    fn log(broken: Option<&str>) -> Log {
        Log {
            file: "log.jsonl".to_owned(),
            sum: [0xab; 32],
            head: AuditHead {
                length: 12,
                ..AuditHead::default()
            },
            broken: broken.map(str::to_owned),
        }
    }

    #[test]
    fn a_line_names_the_log_it_goes_on_from() {
        let digest = op_dbus_backup::Digest([1; 32]);
        let file = "restored-010101010101.jsonl";
        // A device's name can't speak for the line.
        let host = format!("x{FILE}restored-000000000000.jsonl{SUM}");
        for broken in [None, Some("line 3")] {
            let log = log(broken);
            let text = detail(&digest, Some((&log, file)), "2026", &host);
            assert!(
                text.len() < 1000 && text.starts_with(&beginning(&digest)),
                "{text}"
            );
            let kept = parse(&text).unwrap();
            assert_eq!((kept.file.as_str(), kept.sum), (file, "ab".repeat(32)));
            assert_eq!(kept.is_sound, broken.is_none());
        }
        assert_eq!(parse(&detail(&digest, None, "2026", "x")), None);
        assert_eq!(
            parse("backup x; its audit log of 1 lines, sound, is kept as ../x, SHA-256 y"),
            None
        );
    }
}
