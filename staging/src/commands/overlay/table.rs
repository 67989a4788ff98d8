//! What the tables have in common.

use std::fmt::Write as _;

use indicatif::BinaryBytes;
use serde_json::{Value, json};

use crate::context::{Context, Report};
use crate::overlay::Unseen;
use crate::overlay::classify::Kind;
use crate::overlay::name::{JsonPath, shown};
use crate::overlay::walk::Look;

/// Rows of words below a heading. The last column is as long as it likes.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(heading: [&str; N]) -> Self {
        Self {
            rows: vec![heading.map(str::to_owned)],
        }
    }

    pub(crate) fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The lines, if there are any rows.
    pub(crate) fn lines(&self) -> Vec<String> {
        if self.rows.len() < 2 {
            return Vec::new();
        }
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let line = |row: &[String; N]| {
            let mut line = String::from("  ");
            for (cell, width) in row.iter().zip(widths) {
                // Writing to a string does not fail.
                let _ = write!(line, "{cell:<width$}  ");
            }
            line.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// A size, or what else it is.
pub(crate) fn size(look: &Look) -> String {
    match (look.kind, look.size) {
        (None, _) => "-".to_owned(),
        (Some(Kind::File), Some(bytes)) => BinaryBytes(bytes).to_string(),
        (Some(Kind::File), None) => "file".to_owned(),
        (Some(Kind::Directory), _) => "directory".to_owned(),
        (Some(Kind::Link), _) => "link".to_owned(),
        (Some(Kind::Special), _) => "special".to_owned(),
    }
}

/// Whose it is: mode, owner, group.
pub(crate) fn owner(look: &Look) -> String {
    look.owner.map_or_else(
        || "-".to_owned(),
        |owner| format!("{:04o} {}:{}", owner.mode, owner.uid, owner.gid),
    )
}

/// A time, as UTC.
pub(crate) fn time(look: &Look) -> String {
    if look.kind.is_none() {
        return "-".to_owned();
    }
    jiff::Timestamp::from_second(look.modified).map_or_else(
        |_| "-".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M").to_string(),
    )
}

/// An entry as JSON.
pub(crate) fn entry(look: &Look) -> Value {
    match look.kind {
        None => Value::Null,
        Some(kind) => json!({
            "kind": kind,
            "size": look.size,
            "modified": look.modified,
            "uid": look.owner.map(|owner| owner.uid),
            "gid": look.owner.map(|owner| owner.gid),
            "mode": look.owner.map(|owner| format!("{:04o}", owner.mode)),
        }),
    }
}

/// A JSON object that begins with a path.
pub(crate) fn at(path: &[u8], fields: Value) -> Value {
    let mut object = serde_json::to_value(JsonPath(path.to_owned())).unwrap_or_default();
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    object
}

/// Warns of what could not be looked at.
pub(crate) fn warn_unseen(context: &Context, unseen: &Unseen) {
    for (path, why) in &unseen.some {
        let path = if path.is_empty() {
            &b"overlay"[..]
        } else {
            path
        };
        context.warn(format!("{}: {why}", shown(path)));
    }
    let more = unseen.count - unseen.some.len() as u64;
    if more > 0 {
        context.warn(format!(
            "{more} more paths of the overlay could not be looked at"
        ));
    }
}

/// Adds what could not be looked at, as warnings and to the result.
pub(crate) fn unseen(context: &Context, report: Report, unseen: &Unseen) -> Report {
    warn_unseen(context, unseen);
    let list = unseen.some.iter();
    let list: Vec<_> = list
        .map(|(path, why)| at(path, json!({"why": why})))
        .collect();
    report
        .field("unseen", list)
        .field("unseen_count", unseen.count)
}

/// `1 change`, `2 changes`.
pub(crate) fn count(count: u64, thing: &str) -> String {
    match count {
        0 => format!("no {thing}s"),
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}
