//! What is told of a backup.

use op_dbus_bootstate::Record;
use serde_json::{Value, json};

use crate::backup::contents::Contents;
use crate::context::Report;

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut scaled = bytes;
    // Tenths, so that no floating point is needed.
    while scaled >= 1024 * 1024 && unit + 1 < UNITS.len() {
        scaled /= 1024;
        unit += 1;
    }
    let tenths = scaled.saturating_mul(10) / 1024;
    let name = UNITS.get(unit).unwrap_or(&"");
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// What every report of a backup says.
pub(crate) fn summary(report: Report, contents: &Contents) -> Report {
    let record = contents.record();
    let mut report = report
        .field("digest", contents.digest.to_string())
        .field("created", contents.info.created.as_str())
        .field("host", contents.info.host.as_str())
        .field("program", contents.info.program.as_str())
        .field("record_state", contents.loaded.verdict().word());
    for (role, deployment) in record.iter().flat_map(|(record, _)| record.deployments()) {
        report = report.field(
            &role.to_string(),
            json!({
                "version": deployment.version,
                "digest": deployment.digest,
                "epoch": deployment.epoch,
            }),
        );
    }
    let streams: Vec<Value> = contents
        .streams
        .iter()
        .map(|held| {
            json!({
                "place": held.stream.place,
                "member": held.stream.member,
                "stream_bytes": held.bytes,
                "content_bytes": held.content,
            })
        })
        .collect();
    report.field("streams", streams)
}

/// The record in one line.
pub(super) fn record_line(record: Option<&(Record, bool)>) -> String {
    let Some((record, is_made_up)) = record else {
        return "none, and no version that was ever blessed".to_owned();
    };
    let mut parts: Vec<String> = record
        .deployments()
        .map(|(role, deployment)| format!("{role} {}", deployment.version))
        .collect();
    if parts.is_empty() {
        parts.push("no version yet".to_owned());
    }
    parts.push(format!("epoch floor {}", record.epoch_floor));
    let quarantined = record.quarantine.entries().len();
    if quarantined > 0 {
        parts.push(format!("{quarantined} quarantined"));
    }
    if *is_made_up {
        parts.push("from the audit log, because no copy could be read".to_owned());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
